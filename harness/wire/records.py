"""The rows of a run: frozen, flat classes with the unit in each name. They define the CSV headers.

Timestamps (`*_ms` that name a moment) count from the start of their trial, on the monotonic clock that all
processes of one host share. Durations are raw. Percentiles are not stored, as they can be recomputed.

A text in a field's type says what the column means; docs/reference/csv.md shows it (`meanings`).
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NamedTuple, TypeVar

from harness.system import own_limits
from harness.wire.tally import Counts, Tally

SCHEMA_VERSION = 7
NEW_COLUMNS = {
    3: ("io_server_ms",),
    4: ("throttled_share",),
    5: ("first_byte_ms",),
    6: ("server_rss_mb",),
    7: ("generator",),
}  # layout version → columns that it added
OLDEST_READABLE = min(NEW_COLUMNS) - 1

DOWNSTREAM = "downstream "  # prefix of the error of a failed I/O

WARMUP = "warmup"
MEASURE = "measure"
COOLDOWN = "cooldown"
PING = "ping"  # to a route without a model, during the load: shows how the strategy affects other routes

TWIN_SUFFIX = "-twin"  # in the name of the reference arm's second run
MAX_PROCESSES_RECORDED = 100  # per arm in run.json; a server may start one process per request
PILOT_BLOCK = 0  # determines loads and durations; not analysed

Row = TypeVar("Row", bound="Sample | Trial | Generator")


@dataclasses.dataclass(frozen=True, slots=True)
class Timings:
    """The server's timings of one request, sent in the `Server-Timing` header of the answer.

    The durations are contiguous: entered → queue → model → resume → io. So every timestamp on the server can
    be computed from them and `entered_ms`. External servers may omit some; these are None.
    """

    entered_ms: float | None = None  # the route's entry, on the host's monotonic clock
    queue_ms: Annotated[
        float | None,
        "From submitting the item until a worker starts: waiting, pickling, transfer. Empty, as the way back "
        "is, if the worker runs on another host.",
    ] = None
    model_ms: Annotated[float | None, "Inside the worker, by the wall clock."] = None
    model_cpu_ms: Annotated[float | None, "Inside the worker, CPU of the thread that ran the model."] = None
    resume_ms: Annotated[float | None, "The way back: from the end of the model until the route goes on."] = (
        None
    )
    io_ms: Annotated[float | None, "The awaited I/O as the route sees it, with stalls of the event loop."] = (
        None
    )
    io_server_ms: Annotated[float | None, "The part of the I/O that its other side reports."] = None
    handler_ms: Annotated[float | None, "From entering the route until just before the answer."] = None
    batch_size: Annotated[int | None, "Requests that shared this call of the model."] = None
    worker_pid: Annotated[int | None, "Process in which the model ran."] = None


NO_TIMINGS = Timings()


class Shot(NamedTuple):
    """One request as the load generator saw it: a Sample without the fields of its trial."""

    seq: int
    phase: str
    due_ms: float
    sent_ms: float
    done_ms: float
    timings: Timings
    status: int | None
    error: str
    first_byte_ms: float | None = None
    generator: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Generator:
    """One load generator in one trial: a row of `generators.csv`, if a run may have several.

    `offset_*_ms` is what its monotonic clock shows more than that of the run. It is known within `bound_ms`.
    """

    trial: Annotated[int, "Number of the trial."]
    generator: Annotated[int, "Number of the load generator, from 0."]
    host: Annotated[str, "Name of its host."]
    requests: Annotated[int, "Requests that it sent, with pings."]
    measured: Annotated[int, "Those in the phase measure."]
    dispatch_lag_p50_ms: Annotated[float | None, "Median of the times from due to sent of measured requests."]
    client_cpu_ms: Annotated[float | None, "CPU of its process; empty if it ended."]
    client_lag_p99_ms: Annotated[float | None, "99th percentile of the lag of its event loop."]
    offset_before_ms: Annotated[float | None, "Offset of its clock before the trial."]
    offset_after_ms: Annotated[float | None, "Offset of its clock after the trial; empty if it ended."]
    bound_ms: Annotated[float | None, "Largest possible error of both: half of the shortest round trip."]
    error: Annotated[str, "How it ended, if it did."]


class Outcome(NamedTuple):
    """The results of one trial. Timestamps count from its start."""

    shots: list[Shot]  # empty if its rows went to disk only
    window_start_ms: float
    window_end_ms: float
    client_cpu_ms: float
    in_flight_max: int = 0
    capped: int = 0  # requests that were sent late because the cap was reached
    client_lag_p99_ms: float | None = None  # lag of the load generator's event loop, sampled every 5 ms
    client_lag_max_ms: float | None = None
    bad_answers: Mapping[str, str] = types.MappingProxyType({})  # error → excerpt of the first such answer
    ended: bool = False  # whether the server had closed a connection; see `LoadOptions.watches_end`
    tally: Counts | None = None  # None: count `shots`
    generators: tuple[Generator, ...] = ()  # if several may share the load
    lost: str = ""  # how a load generator ended during the trial, if one did

    @property
    def counts(self) -> Counts:
        """What was counted of all requests, also of those that are not in `shots`."""
        return counts_of(self.shots) if self.tally is None else self.tally


_NOT_IN_TRIAL = (
    "shots",
    "bad_answers",
    "ended",
    "tally",
    "generators",
    "lost",
)  # fields of an Outcome without a column in trials.csv


class Noise(NamedTuple):
    """What else the machine did before and during one trial; None if the platform does not report it.

    Shares are of the trial's time. `foreign_cpu` is in cores: 0.1 is a tenth of one core.
    """

    load_before: Annotated[float | None, "Load average over 1 minute, before the trial."] = None
    pressure_before: Annotated[
        float | None, "Share of the 10 s before the trial in which a process waited for a CPU."
    ] = None
    steal_share: Annotated[
        float | None, "Share of all cores' time that the hypervisor gave to other machines."
    ] = None
    pressure_share: Annotated[float | None, "Share of the trial in which a process waited for a CPU."] = None
    foreign_cpu: Annotated[float | None, "Cores used by programs outside this run."] = None
    server_cpu_ms: Annotated[
        float | None, "CPU of the arm's server and its workers, over the whole trial."
    ] = None
    idle_cpu_ms: Annotated[float | None, "CPU of the other arms' servers and workers during the trial."] = (
        None
    )
    server_lag_p99_ms: Annotated[
        float | None, "Lag of the server's event loop, sampled every 5 ms: 99th percentile."
    ] = None
    server_lag_max_ms: Annotated[float | None, "The largest of these lags."] = None
    throttled_share: Annotated[
        float | None, "Share of all cores' time that the quota of the control group withheld."
    ] = None
    # Shows growth over a run. A page that processes share counts in each of them, so it is no measure of the
    # memory that an arm needs for itself: `uss_bytes` of run.json is.
    server_rss_mb: Annotated[
        float | None,
        "Resident memory (RSS) of the server and its workers at the end of the trial; MB of 1e6 bytes.",
    ] = None


UNKNOWN = Noise()


_Arm = Annotated[str, "Name of the arm."]
_Strategy = Annotated[str, "Name of its strategy; empty for a server that already ran."]
_Load = Annotated[str, "The arrival law, such as closed(8)."]
_Block = Annotated[int, "Number of the block; 0 is the pilot, which is not analysed."]
_Trial = Annotated[int, "Number of the trial."]


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One request of one trial: a row of `requests.csv`. Failures and warm-ups are rows too."""

    arm: _Arm
    strategy: _Strategy
    load: _Load
    block: _Block
    trial: _Trial
    seq: Annotated[int, "Number of the request in its trial, in order of sending."]
    phase: Annotated[
        str,
        "warmup, measure, cooldown (sent after the window, to keep the load up) or ping (not of the load).",
    ]
    due_ms: Annotated[
        float, "When it was due; closed loop: when the user's last answer was complete and the pause over."
    ]
    sent_ms: Annotated[float, "When the load generator sent it."]
    done_ms: Annotated[float, "When the answer was complete."]
    entered_ms: Annotated[
        float | None, "When its route was entered, on the same clock; empty for a server on another host."
    ]
    queue_ms: float | None  # this and the next without a text: see Timings
    model_ms: float | None
    model_cpu_ms: float | None
    resume_ms: float | None
    io_ms: float | None
    handler_ms: float | None
    status: Annotated[int | None, "HTTP status; empty without an answer."]
    error: Annotated[str, "Why there was no good answer; empty for a good one."]
    batch_size: int | None
    worker_pid: int | None
    io_server_ms: float | None = None
    first_byte_ms: Annotated[
        float | None, "When the body of the answer began to arrive; empty without a body."
    ] = None
    generator: Annotated[int | None, "Number of the load generator that sent it, from 0."] = None


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """The fields that identify a trial, in its own row and in the rows of its requests."""

    trial: _Trial
    block: _Block
    position: Annotated[int, "Place within the block, whose trials are in random order."]
    arm: _Arm
    strategy: _Strategy
    load: _Load
    concurrency: Annotated[int | None, "Closed loop: number of users; empty in an open loop."]
    rate_per_s: Annotated[float | None, "Open loop: mean arrivals per second of the law."]
    schedule: Annotated[
        str, "Open loop: hash of due times and replayed texts, the same for all arms of a block."
    ]
    io_nominal_ms: Annotated[float | None, "Duration of the I/O that was asked for; empty if unknown."]


