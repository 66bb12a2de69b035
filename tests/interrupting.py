"""Helpers for commands that are interrupted: a short load, and how the command ended."""

import subprocess

QUICK = ("--workload", "synthetic", "--service-ms", "2", "--io-ms", "1", "--concurrency", "2")


def ending(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait until the process has ended, and return its exit code and stderr."""
    _, stderr = process.communicate(timeout=30)
    assert "Traceback" not in stderr
    return process.returncode, stderr
