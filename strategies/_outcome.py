"""The outcome of a call. Every strategy runs its calls through `attempt`, in whatever worker they run.

A call may raise and return anything. Some of that cannot pass through a future, a task or a pipe: asyncio's
futures refuse StopIteration, SystemExit stops the event loop, CancelledError looks like a client that
disconnected, and an exception that cannot be unpickled breaks a whole pool. An `Outcome` can always be passed
on; it raises in the task that submitted the item.
"""

import pickle
import traceback
from contextlib import suppress
from typing import Any

from strategies import Call, Item, Lost, Result


class WorkerTraceback(Exception):
    """The ``__cause__`` of an exception from another process; its text is the traceback in that process."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Outcome:
    """The result of a call, or the exception it raised. Pickling and unpickling an Outcome never fail."""

    def __init__(self, result: Any = None, error: BaseException | None = None) -> None:
        self._result = result
        self._error = error

    def get(self) -> Any:
        """Return the result, or raise the exception that the call raised.

        Raises a RuntimeError that quotes it instead if a task must not raise it: StopIteration,
        StopAsyncIteration, and any BaseException that is not an `Exception`.
        """
        if self._error is None:
            return self._result
        if _can_be_raised(self._error):
            raise self._error
        raise RuntimeError(in_words(self._error)) from self._error

    def __reduce__(self) -> tuple[Any, ...]:
        if self._error is not None:
            trace = _trace(self._error)
            return _unpickle_error, (_pickle_error(self._error), in_words(self._error), trace)
        try:
            return _unpickle_result, (pickle.dumps(self._result, pickle.HIGHEST_PROTOCOL),)
        except BaseException as error:  # noqa: BLE001  a result's own methods may raise anything
            return _lost, (f"the result cannot be pickled: {in_words(error)}",)


def attempt(call: Call, items: list[Item]) -> Outcome:
    """Call, and return the outcome. Runs in the worker."""
    try:
        return Outcome(counted(call, items))
    except BaseException as error:  # noqa: BLE001  the submitter gets it
        return Outcome(error=error)


def counted(call: Call, items: list[Item]) -> list[Result]:
    """Return one result per item. Raises ValueError if the call returns another number."""
    count = len(items)  # taken before the call, which may change its list
    results = call(items)
    if len(results) != count:
        raise ValueError(f"the call returned {len(results)} results for {count} items")
    return results


def in_words(error: BaseException) -> str:
    """Return ``TypeName: message``, even if the exception's ``__str__`` raises."""
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except BaseException as another:  # noqa: BLE001  __str__ may raise anything
        return f"{name} (its message cannot be shown: {type(another).__name__})"


def _can_be_raised(error: BaseException) -> bool:
    """Return whether a task can raise it without appearing to have ended and without stopping the loop."""
    return isinstance(error, Exception) and not isinstance(error, StopIteration | StopAsyncIteration)


def _pickle_error(error: BaseException) -> bytes:
    """Return the pickled exception; empty if it cannot be pickled or a task must not raise it."""
    if _can_be_raised(error):
        with suppress(BaseException):
            return pickle.dumps(error, pickle.HIGHEST_PROTOCOL)
        # a package may have taught pickle to take these along (Dask does), and deep ones fail
        error.__traceback__ = error.__cause__ = error.__context__ = None
        with suppress(BaseException):
            return pickle.dumps(error, pickle.HIGHEST_PROTOCOL)
    return b""


def _trace(error: BaseException) -> str:
    """Return the traceback as text; empty if it cannot be formatted."""
    with suppress(BaseException):
        return "".join(traceback.format_exception(error))
    return ""


# -- where the outcome arrives -------------------------------------------------------------------------


def _unpickle_result(payload: bytes) -> Outcome:
    try:
        return Outcome(pickle.loads(payload))  # noqa: S301  our own worker wrote it
    except BaseException as error:  # noqa: BLE001  a result's own methods may raise anything
        return _lost(f"the result cannot be unpickled in the submitting process: {in_words(error)}")


def _unpickle_error(payload: bytes, words: str, trace: str) -> Outcome:
    error: Any = None
    with suppress(BaseException):  # many exceptions can be pickled but not unpickled
        error = pickle.loads(payload)  # noqa: S301  as above
    if not isinstance(error, Exception) or not _can_be_raised(error):
        error = RuntimeError(words)
    with suppress(BaseException):
        error.__cause__ = WorkerTraceback(trace)
    return Outcome(error=error)


def _lost(why: str) -> Outcome:
    return Outcome(error=Lost(why))