@dataclasses.dataclass(frozen=True, slots=True)
class Trial(Identity):
    """One arm under one load for one window: a row of `trials.csv`, written after its requests.

    The row completes a trial: requests without such a row are the incomplete end of a killed run.
    """

    requests: Annotated[int, "Rows of this trial in requests.csv."]
    measured: Annotated[int, "Those in the phase measure."]
    failed: Annotated[int, "Measured requests without a good answer."]
    in_flight_max: Annotated[int, "Most requests in flight at the same time, without pings."]
    capped: Annotated[int, "Open loop: requests that were sent late because the cap was reached."]
    window_start_ms: Annotated[float, "Start of the measured window, from the trial's start."]
    window_end_ms: Annotated[float, "End of the measured window."]
    client_cpu_ms: Annotated[float, "CPU of the load generators over the whole trial."]
    client_lag_p99_ms: Annotated[
        float | None, "Lag of the load generator's event loop, sampled every 5 ms: 99th percentile."
    ]
    client_lag_max_ms: Annotated[float | None, "The largest of these lags."]
    load_before: float | None  # this and the next without a text: see Noise
    pressure_before: float | None
    steal_share: float | None
    pressure_share: float | None
    foreign_cpu: float | None
    server_cpu_ms: float | None
    idle_cpu_ms: float | None
    server_lag_p99_ms: float | None
    server_lag_max_ms: float | None
    throttled_share: float | None
    server_rss_mb: float | None
    started_at: Annotated[str, "When the trial began: UTC, ISO 8601."]
    state: Annotated[
        str,
        "ok; cut (killed: what was measured until then counts); failed; or invalid (sent late or not).",
    ]
    error: Annotated[str, "Why the state is not ok."]


