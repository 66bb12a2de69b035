"""How Ctrl-C, SIGTERM and SIGHUP end a command."""

import signal
from collections.abc import Iterator

import pytest

from harness.system import signals

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _handlers_stay() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_each_signal_interrupts_a_command_and_has_its_own_exit_code(
    number: signal.Signals, code: int
) -> None:
    signals.exit_on_signal()
    signals.raise_on_signal()
    with pytest.raises(KeyboardInterrupt) as interrupt:
        signal.raise_signal(number)
    assert signals.exit_code(interrupt.value) == code


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # like nohup
    signals.exit_on_signal()
    signals.raise_on_signal()
    signal.raise_signal(signal.SIGHUP)


def test_handlers_of_a_program_that_imports_us_stay_unchanged() -> None:
    def theirs(number: int, frame: object) -> None: ...

    signal.signal(signal.SIGTERM, theirs)
    signals.raise_on_signal()
    assert signal.getsignal(signal.SIGTERM) is theirs


def test_a_deferred_signal_takes_effect_after_the_block() -> None:
    done = []

    def save() -> None:
        with signals.deferred():
            signal.raise_signal(signal.SIGINT)
            done.append("saved")

    with pytest.raises(KeyboardInterrupt):
        save()
    assert done == ["saved"]
