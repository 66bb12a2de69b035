"""`execbench capacity`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands import completion, flags
from harness.commands.run import keep_what_is_finished, show_all, where_to_look
from harness.commands.terminal import console, print_message
from harness.errors import HarnessError
from harness.numbers import counted

if TYPE_CHECKING:
    from harness.analysis.slo import Objective
    from harness.capacity.walk import WalkSettings
    from harness.plans.from_flags import Flags
    from harness.plans.plan import Plan
    from harness.plans.settings import Known
    from harness.wire.records import Cause, Trial

NAME = "capacity"
EXAMPLES = (
    "execbench capacity --slo 'p99 < 100 ms' --strategy thread --strategy process",
    "execbench capacity --slo 'p95 < 100 ms' --slo 'errors < 0.1 %' --strategy batch:workers=2",
    "execbench capacity results/20261129-085853-capacity --blocks 24",
)
# loads, windows and blocks of a capacity run are its own
_UNUSED = frozenset(
    {"--concurrency", "--arrivals", "--requests", "--duration", "--blocks", "--until", "--precision"}
    | {"--twin", "--fresh", "--limit", "--think"}
)


def _ways() -> list[Known]:
    from harness.capacity.walk import WalkSettings
    from harness.plans import settings

    return settings.declared_in(WalkSettings, "capacity")


@flags.with_settings
def capacity(
    *,
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN",
            help="Folder of a run: measure its arms; of a capacity run, with its objectives too.",
            autocompletion=completion.runs,
        ),
    ] = None,
    slo: flags.Objectives = None,
    strategy: flags.Strategies = None,
    command: flags.Commands = None,
    url: flags.Urls = None,
    url_pid: flags.UrlPids = None,
    given: Flags = flags.settings(lambda one: one.flag not in _UNUSED, more=_ways),
    out: flags.Out = None,
    full: flags.Full = False,
    as_json: flags.AsJson = False,
) -> None:
    """Find the highest rate of Poisson arrivals at which each arm keeps every objective.

    The result is a capacity with its interval; the lower end is the rate that the arm can promise.
    """
    flags.refuse_full_json(full=full, as_json=as_json)
    from harness.analysis import slo as objectives_
    from harness.capacity.walk import WalkSettings
    from harness.plans import from_flags, rerun

    record = {} if run is None else rerun.read(run)
    before = record.get("capacity") or {}
    objectives = objectives_.parse(slo or before.get("objectives", ()))
    known = {name: before[name] for name in ("blocks", "window_s", "search_s") if name in before}
    ways = WalkSettings(**known | given.capacity)
    given = given.but(
        strategies=tuple(strategy or ()),
        commands=tuple(command or ()),
        urls=tuple(url or ()),
        url_pids=tuple(url_pid or ()),
    ).with_plan(concurrency=(1,), blocks=ways.blocks)
    plan = rerun.servers(record, given) if record else from_flags.from_flags(given)
    plan = plan.model_copy(update={"name": NAME, "open_duration_s": ways.window_s})
    ways = ways.model_copy(update={"seed": plan.seed})
    _run(plan, objectives, ways, out, full=full, as_json=as_json)


def _run(
    plan: Plan,
    objectives: tuple[Objective, ...],
    ways: WalkSettings,
    out: Path | None,
    *,
    full: bool,
    as_json: bool,
) -> None:
    from harness.capacity import session
    from harness.commands.progress import Progress
    from harness.plans import size
    from harness.results import store

    arms = len(plan.every_arm)
    print_message(f"{counted(arms, 'arm')}: {size.in_minutes(ways.expected_s(arms))}.")
    writer = store.Writer(out or store.default_folder(NAME))
    try:
        with Progress(console(stderr=True)) as progress:
            trials = session.run(plan, objectives, ways, writer, progress)
    except (KeyboardInterrupt, HarnessError):
        keep_what_is_finished(writer)
        raise
    show_all(writer, full=full, as_json=as_json)
    if died := died_of(trials.done, trials.causes, writer.record):
        raise HarnessError(
            died, stage="capacity", hint=f"The report shows what was measured before. {where_to_look(writer)}"
        )
    if limit := own_limit_of(trials.done, trials.causes):
        raise HarnessError(limit, stage="capacity", hint="The report shows the other windows.")


def died_of(trials: list[Trial], causes: Mapping[int, Cause], record: dict[str, Any]) -> str:
    """Say in a sentence which servers have died, which is not overload; return "" if none has.

    A server has died if it says so, or if no request got a good answer in the last window of its arm.
    """
    from harness.wire.records import Cause

    last = {trial.arm: trial for trial in trials}
    dead = [
        trial
        for trial in trials
        if (cause := causes.get(trial.trial)) is Cause.SERVER_ENDED
        or (trial is last[trial.arm] and cause is Cause.NO_GOOD_ANSWER)
    ]
    failed = [f"{len(dead)} of {len(trials)} trials failed, the first: {dead[0].error}."] if dead else []
    return " ".join([*failed, *(record.get("downstream") or {}).get("died", ())])


def own_limit_of(trials: list[Trial], causes: Mapping[int, Cause]) -> str:
    """Say in a sentence that the load generator reached a limit of its own; return "" if it did not."""
    from harness.wire.records import Cause

    own = [trial for trial in trials if causes.get(trial.trial) is Cause.OWN_LIMIT]
    return f"{len(own)} of {len(trials)} trials are invalid, the first: {own[0].error}." if own else ""