OK = "ok"
CUT = "cut"  # killed: its last seconds are missing, and what was measured until then counts
FAILED = "failed"
INVALID = "invalid"
SOUND = (OK, CUT)  # the states whose figures count


class Cause(enum.Enum):
    """Why a trial is not ok."""

    SERVER_ENDED = enum.auto()
    NOTHING_MEASURED = enum.auto()
    NO_GOOD_ANSWER = enum.auto()
    OWN_LIMIT = enum.auto()  # the load generator reached a limit of its own process
    GENERATOR_ENDED = enum.auto()  # one of several
    SENT_LATE = enum.auto()


class Fault(NamedTuple):
    """What is wrong with a trial. Its row keeps the words."""

    cause: Cause
    words: str

    @property
    def state(self) -> str:
        return INVALID if self.cause in (Cause.OWN_LIMIT, Cause.SENT_LATE) else FAILED


def add_to(tally: Tally, shot: Shot) -> None:
    """Count a request."""
    tally.add(
        measured=shot.phase == MEASURE,
        lag_ms=shot.sent_ms - shot.due_ms,
        error=shot.error,
        answered=shot.status is not None,
    )


def counts_of(shots: Iterable[Shot]) -> Counts:
    """Count requests."""
    tally = Tally()
    for shot in shots:
        add_to(tally, shot)
    return tally.counts()


