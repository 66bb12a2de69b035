"""How users write the names of files, workloads, databases and kinds of I/O, and their values."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator

from harness.errors import shortened

TIMED_IO = ("sleep", "socket")  # the kinds of I/O whose duration can be set


def _absolute(path: str) -> str:
    """Make the path absolute: every process finds the file, in whatever folder it runs."""
    try:
        found = str(Path(path).expanduser().absolute())
        os.fsencode(found)
    except RuntimeError as error:  # ~unknown
        raise ValueError(f"{shortened(path)!r} begins with ~ and the name of no user here") from error
    except UnicodeEncodeError as error:
        raise ValueError(f"{shortened(path)!r} cannot be the path of a file") from error
    if "\0" in found:
        raise ValueError(f"{shortened(path)!r} cannot be the path of a file: it holds a NUL")
    return found


_FILE_OF_WORKLOAD = re.compile(r"(?P<path>.+\.py)(?P<attribute>:[\w.]*)?")


def is_own(name: str) -> bool:
    """Say whether this names a user's own workload rather than a built-in one."""
    return any(sign in name for sign in ":/.")


def _located(name: str) -> str:
    """Return the name of a workload, with an absolute path if it is a file."""
    file = _FILE_OF_WORKLOAD.fullmatch(name)
    return name if file is None else _absolute(file["path"]) + (file["attribute"] or "")


File = Annotated[str, AfterValidator(_absolute)]
WorkloadName = Annotated[str, AfterValidator(_located)]


def _interpreter(text: str) -> str:
    """Return the absolute path of a Python: of a file, of a virtual environment's folder, or of a command.

    Symbolic links stay: the interpreter of a virtual environment is one, and its place tells Python which
    packages it has.
    """
    found = Path(_absolute(text))
    if os.sep not in text and not found.exists() and (command := shutil.which(text)):
        return str(Path(command).absolute())
    inside = found / "bin" / "python"
    return str(inside if found.is_dir() and inside.exists() else found)


Interpreter = Annotated[str, AfterValidator(_interpreter)]


_PASSWORD = re.compile(r"password\s*=", re.IGNORECASE)  # also sslpassword, PGPASSWORD
_DATABASE = re.compile(r"postgres(ql)?://[^/?#]*(/[^@#]*|\?[^@#]*)?")


def _without_password(dsn: str) -> str:
    """Return the address; raise ValueError, without quoting it, if it may hold a password.

    Its parameters may be percent-encoded. In an address of any other form a password may be anywhere: one
    with a / in it ends the host's part, for example.
    """
    plain = dsn
    while (once := unquote(plain)) != plain:
        plain = once
    passwords = (urlsplit(dsn).password, urlsplit(plain).password)
    if passwords != (None, None) or _PASSWORD.search(plain):
        raise ValueError("it holds a password, which would be kept with the results; set PGPASSWORD instead")
    if not _DATABASE.fullmatch(dsn):
        raise ValueError(
            "it is not of the form postgresql://user@host:5432/database; percent-encode @, / and # in names"
        )
    return dsn


Dsn = Annotated[str, AfterValidator(_without_password)]


_IO_TOOK = re.compile(r"(\d+(?:\.\d+)?)(ms)?", re.ASCII)
_IO_EXAMPLES = "sleep:5ms, socket:5ms, pgvector, http://127.0.0.1:9000/search"


def parse_io(text: str) -> dict[str, Any]:
    """Turn one word, such as sleep:5ms, into the options `io` and, if it has a duration, `io_ms`."""
    name, colon, rest = text.partition(":")
    if name in ("http", "https"):
        return {"io": rest if rest.startswith(("http:", "https:")) else text}
    if not colon:
        return {"io": text}
    took = _IO_TOOK.fullmatch(rest)
    if name not in TIMED_IO or took is None:
        raise ValueError(f"{shortened(text)!r} is not understood; there are {_IO_EXAMPLES}")
    return {"io": name, "io_ms": float(took[1])}


def with_io_split(options: dict[str, Any]) -> dict[str, Any]:
    """Split `io` of a workload's options as `parse_io` does. Raises ValueError if it has two durations."""
    io = options.get("io")
    if not isinstance(io, str):
        return options
    parsed = parse_io(io)
    if "io_ms" in parsed and "io_ms" in options:
        raise ValueError(f"io {io!r} and io_ms both set how long the I/O takes: give one of them")
    return options | parsed


def _checked_io(text: str) -> str:
    parse_io(text)
    return text


Io = Annotated[str, AfterValidator(_checked_io)]


def io_kind(io: str) -> str:
    """Return the kind of I/O that `io` names: an address is http."""
    return "http" if io.startswith(("http:", "https:")) else io
