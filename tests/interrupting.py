"""Commands that are stopped in mid-run: short loads, and how they end."""

import subprocess

QUICK = ("--workload", "synthetic", "--service-ms", "2", "--io-ms", "1", "--concurrency", "2")


def ending(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit code and all it said on stderr, once it has ended."""
    _, said = process.communicate(timeout=30)
    assert "Traceback" not in said
    return process.returncode, said
