"""A pytest plugin that judges a timed test alone if it has failed beside other tests.

A test that is judged by durations needs the processors, and beside other tests it may not get them: by the
rules that `execbench` applies to its own runs, such a measurement is left out. So the few timed tests that
fail while pytest-xdist runs others are run again, once, in a new process, when nothing else runs. One that
fails again has failed. The summary says which tests were judged alone.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

MOST = 3  # a defect makes more tests fail, and then none is run again
CATEGORY = "judged alone"


def pytest_configure(config: pytest.Config) -> None:
    is_controller = config.getoption("numprocesses", None) and not hasattr(config, "workerinput")
    if is_controller:
        config.pluginmanager.register(Alone(config), "judge of timed tests")


class Alone:
    """Runs the failed tests again at the end, if all of them are timed and few."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._output = ""

    @pytest.hookimpl(tryfirst=True)  # before the summary is printed
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        terminal: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        failed = [*terminal.stats.get("failed", []), *terminal.stats.get("error", [])]
        names = sorted({report.nodeid for report in failed})
        is_timed = all("timed" in report.keywords for report in failed)
        if exitstatus != pytest.ExitCode.TESTS_FAILED or not is_timed or len(names) > MOST:
            return
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *names],
            cwd=self._config.rootpath,
            capture_output=True,
            text=True,
            check=False,
        )
        self._output = done.stdout
        if done.returncode == pytest.ExitCode.OK:
            terminal.stats.pop("failed", None)
            terminal.stats.pop("error", None)
            terminal.stats[CATEGORY] = failed
            session.exitstatus = pytest.ExitCode.OK

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self._output:
            return
        terminalreporter.section("timed tests that failed beside others, judged alone")
        for report in terminalreporter.stats.get(CATEGORY, []):
            terminalreporter.write_line(f"first failure of {report.nodeid}:\n{report.longreprtext}")
        terminalreporter.write_line(self._output)
