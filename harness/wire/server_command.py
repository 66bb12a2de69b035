"""The command of an arm: how a server that is not ours is started, asked and stopped."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from harness.errors import shortened
from harness.wire import addresses, sending
from harness.wire.panel import Panel
from harness.wire.setting import Frozen, Setting

_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")
FILLED_BY_RUN = {
    "port": "a free port, on which the server must listen",
    "python": "this Python",
    "bin": "the folder of this Python's programs",
    "data": "the folder of execbench's data files",
    "weights": "the folder of the default model",
    "peers": "the folder of the environments that `execbench peers` makes",
}  # placeholder in a command → what it is replaced by

MAX_WORDS = 1_000


def _as_words(value: Any) -> Any:
    """Split a command given as one text as a POSIX shell would. Raises ValueError for an open quote."""
    if not isinstance(value, str):
        return value
    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        raise ValueError(f"it is not a command: {str(error).lower()}") from None


def _checked_words(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words or not words[0]:
        raise ValueError("it names no program")
    if any("\0" in word for word in words):
        raise ValueError("it contains a NUL character")
    return words


def _checked_environment(environment: dict[str, str]) -> dict[str, str]:
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"{shortened(name)!r} cannot be set as an environment variable")
    return environment


def _checked_path(path: str) -> str:
    """Return the path. Raises ValueError if it cannot be sent; it may hold the place of a text."""
    addresses.checked_path(path.replace(addresses.PLACEHOLDER, "text"))
    return path


Words = Annotated[
    tuple[str, ...],
    BeforeValidator(_as_words),
    AfterValidator(_checked_words),
    Field(max_length=MAX_WORDS),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MAX_WORDS},
            ]
        }
    ),
]
Variables = Annotated[dict[str, str], AfterValidator(_checked_environment)]
Path = Annotated[str, AfterValidator(_checked_path)]
PlainPath = Annotated[str, AfterValidator(addresses.checked_path)]
Distribution = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
Signal = Literal["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP"]


class CommandSettings(Frozen):
    """How to start, ask and stop a server that is a command. All but `command` have a default."""

    command: Annotated[
        Words | None,
        Setting("Start the server with this command; {port} is replaced.", Panel.RUNNING, flag=None),
    ] = None
    cwd: Annotated[str | None, Setting("Start the command in this folder.", Panel.RUNNING, flag=None)] = None
    env: Annotated[
        Variables, Setting("Set these environment variables for the command.", Panel.RUNNING, flag=None)
    ] = Field(default_factory=dict)
    ready: Annotated[
        PlainPath | None,
        Setting("Wait until a GET of this path of the command gets a 2xx.", Panel.RUNNING, flag=None),
    ] = None  # None: until it accepts a connection and answers the first request
    ping: Annotated[
        PlainPath | None,
        Setting("During the load, ping this route of the command.", Panel.RUNNING, flag=None),
    ] = None
    method: Annotated[
        Annotated[str, AfterValidator(sending.checked_method)] | None,
        Setting("Ask the command with this HTTP method.", Panel.RUNNING, flag=None),
    ] = None
    path: Annotated[
        Path | None,
        Setting(
            "Send requests to this path of a command.",
            Panel.RUNNING,
            metavar="PATH",
            shown_default="/predict",
        ),
    ] = None
    body: Annotated[
        str | None,
        Setting("Send the command this body; {text} in it is replaced by a text.", Panel.RUNNING, flag=None),
    ] = None
    packages: Annotated[
        tuple[Distribution, ...],
        Setting("Record the versions of these packages beside the program.", Panel.RUNNING, flag=None),
    ] = ()
    stop: Annotated[
        Signal, Setting("Stop a command with this signal; after 5 s it is killed.", Panel.RUNNING, flag=None)
    ] = "SIGTERM"


ONLY_OF_COMMANDS = frozenset(CommandSettings.model_fields)


def placeholders(words: Iterable[str]) -> set[str]:
    """Return the names in braces, such as port in `--port {port}`."""
    return {name for word in words for name in _PLACEHOLDER.findall(word)}


def filled(text: str, values: Mapping[str, object]) -> str:
    """Replace the placeholders whose values are given; leave others as they are."""
    return _PLACEHOLDER.sub(lambda found: str(values.get(found[1], found[0])), text)


def with_values(arm: Mapping[str, Any], values: Mapping[str, object]) -> dict[str, Any]:
    """Return an arm, as plain data, with these values in its command, folder and environment."""
    changed = dict(arm)
    words = _as_words(arm["command"])
    changed["command"] = [filled(word, values) for word in words]
    if arm.get("cwd"):
        changed["cwd"] = filled(arm["cwd"], values)
    if arm.get("env"):
        changed["env"] = {name: filled(value, values) for name, value in arm["env"].items()}
    return changed


def templates(arm: Mapping[str, Any]) -> list[str]:
    """Return the texts of an arm, as plain data, that may hold placeholders."""
    texts = [*_as_words(arm.get("command") or ()), arm.get("cwd") or "", *(arm.get("env") or {}).values()]
    return [str(text) for text in texts]
