"""Find the user's workload by its name, import it, and check it before anything starts.

A name is `package.module:attribute`, `path/to/file.py` or `file.py:attribute`. Other processes get the name
and import the code themselves, under the same module name, so that instances of its classes can be pickled
between processes.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from harness.errors import UsageError, did_you_mean, one_line, shortened
from harness.system import children, text_files

STAGE = "workload"
MOST_BYTES_OF_SOURCE = 16 * 2**20

_INIT = "`execbench init` writes a file with all functions."
WITH_TRACEBACK = "`execbench --debug …` shows the traceback."
_NOT_USERS = ("<frozen", sysconfig.get_paths()["stdlib"], str(Path(__file__).parents[1]))


class Code(NamedTuple):
    """The user's functions; None for an optional one that is missing."""

    label: str  # its name in messages and records
    source: Path | None
    version: str | None  # its `__version__`
    load: Callable[[], Any]
    predict: Callable[[Any, list[str]], Any]
    io: Callable[[Any], Awaitable[Any]] | None
    payloads: Callable[[int], Iterable[str]] | None


class _Name(NamedTuple):
    path: Path | None  # of a file
    module: str
    attribute: str  # empty: the functions are in the module itself

    @property
    def label(self) -> str:
        target = self.module if self.path is None else self.path.name
        return f"{target}:{self.attribute}" if self.attribute else target


class _Signature(NamedTuple):
    should_be: str
    arguments: int
    is_needed: bool = False
    is_async: bool = False


_SIGNATURES = {
    "load": _Signature("def load() -> the model", 0, is_needed=True),
    "predict": _Signature("def predict(model, items) -> a list, one result for each item", 2, is_needed=True),
    "io": _Signature("async def io(result) -> the answer's body", 1, is_async=True),
    "payloads": _Signature("def payloads(seed) -> an iterator of texts", 1),
}


@functools.cache  # does not cache exceptions
def find(name: str) -> Code:
    """The code of that name, imported and checked. Raises UsageError, with a hint, if anything is wrong."""
    parts = _parse(name)
    module = _import(parts)
    holder = _holder(module, parts)
    functions: dict[str, Any] = {one: _function(holder, one, parts.label) for one in _SIGNATURES}
    source = getattr(module, "__file__", None)
    version = getattr(holder, "__version__", getattr(module, "__version__", None))
    return Code(
        label=parts.label,
        source=None if source is None else Path(source),
        version=None if version is None else str(version),
        **functions,
    )


