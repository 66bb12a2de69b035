"""The user's code of a workload: found by its name, imported, and checked before anything starts.

`package.module:attribute`, `path/to/file.py` or `file.py:attribute`. The name is what travels to other
processes; each imports the code for itself, under the same module name, so that results of its classes can be
pickled there and back.
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
MOST_BYTES = 16 * 2**20  # of a file of Python

_INIT = "`execbench init` writes a file that has all of them."
WITH_TRACEBACK = "`execbench --debug …` shows the traceback."
_NOT_THEIRS = ("<frozen", sysconfig.get_paths()["stdlib"], str(Path(__file__).parents[1]))


class Code(NamedTuple):
    """What was found; None for a function that is left out."""

    label: str  # what messages and records call it
    source: Path | None
    version: str | None  # what it says of itself
    load: Callable[[], Any]
    predict: Callable[[Any, list[str]], Any]
    io: Callable[[Any], Awaitable[Any]] | None
    payloads: Callable[[int], Iterable[str]] | None


class _Name(NamedTuple):
    path: Path | None  # of a file
    module: str
    attribute: str  # empty: the functions stand in the module itself

    @property
    def label(self) -> str:
        target = self.module if self.path is None else self.path.name
        return f"{target}:{self.attribute}" if self.attribute else target


class _Shape(NamedTuple):
    should_be: str
    arguments: int
    is_needed: bool = False
    is_async: bool = False


_SHAPES = {
    "load": _Shape("def load() -> the model", 0, is_needed=True),
    "predict": _Shape("def predict(model, items) -> a list, one result for each item", 2, is_needed=True),
    "io": _Shape("async def io(result) -> the answer's body", 1, is_async=True),
    "payloads": _Shape("def payloads(seed) -> an iterator of texts", 1),
}


@functools.cache  # an exception is not kept
def find(name: str) -> Code:
    """The code of that name, imported and checked. UsageError, with the way out, for whatever is wrong."""
    parts = _parse(name)
    module = _import(parts)
    holder = _holder(module, parts)
    found: dict[str, Any] = {function: _function(holder, function, parts.label) for function in _SHAPES}
    source = getattr(module, "__file__", None)
    version = getattr(holder, "__version__", getattr(module, "__version__", None))
    return Code(
        label=parts.label,
        source=None if source is None else Path(source),
        version=None if version is None else str(version),
        **found,
    )


def texts(code: Code, seed: int) -> Iterator[str]:
    """Endless texts from the code's `payloads`, which is begun again where it ends.

    UsageError for what it raises, for what is no text, and when it gives none.
    """
    try:
        yield from _again_and_again(code, seed)
    except (UsageError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise _refused(f"payloads in {code.label} raised {told(error)}", WITH_TRACEBACK) from error


def told(error: BaseException) -> str:
    """An exception of the user's code in a line, and where in their code it came from."""
    what = shortened(one_line(error).rstrip(": ."))
    where = _where(error)
    return f"{what} ({where})" if where else what


def _refused(what: str, hint: str) -> UsageError:
    return UsageError(f"{what}.", stage=STAGE, hint=hint)


# -- finding and importing -----------------------------------------------------------------------------


def _parse(name: str) -> _Name:
    """UsageError for what can name neither a file nor a module."""
    target, colon, attribute = name.rpartition(":")
    if not colon or target == "" or "/" in attribute:
        target, attribute = name, ""
    if target.endswith(".py"):
        return _of_file(Path(target).absolute(), attribute)
    if "/" in target or not all(part.isidentifier() for part in target.split(".")):
        raise _refused(
            f"{shortened(name)!r} names no workload of your own: it is neither a Python file nor a module",
            "Say path/to/file.py, file.py:attribute or package.module:attribute.",
        )
    return _Name(None, target, attribute)


def _of_file(path: Path, attribute: str) -> _Name:
    if not os.path.lexists(path):
        raise _refused(
            f"There is no file {shortened(str(path))}",
            f"`execbench init {shortened(path.name)}` writes one to begin with.",
        )
    text_files.read_bytes(path, STAGE, MOST_BYTES)
    if "." in path.stem:
        raise _refused(
            f"The file {path.name} cannot be imported: its name has a dot in it",
            f"Call it {path.stem.replace('.', '_')}.py.",
        )
    return _Name(path, path.stem, attribute)


