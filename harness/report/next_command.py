"""The command at the end of a report: run it again, a part of it, or with more blocks or users.

Takes the dict of `run.json` and returns a line for a POSIX shell; "" for a run without a plan, and where a
word cannot be pasted.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.results import store
from harness.system.printable import one_line
from harness.wire import sending
from harness.wire.options import LoadOptions

Record = Mapping[str, Any]

_USUAL = {name: field.default for name, field in LoadOptions.model_fields.items()}


def run(
    record: Record,
    folder: Path,
    *,
    arms: Iterable[str] = (),
    users: int = 0,
    blocks: int = 0,
    command: str = "run",
) -> str:
    """`execbench run` (or `capacity`) as in `folder`, with these arms alone, so many users, so many blocks.

    Without those, as the plan has it. An arm that the plan has not is a strategy to add.
    """
    plan, name = record.get("plan") or {}, folder.resolve().name
    if not plan.get("arms") or not name:
        return ""
    wanted = list(dict.fromkeys(arms))
    if set(wanted) == {arm["name"] for arm in plan["arms"]}:
        wanted = []
    chosen = [word for arm in wanted for word in ("--strategy", arm)]
    headers = (plan.get("ask") or {}).get("headers") or ()
    secret = [word for header in headers if header[1] == sending.REDACTED for word in _header(header)]
    loads = ["-c", users] if users else []
    more = ["--blocks", blocks] if blocks else []
    return shell_line(["execbench", command, store.RESULTS / name, *chosen, *secret, *loads, *more])


def load(record: Record, *, users: int) -> str:
    """`execbench load` as the run was, with so many users."""
    asked = record.get("load") or {}
    url = str(asked.get("url") or "")
    if not url or url.startswith("-"):  # it would be an option
        return ""
    return shell_line(["execbench", "load", url, "-c", users, *_asking(asked)])


def strategy(arm: Record) -> str:
    """What `--strategy` would say of the arm: batch:over=process,workers=2; "" for an arm that has none."""
    if arm.get("url"):
        return ""
    name = str(arm.get("strategy") or "")
    said = {**(arm.get("options") or {})}
    if arm.get("workers") is not None:  # runs of older versions have it outside the options
        said = {"workers": arm["workers"], **said}
    if said.keys() == {"factory"}:
        return f"{name}:{said['factory']}"
    return name + (":" + ",".join(f"{key}={value}" for key, value in said.items()) if said else "")


def shell_line(words: Iterable[object]) -> str:
    """A command for a POSIX shell; "" where a word has a line end or a hidden character."""
    said = [str(word) for word in words]
    return "" if any(one_line(word) != word for word in said) else shlex.join(said)


def _asking(asked: Record) -> Iterator[object]:
    """What `execbench load` was told beside address and users, where it is not the default."""
    texts, body, method = asked.get("texts") or {}, asked.get("body"), asked.get("method")
    if method not in (None, "GET") or (method and (texts or body is not None)):
        yield from ("--method", method)
    for header in asked.get("headers") or ():
        yield from _header(header)
    told = {**_USUAL, **asked}
    for flag, said, usual in (
        ("--body", body, None),
        ("--expect-status", told["expected_status"], _USUAL["expected_status"]),
        ("--payloads", (texts.get("workload") or {}).get("payloads"), None),
        ("--seed", texts.get("seed", 1), 1),
        ("--transport", told["transport"], _USUAL["transport"]),
        ("--timeout", told["timeout_s"], _USUAL["timeout_s"]),
    ):
        if said not in (None, usual):
            yield from (flag, f"{said:.15g}" if isinstance(said, float) else said)


def _header(header: sending.Header) -> tuple[str, str]:
    """What was kept secret is read from the environment."""
    return "--header", ": ".join(sending.for_command((header[0], header[1])))
