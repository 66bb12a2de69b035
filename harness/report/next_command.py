"""The command at the end of a report: the run again, or part of it, or with more blocks or users.

Takes the dict of `run.json` and returns a line for a POSIX shell; "" for a run without a plan, or if a word
cannot be pasted into a shell.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.results import store
from harness.system.printable import one_line
from harness.wire import sending
from harness.wire.load_options import LoadOptions
from harness.wire.options import OF_UVICORN, ServerOptions, WorkloadOptions
from harness.wire.setting import settings_of
from harness.wire.spelling import is_own

Record = Mapping[str, Any]

_DEFAULTS = {name: field.default for name, field in LoadOptions.model_fields.items()}
_DEFAULT_WORKLOAD = WorkloadOptions().name
_OF_ARMS = {  # the options of a workload that --strategy NAME:key=value takes, without passwords
    name
    for name, one in settings_of(WorkloadOptions.model_fields).items()
    if name not in ("name", "payloads") and not one.hidden and not one.is_secret
}


def run(
    record: Record,
    folder: Path,
    *,
    arms: Iterable[str] = (),
    users: int = 0,
    blocks: int = 0,
    command: str = "run",
) -> str:
    """`execbench run` (or `capacity`) with the plan of `folder`, changed by these arms, users and blocks.

    What is not given stays as in the plan. An arm that the plan does not have is added as a strategy.
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
    """`execbench load` with the run's options and this number of users."""
    asked = record.get("load") or {}
    url = str(asked.get("url") or "")
    if not url or url.startswith("-"):  # execbench would read it as an option
        return ""
    return shell_line(["execbench", "load", url, "-c", users, *_asking(asked)])


def strategy(arm: Record) -> str:
    """The arm as a value of `--strategy`, such as batch:over=process,workers=2.

    "" for a server that is not ours.
    """
    if arm.get("url") or arm.get("command"):
        return ""
    name = str(arm.get("strategy") or "")
    options = {**(arm.get("options") or {}), **(arm.get("workload") or {})}
    if arm.get("workers") is not None:  # runs of older versions have it outside the options
        options = {"workers": arm["workers"], **options}
    for key in OF_UVICORN:  # runs of older versions lack some
        if arm.get(key) not in (None, ServerOptions.model_fields[key].default):
            options[key] = arm[key]
    if arm.get("python"):
        options["python"] = arm["python"]
    if options.keys() == {"factory"}:
        return f"{name}:{options['factory']}"
    return name + (":" + ",".join(f"{key}={value}" for key, value in options.items()) if options else "")


def serve(record: Record, arm: Record) -> str:
    """`execbench serve` with the arm and the model of the run; for a command, the command itself."""
    if arm.get("command"):
        text = str(arm["command"])
        return text if one_line(text) == text else ""
    workload = (record.get("plan") or {}).get("workload") or {}
    options = {**_changed_options(workload), **(arm.get("workload") or {})}
    name = workload.get("name") or _DEFAULT_WORKLOAD
    chosen = [] if name == _DEFAULT_WORKLOAD else ["--workload", name]
    text = strategy({**arm, "workload": options})
    return shell_line(["execbench", "serve", text, *chosen]) if text else ""


def _changed_options(workload: Record) -> dict[str, Any]:
    """The options of a recorded workload that an arm may set and that differ from the defaults."""
    fields = WorkloadOptions.model_fields
    known = {
        name: value
        for name, value in workload.items()
        if name in _OF_ARMS and value not in (None, fields[name].default)
    }
    own_io = is_own(str(workload.get("name") or "")) and workload.get("io") in (None, "sleep")
    return {name: value for name, value in known.items() if not (own_io and name == "io_ms" and value == 0)}


def shell_line(words: Iterable[object]) -> str:
    """A command for a POSIX shell; "" if a word has a line end or a hidden character."""
    texts = [str(word) for word in words]
    return "" if any(one_line(text) != text for text in texts) else shlex.join(texts)


def _asking(asked: Record) -> Iterator[object]:
    """The options of `execbench load` that differ from the defaults, without address and users."""
    texts, body, method = asked.get("texts") or {}, asked.get("body"), asked.get("method")
    if method not in (None, "GET") or (method and (texts or body is not None)):
        yield from ("--method", method)
    for header in asked.get("headers") or ():
        yield from _header(header)
    options = {**_DEFAULTS, **asked}
    for flag, value, default in (
        ("--body", body, None),
        ("--expect-status", options["expected_status"], _DEFAULTS["expected_status"]),
        ("--payloads", (texts.get("workload") or {}).get("payloads"), None),
        ("--seed", texts.get("seed", 1), 1),
        ("--transport", options["transport"], _DEFAULTS["transport"]),
        ("--timeout", options["timeout_s"], _DEFAULTS["timeout_s"]),
        ("--think", options["think"], None),
        ("--generators", options["generators"], _DEFAULTS["generators"]),
    ):
        if value not in (None, default):
            yield from (flag, f"{value:.15g}" if isinstance(value, float) else value)
    if options["new_connections"]:
        yield "--new-connections"


def _header(header: sending.Header) -> tuple[str, str]:
    """--header; a secret value is read from the environment."""
    return "--header", ": ".join(sending.for_command((header[0], header[1])))