def texts(code: Code, seed: int) -> Iterator[str]:
    """Endless texts from the code's `payloads`, which is called again whenever it ends.

    Raises UsageError if `payloads` raises, yields something other than texts, or yields nothing.
    """
    try:
        yield from _repeated_texts(code, seed)
    except (UsageError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise _refused(f"payloads in {code.label} raised {describe(error)}", WITH_TRACEBACK) from error


def describe(error: BaseException) -> str:
    """An exception of the user's code in one line, with the line of their code that it came from."""
    what = shortened(one_line(error).rstrip(": ."))
    where = _where(error)
    return f"{what} ({where})" if where else what


def _refused(what: str, hint: str) -> UsageError:
    return UsageError(f"{what}.", stage=STAGE, hint=hint)


# -- finding and importing -----------------------------------------------------------------------------


def _parse(name: str) -> _Name:
    """The parts of a name. Raises UsageError if it can name neither a file nor a module."""
    target, colon, attribute = name.rpartition(":")
    if not colon or target == "" or "/" in attribute:
        target, attribute = name, ""
    if target.endswith(".py"):
        return _of_file(Path(target).absolute(), attribute)
    if "/" in target or not all(part.isidentifier() for part in target.split(".")):
        raise _refused(
            f"{shortened(name)!r} is neither a Python file nor a module",
            "Name your workload as path/to/file.py, file.py:attribute or package.module:attribute.",
        )
    return _Name(None, target, attribute)


def _of_file(path: Path, attribute: str) -> _Name:
    if not os.path.lexists(path):
        raise _refused(
            f"There is no file {shortened(str(path))}",
            f"`execbench init {shortened(path.name)}` writes a template.",
        )
    text_files.read_bytes(path, STAGE, MOST_BYTES_OF_SOURCE)
    if "." in path.stem:
        raise _refused(
            f"The file {path.name} cannot be imported: its name contains a dot",
            f"Rename it to {path.stem.replace('.', '_')}.py.",
        )
    return _Name(path, path.stem, attribute)


def _import(name: _Name) -> ModuleType:
    # the file's folder, or else the current one, comes last, so that a queue.py there does not hide Python's
    children.let_import_from(Path.cwd() if name.path is None else name.path.parent, Path.cwd())
    if name.path is None:
        _refuse_another_module(name)
    else:
        _refuse_another_of_that_name(name.path)
    try:
        # stdout may be a pipe or one JSON document; undo whatever streams the code puts in its place
        with redirect_stdout(sys.stderr), redirect_stderr(sys.stderr), _kept_streams():
            return importlib.import_module(name.module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the user's code may raise anything
        if isinstance(error, ModuleNotFoundError) and f"{name.module}.".startswith(f"{error.name}."):
            raise _refused(
                f"There is no module {error.name!r}",
                f"Put it in {Path.cwd()}, or install it.",
            ) from error
        raise _refused(f"{name.label} cannot be imported: {describe(error)}", WITH_TRACEBACK) from error


@contextmanager
def _kept_streams() -> Iterator[None]:
    """Keep the streams that the code sets alive.

    After `sys.stdout = TextIOWrapper(sys.stdout.buffer)`, collecting the wrapper would close our buffer.
    """
    try:
        yield
    finally:
        _streams.append((sys.stdout, sys.stderr))


_streams: list[object] = []  # never collected


def _refuse_another_module(name: _Name) -> None:
    """Refuse a module in the current folder if Python finds another one of that name first."""
    top = name.module.partition(".")[0]
    here = next((path for path in (Path(top, "__init__.py"), Path(f"{top}.py")) if path.is_file()), None)
    found = _origin(top)
    if here is not None and found is not None and here.resolve() != Path(found).resolve():
        raise _refused(
            f"Python would import {found} instead of {here} in the current folder",
            "Rename your module, or add its folder to PYTHONPATH.",
        )


def _refuse_another_of_that_name(path: Path) -> None:
    """Refuse a file if Python finds another module of its name first: it is imported by that name."""
    found = _origin(path.stem)
    if found is None or Path(found).resolve() != path.resolve():
        other = "another module" if found is None else found
        raise _refused(
            f"The file {path.name} has the name of a module that Python finds first: importing "
            f"{path.stem!r} gives {other}",
            "Rename your file, for example to my_workload.py.",
        )


def _origin(module: str) -> str | None:
    """The file that Python finds first for a module; None if there is no module or no file."""
    try:
        spec = importlib.util.find_spec(module)
    except ValueError:  # __main__
        return None
    return None if spec is None else spec.origin


# -- the functions -------------------------------------------------------------------------------------


def _holder(module: ModuleType, name: _Name) -> Any:
    """The object with the functions: the module, or its attribute, or an instance if that is a class."""
    holder: Any = module
    for part in name.attribute.split(".") if name.attribute else ():
        found = _attribute(holder, part, name.label)
        if found is None:
            target = name.module if name.path is None else name.path.name
            public = (known for known in dir(holder) if not known.startswith("_"))
            hint = did_you_mean(part, public, f"Leave it out if the functions are in {target} itself.")
            raise _refused(f"{target} has no attribute {part!r}", hint)
        holder = found
    return _instance(holder, name.label) if inspect.isclass(holder) else holder


def _attribute(holder: Any, name: str, label: str) -> Any:
    """The attribute, or None. Raises UsageError if reading it raises anything but AttributeError."""
    try:
        return getattr(holder, name, None)
    except Exception as error:
        raise _refused(
            f"{name} of {label} cannot be read: it raised {describe(error)}", WITH_TRACEBACK
        ) from error


def _instance(kind: Callable[[], Any], label: str) -> Any:
    try:
        with redirect_stdout(sys.stderr):
            return kind()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _refused(
            f"The class {label} cannot be instantiated: {describe(error)}",
            "Every process calls the class without arguments; put slow code into load().",
        ) from error


def _function(holder: Any, name: str, label: str) -> Any:
    """The function of that name, with its signature checked; None for an optional one that is missing."""
    signature = _SIGNATURES[name]
    function = _attribute(holder, name, label)
    if isinstance(function, ModuleType):  # `import io`
        function = None
    if function is None and not signature.is_needed:
        return None
    if not callable(function):
        raise _refused(f"{label} has no function {name}", f"It should be: {signature.should_be}. {_INIT}")
    wrong = _wrong_with(function, signature)
    if wrong:
        raise _refused(f"{name} in {label} {wrong}", f"It should be: {signature.should_be}.")
    return function


def _wrong_with(function: Callable[..., Any], signature: _Signature) -> str:
    try:
        inspect.signature(function).bind(*range(signature.arguments))
    except ValueError:  # some functions written in C have no signature
        pass
    except TypeError:
        name = getattr(function, "__name__", "a function")
        count = ("no argument", "one argument", "two arguments")[signature.arguments]
        return f"is {name}{inspect.signature(function)}, but is called with {count}"
    if inspect.iscoroutinefunction(function) == signature.is_async:
        return ""
    return "is not async: it would block the event loop" if signature.is_async else "is async"


# -- texts and error messages --------------------------------------------------------------------------


def _repeated_texts(code: Code, seed: int) -> Iterator[str]:
    assert code.payloads is not None, "the caller checks this"
    while True:
        returned = code.payloads(seed)
        if isinstance(returned, str) or not isinstance(returned, Iterable):
            raise _no_texts(code, f"returned {short_repr(returned)}")
        is_empty = True
        for text in returned:
            if not isinstance(text, str):
                raise _no_texts(code, f"yielded {short_repr(text)}, which is not a text")
            if not text_files.is_utf8(text):
                raise _no_texts(code, f"yielded {short_repr(text)}, which cannot be encoded in UTF-8")
            is_empty = False
            yield text
        if is_empty:
            raise _no_texts(code, f"yielded no text for the seed {seed}")


def _no_texts(code: Code, what: str) -> UsageError:
    return _refused(
        f"payloads in {code.label} {what}",
        "It should be: def payloads(seed) -> an iterator of texts (str).",
    )


def short_repr(value: Any) -> str:
    """The beginning of the value's repr, which may raise."""
    try:
        return f"{value!r:.40}"
    except Exception as error:  # noqa: BLE001  the user's classes may raise anything
        return f"(its repr raises {type(error).__name__})"


def _where(error: BaseException) -> str:
    """The last line of the user's code in the traceback, as `my_workload.py, line 12`; empty if none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_short(error.filename)}, line {error.lineno}"
    users_frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename and not frame.filename.startswith(_NOT_USERS)
    ]
    return f"{_short(users_frames[-1].filename)}, line {users_frames[-1].lineno}" if users_frames else ""


def _short(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
