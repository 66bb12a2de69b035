"""`execbench sweep --slo`: choose the best setting in a given time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.run import keep_what_is_finished, show_all, where_to_look
from harness.commands.terminal import console, print_json, print_message
from harness.errors import HarnessError, UsageError
from harness.numbers import counted, users

if TYPE_CHECKING:
    from harness.analysis.slo import Objective
    from harness.plans.from_flags import Flags
    from harness.plans.plan import Plan

_SET_BY_MINUTES = ("blocks", "until", "precision")  # keys of the plan, and their flags


def refuse_half(slo: Sequence[str] | None, minutes: float | None) -> None:
    """Raise UsageError if only one of --slo and --minutes is given."""
    if bool(slo) == (minutes is not None):
        return
    given, missing = ("--slo", "--minutes") if slo else ("--minutes", "--slo")
    raise UsageError(
        f"{given} needs {missing}, too.", stage="slo", hint="For example: --slo 'p95 < 100 ms' --minutes 10"
    )


class Wanted:
    """What to choose from, by what, and in which time."""

    def __init__(self, plan: Plan, slo: Sequence[str], minutes: float, given: Flags) -> None:
        """Raises UsageError for flags and loads that do not allow a choice."""
        from harness.analysis import slo as objectives

        self.plan, self.minutes = plan, minutes
        self.objectives: tuple[Objective, ...] = objectives.parse(slo)
        for name in _SET_BY_MINUTES:
            if name in given.plan:
                raise UsageError(
                    f"--{name} cannot be used with --slo, as --minutes says how long to measure.",
                    stage="slo",
                    hint=f"Remove --{name}.",
                )
        if len(plan.laws) != 1 or plan.laws[0].is_own:
            loads = ", ".join(map(str, plan.laws))
            raise UsageError(
                f"--slo compares the settings under one load that is the same for all, not under {loads}.",
                stage="slo",
                hint="Give one load, such as -c 16 or --rate 50.",
            )
        if len(plan.arms) < 2:
            raise UsageError("There is only one setting to choose from.", stage="slo", hint="Vary more.")

    @property
    def rounds(self) -> tuple[int, ...]:
        """The number of settings in each round."""
        from harness.choosing import halving

        return halving.sizes(len(self.plan.arms))

    @property
    def finalists(self) -> int:
        from harness.choosing import halving

        return halving.kept_of(self.rounds[-1])

    def __str__(self) -> str:
        settings, rounds = counted(len(self.plan.arms), "setting"), counted(len(self.rounds), "round")
        load = users(self.plan.laws[0])
        return f"{settings} at {load}: {rounds}, then {self.finalists} again, about {self.minutes:g} min"


def preview(wanted: Wanted, *, as_json: bool) -> None:
    """Show what would be done; start nothing."""
    arms = [arm.name for arm in wanted.plan.arms]
    limits = [str(one) for one in wanted.objectives]
    if as_json:
        facts = {
            "arms": arms,
            "load": str(wanted.plan.laws[0]),
            "objectives": limits,
            "rounds": wanted.rounds,
        }
        plan = wanted.plan.model_dump(mode="json")
        print_json({**facts, "finalists": wanted.finalists, "about_s": 60 * wanted.minutes, "plan": plan})
        return
    for line in (
        f"Arms: {', '.join(arms)}",
        f"Objectives: {', '.join(limits)}",
        f"{wanted}.",
        "Nothing was started.",
    ):
        console().print(line, soft_wrap=True)
    _warn_of_short_time(wanted)


def run(wanted: Wanted, out: Path | None, *, full: bool, as_json: bool) -> None:
    """Choose, and show the report."""
    from harness.choosing import session
    from harness.commands.progress import Progress
    from harness.results import store

    print_message(f"{wanted}.")
    _warn_of_short_time(wanted)
    writer = store.Writer(out or store.default_folder(wanted.plan.name))
    try:
        with Progress(console(stderr=True)) as progress:
            trials = session.run(wanted.plan, wanted.objectives, wanted.minutes, writer, progress)
    except (KeyboardInterrupt, HarnessError):
        keep_what_is_finished(writer)
        raise
    show_all(writer, full=full, as_json=as_json)
    if bad := [trial for trial in trials.done if trial.state != "ok"]:
        raise HarnessError(
            f"{len(bad)} of {len(trials.done)} trials do not count, the first: {bad[0].error}",
            stage="sweep",
            hint=f"A setting that lost a trial is not chosen. {where_to_look(writer)}",
        )


def _warn_of_short_time(wanted: Wanted) -> None:
    from harness.choosing import session
    from harness.plans import size

    least_s = session.least_s(wanted.plan)
    if least_s > 60 * wanted.minutes:
        print_message(
            f"The shortest choice takes {size.in_minutes(least_s)}, so --minutes {wanted.minutes:g} may not "
            "be enough: it would take longer."
        )
