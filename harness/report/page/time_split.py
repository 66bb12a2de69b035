"""Where the time of a request goes: stacked means, a panel for each load."""

from __future__ import annotations

from harness.numbers import milliseconds, users
from harness.report import ranking
from harness.report.charts.rows import Shown, load_words
from harness.report.charts.split import mean_parts
from harness.report.charts.style import STRETCHES, UNSPLIT, Stretch
from harness.report.page.context import Context
from harness.report.page.drawing import MARK_AT, NAME_AT, bar, markup, part_keys, rows_figure, write
from harness.report.page.parts import Panel, Picture, Table

_MOST_PANELS = 3
_PARTS = (*STRETCHES, UNSPLIT)
_IN = {f"{part}_ms": words for part, words in ranking.PARTS.items()}  # such as "in the queue"
_LEAST_SPREAD = 0.05  # of the longest bar: parts that differ by less have no title

Means = dict[Stretch, float]


def picture(found: Context) -> Picture | None:
    """Stacked means at the loads that the picture has room for, the one that decides among them."""
    shown = Shown(found.rows)
    loads = [load for load in chosen_loads(found) if load in shown.loads]
    means = {load: {arm: mean_parts(shown, arm, load) for arm in found.arms} for load in loads}
    means = {load: its for load, its in means.items() if any(its.values())}
    drawn = [part for part in _PARTS if any(part in one for its in means.values() for one in its.values())]
    if not drawn:
        return None
    panels = [
        Panel(load_words(load), _panel(found, its, f"split-{number}"))
        for number, (load, its) in enumerate(means.items())
    ]
    here = means.get(found.load, {})
    return Picture(
        title=_title(found, here),
        alt=f"Mean time of a request by part. At {users(found.load)}: {_in_words(here)}",
        panels=panels,
        table=_table(means, drawn),
        keys=part_keys("split", drawn),
        note="Means, because parts add up to a mean and not to a median. Each panel has its own scale. "
        + " ".join(filter(None, [found.left_out(), loads_left_out(found, loads)])),
    )


def chosen_loads(found: Context) -> list[str]:
    """At most `_MOST_PANELS` loads of one law: the lightest, one between, and last the one that decides."""
    law = found.load.partition("(")[0]
    loads = [load for load in found.loads if load != found.load and load.startswith(f"{law}(")]
    if len(loads) >= _MOST_PANELS:
        loads = [loads[0], loads[len(loads) // 2]]
    return [*loads, found.load]


def loads_left_out(found: Context, loads: list[str]) -> str:
    """Which loads a picture leaves out; "" if none."""
    others = [users(load) for load in found.loads if load not in loads]
    return f"Not drawn: {', '.join(others[:6])}{' …' if len(others) > 6 else ''}." if others else ""


def _panel(found: Context, means: dict[str, Means], name: str) -> str:
    arms = [arm for arm in found.arms if means[arm]]
    fig, ax = rows_figure(arms, "mean time of a request (ms)")
    widest = max(sum(means[arm].values()) for arm in arms)
    for row, arm in enumerate(arms):
        left = 0.0
        for part, length in means[arm].items():
            bar(ax, row + MARK_AT, left, length, part)
            left += length
        write(ax, 1.0, row + NAME_AT, f"{milliseconds(left)} ms", ha="right")
    ax.set_xlim(0, widest * 1.02)
    return markup(fig, name)


def _title(found: Context, means: dict[str, Means]) -> str:
    """The part that differs most between two arms."""
    known = {arm: its for arm, its in means.items() if its and UNSPLIT not in its}
    widest = max((sum(its.values()) for its in known.values()), default=0.0)
    if not known:
        return "The servers send no timings: a request's time is not split"
    gaps = {
        part: max(its[part] for its in known.values()) - min(its[part] for its in known.values())
        for part in STRETCHES
    }
    part = max(gaps, key=lambda one: gaps[one])
    io = next(one for one in STRETCHES if one.column == "io_ms")
    if found.report.choice.stalls and gaps[io] >= _LEAST_SPREAD * widest:
        part = io  # an arm blocks its event loop, which shows in the I/O
    words = _IN[part.column]
    if len(known) == 1 or gaps[part] < _LEAST_SPREAD * widest:
        arm, its = next(iter(known.items()))
        part = max(its, key=lambda one: its[one])
        share = f"{milliseconds(its[part])} of {milliseconds(sum(its.values()))} ms"
        return f"{found.at}, a request to {arm} spends {share} {_IN[part.column]}"
    most = max(known, key=lambda arm: known[arm][part])
    least = _other(found, known, part)
    return (
        f"{found.at}, a request spends on average {milliseconds(known[most][part])} ms {words} with {most}, "
        f"{milliseconds(known[least][part])} ms with {least}"
    )


def _other(found: Context, known: dict[str, Means], part: Stretch) -> str:
    """The arm with the least of a part; the advised one if it has next to nothing more."""
    least = min(known, key=lambda arm: known[arm][part])
    take = found.report.choice.take
    is_close = take in known and known[take][part] <= known[least][part] + 0.5
    return take if is_close else least


def _in_words(means: dict[str, Means]) -> str:
    each = [
        f"{arm} {milliseconds(sum(its.values()))} ms ("
        + ", ".join(f"{part.label} {milliseconds(ms)}" for part, ms in its.items())
        + ")"
        for arm, its in means.items()
        if its
    ]
    return "; ".join(each) + "."


def _table(means: dict[str, dict[str, Means]], drawn: list[Stretch]) -> Table:
    return Table(
        ["load", "arm", "all, ms", *(part.label for part in drawn)],
        [
            [
                users(load),
                arm,
                milliseconds(sum(its.values())),
                *(milliseconds(its[part]) if part in its else "-" for part in drawn),
            ]
            for load, of_load in means.items()
            for arm, its in of_load.items()
            if its
        ],
        words=2,
    )