def judge(outcome: Outcome, *, ended: str = "", late: str = "") -> Fault | None:
    """Return what is wrong with a trial; None if it is ok.

    ended: how the server ended, if it did. late: why requests were sent too late, if they were.
    """
    if ended:
        return Fault(Cause.SERVER_ENDED, ended)
    if outcome.lost:
        return Fault(Cause.GENERATOR_ENDED, outcome.lost)
    counts = outcome.counts
    if limit := own_limits.why_invalid(Counter(counts.errors).elements()):
        return Fault(Cause.OWN_LIMIT, limit)
    if not counts.measured:
        return Fault(Cause.NOTHING_MEASURED, "no request fell into the measured window")
    if counts.failed == counts.measured:  # a trial without good answers shows nothing about speed
        errors = counts.measured_errors
        commonest = in_words(max(errors, key=errors.__getitem__), outcome.bad_answers)
        none = f"none of {counts.measured} requests got a good answer ({commonest})"
        return Fault(Cause.NO_GOOD_ANSWER, none)
    return Fault(Cause.SENT_LATE, late) if late else None


def to_rows(
    identity: Identity, outcome: Outcome, *, started_at: str, fault: Fault | None, noise: Noise = UNKNOWN
) -> tuple[Trial, list[Sample]]:
    """Return the row of a trial and the rows of its shots, also for a trial that is not ok."""
    counts = outcome.counts
    trial = Trial(
        **dataclasses.asdict(identity),
        requests=counts.requests,
        measured=counts.measured,
        failed=counts.failed,
        **{name: value for name, value in outcome._asdict().items() if name not in _NOT_IN_TRIAL},
        **noise._asdict(),
        started_at=started_at,
        state=fault.state if fault else OK,
        error=fault.words if fault else "",
    )
    names = {name: getattr(identity, name) for name in ("arm", "strategy", "load", "block", "trial")}
    return trial, [_to_sample(names, shot) for shot in outcome.shots]


def in_words(error: str, bad_answers: Mapping[str, str]) -> str:
    """Return an error with the excerpt of its answer, if known: `HTTP 422: body.text: Field required`."""
    excerpt = bad_answers.get(error, "")
    return f"{error}: {excerpt}" if excerpt else error


def has_logs(record: Mapping[str, Any]) -> bool:
    """Return whether a run's folder has server logs, which only servers started by the run write."""
    plan = record.get("plan")  # `execbench load` has none
    return plan is not None and not any(arm.get("url") for arm in plan["arms"])


def _to_sample(names: dict[str, Any], shot: Shot) -> Sample:
    seen_by_client = shot._asdict()
    seen_by_server = dataclasses.asdict(seen_by_client.pop("timings"))
    return Sample(**names, **seen_by_client, **seen_by_server)


def header(row_type: type[Row]) -> list[str]:
    """Return the column names of a CSV of `row_type`, in order."""
    return [field.name for field in dataclasses.fields(row_type)]


def meanings(row_type: type[Row]) -> dict[str, str]:
    """Return column name → what it means, in the order of the columns."""
    known: dict[str, str] = {}
    for fields in (Timings, Noise, row_type):
        for name, hint in typing.get_type_hints(fields, include_extras=True).items():
            for text in getattr(hint, "__metadata__", ()):
                known[name] = text
    return {name: known[name] for name in header(row_type)}


def to_cells(row: Sample | Trial | Generator) -> list[str]:
    """Return the cells of one CSV line. Floats have three decimals (for ms: microseconds); None is empty."""
    return [_cell(getattr(row, field.name)) for field in dataclasses.fields(row)]


def column_types(row_type: type[Row]) -> dict[str, type]:
    """Return column name → str, int or float, regardless of whether the column may be empty."""
    found: dict[str, type] = {}
    for name, hint in typing.get_type_hints(row_type).items():
        (found[name],) = (kind for kind in typing.get_args(hint) or (hint,) if kind is not types.NoneType)
    return found


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
