"""`execbench capacity`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands import flag_groups, flags
from harness.commands.run import keep_what_is_finished, show_all, where_to_look
from harness.commands.terminal import console
from harness.errors import HarnessError
from harness.wire import bounds

if TYPE_CHECKING:
    from harness.analysis.slo import Objective
    from harness.capacity.walk import WalkSettings
    from harness.plans.plan import Plan
    from harness.wire.records import Cause, Trial

NAME = "capacity"


@flags.spread
def capacity(
    *,
    run: Annotated[
        Path | None,
        typer.Argument(
            help="The folder of a run: measure its arms again; of a capacity run, with its objectives."
        ),
    ] = None,
    slo: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OBJECTIVE",
            help="What must hold: 'p99 < 100 ms', 'mean latency < 60 ms', 'p99 io < 20 ms', "
            "'errors < 0.1 %'; repeatable.",
        ),
    ] = None,
    strategy: flags.Strategies = None,
    url: flags.Urls = None,
    url_pid: flags.UrlPids = None,
    asking: flag_groups.Asking,
    ping_path: flags.PingPath = None,
    reference: flags.Reference = None,
    blocks: Annotated[
        int | None,
        typer.Option(min=1, help="Confirming windows of each arm, at other rates and arrivals (12)."),
    ] = None,
    window: Annotated[
        float | None,
        typer.Option(min=0.5, max=bounds.A_DAY_S, help="Seconds of a confirming window (20)."),
    ] = None,
    search_window: Annotated[
        float | None,
        typer.Option(
            min=0.5, max=bounds.A_DAY_S, help="Seconds of a window of the search (8); more for slow arms."
        ),
    ] = None,
    cap: flags.Cap = None,
    pin: flags.Pin = None,
    server: flag_groups.Server,
    transport: flags.Transport = None,
    timeout: flags.Timeout = None,
    seed: flags.Seed = None,
    exclude_foreign_cpu: flags.ExcludeForeignCpu = None,
    self_check: flags.SelfCheck = None,
    out: flags.Out = None,
    as_json: flags.AsJson = False,
) -> None:
    """How many requests a second can be promised: the highest Poisson rate that keeps every objective."""
    from harness.analysis import slo as objectives_
    from harness.capacity.walk import WalkSettings
    from harness.plans import from_flags, rerun

    record = {} if run is None else rerun.read(run)
    before = record.get("capacity") or {}
    objectives = objectives_.parse(slo or before.get("objectives", ()))
    known = {name: before[name] for name in ("blocks", "window_s", "search_s") if name in before}
    ways = WalkSettings(**known | flag_groups.said(blocks=blocks, window_s=window, search_s=search_window))
    said = from_flags.Flags(
        strategies=tuple(strategy or ()),
        urls=tuple(url or ()),
        url_pids=tuple(url_pid or ()),
        ask=asking.as_request(ping_path=ping_path),
        concurrency=(1,),
        blocks=ways.blocks,
        reference=reference,
        self_check=self_check,
        cap=cap,
        pin=pin,
        transport=transport,
        timeout_s=timeout,
        seed=seed,
        exclude=flag_groups.said(foreign_cpu=exclude_foreign_cpu),
        **server.as_plan_flags(),
    )
    plan = rerun.servers(record, said) if record else from_flags.from_flags(said)
    plan = plan.model_copy(update={"name": NAME, "open_duration_s": ways.window_s})
    ways = ways._replace(seed=plan.seed)
    _run(plan, objectives, ways, out, as_json=as_json)


def _run(
    plan: Plan, objectives: tuple[Objective, ...], ways: WalkSettings, out: Path | None, *, as_json: bool
) -> None:
    from harness.capacity import session
    from harness.commands.progress import Progress
    from harness.results import store

    writer = store.Writer(out or store.default_folder(NAME))
    try:
        with Progress(console(stderr=True)) as progress:
            trials = session.run(plan, objectives, ways, writer, progress)
    except (KeyboardInterrupt, HarnessError):
        keep_what_is_finished(writer)
        raise
    show_all(writer, as_json=as_json)
    if died := died_of(trials.done, trials.causes, writer.record):
        raise HarnessError(
            died,
            stage="capacity",
            hint=f"What was measured before is kept and shown. {where_to_look(writer)}",
        )


def died_of(trials: list[Trial], causes: Mapping[int, Cause], record: dict[str, Any]) -> str:
    """What has died meanwhile, which is no overload, in a sentence; empty when nothing has.

    A server has when it says so, or when nobody got a good answer in the last window of its arm.
    """
    from harness.wire.records import Cause

    last = {trial.arm: trial for trial in trials}
    dead = [
        trial
        for trial in trials
        if (cause := causes.get(trial.trial)) is Cause.SERVER_ENDED
        or (trial is last[trial.arm] and cause is Cause.NO_GOOD_ANSWER)
    ]
    told = [f"{len(dead)} of {len(trials)} trials failed, the first: {dead[0].error}."] if dead else []
    return " ".join([*told, *(record.get("downstream") or {}).get("died", ())])
