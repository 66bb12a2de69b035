"""A timed test that fails beside others is judged alone, once; any other failure stays one."""

from __future__ import annotations

from pathlib import Path

import alone
import pytest

pytestmark = pytest.mark.integration
pytest_plugins = ["pytester"]

FIRST = "import pathlib, pytest\nflag = pathlib.Path('failed-once')\n"
ONCE = "    first = not flag.exists()\n    flag.touch()\n    assert not first\n"
ALWAYS = "    assert False\n"


def outcome(pytester: pytest.Pytester, mark: str, body: str, times: int = 1) -> pytest.RunResult:
    pytester.makeini(
        f"[pytest]\naddopts = -p groups -p alone -p no:cacheprovider\npythonpath = {Path(__file__).parent}\n"
    )
    tests = "".join(f"@pytest.mark.{mark}\ndef test_{number}():\n{body}" for number in range(times))
    pytester.makepyfile(FIRST + tests)
    return pytester.runpytest_subprocess("-n", "1")


def test_a_timed_test_that_passes_alone_has_passed_and_the_summary_says_so(pytester: pytest.Pytester) -> None:
    done = outcome(pytester, "timed", ONCE)
    assert done.ret == pytest.ExitCode.OK
    done.stdout.fnmatch_lines(["*judged alone*", "*first failure of*test_0*", "*1 judged alone*"])


def test_a_timed_test_that_fails_alone_too_has_failed(pytester: pytest.Pytester) -> None:
    done = outcome(pytester, "timed", ALWAYS)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.assert_outcomes(failed=1)


def test_a_test_that_is_not_timed_is_not_run_again(pytester: pytest.Pytester) -> None:
    assert outcome(pytester, "integration", ONCE).ret == pytest.ExitCode.TESTS_FAILED


def test_many_failures_are_a_defect_and_are_not_run_again(pytester: pytest.Pytester) -> None:
    done = outcome(pytester, "timed", ALWAYS, alone.MOST + 1)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    assert "judged alone" not in done.stdout.str()