def _import(name: _Name) -> ModuleType:
    # the folder of a file, or else the current one, comes last: a queue.py there hides none of Python's
    children.let_import_from(Path.cwd() if name.path is None else name.path.parent, Path.cwd())
    if name.path is None:
        _refuse_another_module(name)
    else:
        _refuse_another_of_that_name(name.path)
    try:
        # stdout may be a pipe, or one JSON document; what the code puts in the place of either is taken back
        with redirect_stdout(sys.stderr), redirect_stderr(sys.stderr), _kept_streams():
            return importlib.import_module(name.module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # of whatever kind their code raises
        if isinstance(error, ModuleNotFoundError) and f"{name.module}.".startswith(f"{error.name}."):
            raise _refused(
                f"There is no module {error.name!r}",
                f"It is looked for in {Path.cwd()} and where Python has its packages.",
            ) from error
        raise _refused(f"{name.label} cannot be imported: {told(error)}", WITH_TRACEBACK) from error


@contextmanager
def _kept_streams() -> Iterator[None]:
    """A `sys.stdout = TextIOWrapper(sys.stdout.buffer)` closes the buffer, which is ours, when collected."""
    try:
        yield
    finally:
        _streams.append((sys.stdout, sys.stderr))


_streams: list[object] = []  # never collected


def _refuse_another_module(name: _Name) -> None:
    """Of a module in the current folder whose name Python finds elsewhere first."""
    top = name.module.partition(".")[0]
    here = next((path for path in (Path(top, "__init__.py"), Path(f"{top}.py")) if path.is_file()), None)
    found = _origin(top)
    if here is not None and found is not None and here.resolve() != Path(found).resolve():
        raise _refused(
            f"There is {here} in the current folder, but Python finds {found} first",
            "Give it a name of its own, or put its folder into PYTHONPATH.",
        )


def _refuse_another_of_that_name(path: Path) -> None:
    """A file is imported by its name, which Python may know as something else."""
    found = _origin(path.stem)
    if found is None or Path(found).resolve() != path.resolve():
        other = "" if found is None else f", which is {found}"
        raise _refused(
            f"The file {path.name} is called like the module {path.stem!r} that Python finds first{other}",
            "Give it a name of its own, such as my_workload.py.",
        )


def _origin(module: str) -> str | None:
    """Where Python finds that module first; None when it finds none, or one without a file."""
    try:
        spec = importlib.util.find_spec(module)
    except ValueError:  # __main__
        return None
    return None if spec is None else spec.origin


# -- what stands in it ---------------------------------------------------------------------------------


def _holder(module: ModuleType, name: _Name) -> Any:
    """What has the functions: the module, or what the attribute names; of a class, an object."""
    holder: Any = module
    for part in name.attribute.split(".") if name.attribute else ():
        found = _attribute(holder, part, name.label)
        if found is None:
            target = name.module if name.path is None else name.path.name
            public = (known for known in dir(holder) if not known.startswith("_"))
            hint = did_you_mean(part, public, f"Without it, {target} itself has the functions.")
            raise _refused(f"{target} has no attribute {part!r}", hint)
        holder = found
    return _made(holder, name.label) if inspect.isclass(holder) else holder


def _attribute(holder: Any, name: str, label: str) -> Any:
    """None where there is none; UsageError where asking for it raises something else."""
    try:
        return getattr(holder, name, None)
    except Exception as error:
        raise _refused(
            f"{name} of {label} cannot be read: it raised {told(error)}", WITH_TRACEBACK
        ) from error


def _made(kind: Callable[[], Any], label: str) -> Any:
    try:
        with redirect_stdout(sys.stderr):
            return kind()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _refused(
            f"The class {label} cannot be made: {told(error)}",
            "It is made without arguments, in every process; what takes long belongs into load().",
        ) from error


def _function(holder: Any, name: str, label: str) -> Any:
    """The function of that name, which can be called as it will be; None for one that is left out."""
    shape = _SHAPES[name]
    function = _attribute(holder, name, label)
    if isinstance(function, ModuleType):  # `import io`
        function = None
    if function is None and not shape.is_needed:
        return None
    if not callable(function):
        raise _refused(f"{label} has no function {name}", f"It should be: {shape.should_be}. {_INIT}")
    wrong = _wrong_with(function, shape)
    if wrong:
        raise _refused(f"{name} in {label} {wrong}", f"It should be: {shape.should_be}.")
    return function


def _wrong_with(function: Callable[..., Any], shape: _Shape) -> str:
    try:
        inspect.signature(function).bind(*range(shape.arguments))
    except ValueError:  # some of C have no signature
        pass
    except TypeError:
        name = getattr(function, "__name__", "a function")
        count = ("no argument", "one argument", "two arguments")[shape.arguments]
        return f"is {name}{inspect.signature(function)}, and is called with {count}"
    if inspect.iscoroutinefunction(function) == shape.is_async:
        return ""
    return "is not async: the event loop would stand still" if shape.is_async else "is async"


# -- texts, and whose fault it was ---------------------------------------------------------------------


def _again_and_again(code: Code, seed: int) -> Iterator[str]:
    assert code.payloads is not None, "asked only where there is one"
    while True:
        given = code.payloads(seed)
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise _no_texts(code, f"gives {shown(given)}")
        is_empty = True
        for text in given:
            if not isinstance(text, str):
                raise _no_texts(code, f"gives {shown(text)} as a text")
            if not text_files.is_utf8(text):
                raise _no_texts(code, f"gives {shown(text)} as a text, which UTF-8 cannot say")
            is_empty = False
            yield text
        if is_empty:
            raise _no_texts(code, f"gives no text for the seed {seed}")


def _no_texts(code: Code, what: str) -> UsageError:
    return _refused(
        f"payloads in {code.label} {what}",
        "It should be: def payloads(seed) -> an iterator of texts (str).",
    )


def shown(value: Any) -> str:
    """The beginning of its repr, which may raise."""
    try:
        return f"{value!r:.40}"
    except Exception as error:  # noqa: BLE001  a class of the user's may raise anything
        return f"(its repr raises {type(error).__name__})"


def _where(error: BaseException) -> str:
    """`my_workload.py, line 12`: the last of their own lines on the way to the exception; empty if none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_short(error.filename)}, line {error.lineno}"
    theirs = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename and not frame.filename.startswith(_NOT_THEIRS)
    ]
    return f"{_short(theirs[-1].filename)}, line {theirs[-1].lineno}" if theirs else ""


def _short(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
