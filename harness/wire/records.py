"""The rows of a run: frozen, flat classes with the unit in each name. They define the CSV headers.

Timestamps (`*_ms` that name a moment) count from the start of their trial, on the monotonic clock that all
processes of one host share. Durations are raw. Percentiles are not stored, as they can be recomputed.
"""

from __future__ import annotations

import dataclasses
import enum
import statistics
import types
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from harness.system import own_limits

SCHEMA_VERSION = 4
NEW_COLUMNS = {3: ("io_server_ms",), 4: ("throttled_share",)}  # layout version → columns that it added

DOWNSTREAM = "downstream "  # prefix of the error of a failed I/O

WARMUP = "warmup"
MEASURE = "measure"
COOLDOWN = "cooldown"
PING = "ping"  # to a route without a model, during the load: shows how the strategy affects other routes

TWIN_SUFFIX = "-twin"  # in the name of the reference arm's second run
MAX_PROCESSES_RECORDED = 100  # per arm in run.json; a server may start one process per request
PILOT_BLOCK = 0  # determines loads and durations; not analysed

Row = TypeVar("Row", bound="Sample | Trial")


@dataclasses.dataclass(frozen=True, slots=True)
class Timings:
    """The server's timings of one request, sent in the `Server-Timing` header of the answer.

    The durations are contiguous: entered → queue → model → resume → io. So every timestamp on the server can
    be computed from them and `entered_ms`. External servers may omit some; these are None.
    """

    entered_ms: float | None = None  # the route's entry, on the host's monotonic clock
    queue_ms: float | None = None  # submitted → a worker starts: waiting, pickling, transfer
    model_ms: float | None = None  # inside the worker, wall clock
    model_cpu_ms: float | None = None  # inside the worker, CPU of the thread that ran the model
    resume_ms: float | None = None  # the worker is done → the route continues: the way back
    io_ms: float | None = None  # the awaited I/O as the route sees it, including stalls of the loop
    io_server_ms: float | None = None  # the part of it that the other side of the I/O reports
    handler_ms: float | None = None  # route entry → just before the answer
    batch_size: int | None = None  # requests that shared this call of the model
    worker_pid: int | None = None  # process in which the model ran


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


class Outcome(NamedTuple):
    """The results of one trial. Timestamps count from its start."""

    shots: list[Shot]
    window_start_ms: float
    window_end_ms: float
    client_cpu_ms: float
    in_flight_max: int = 0
    capped: int = 0  # requests that were sent late because the cap was reached
    client_lag_p99_ms: float | None = None  # lag of the load generator's event loop, sampled every 5 ms
    client_lag_max_ms: float | None = None
    bad_answers: Mapping[str, str] = types.MappingProxyType({})  # error → excerpt of the first such answer
    ended: bool = False  # whether the server had closed a connection; see `LoadOptions.watches_end`


_NOT_IN_TRIAL = ("shots", "bad_answers", "ended")  # fields of an Outcome without a column in trials.csv


class Noise(NamedTuple):
    """What else the machine did before and during one trial; None if the platform does not report it.

    Shares are of the trial's time. `foreign_cpu` is in cores: 0.1 is a tenth of one core.
    """

    load_before: float | None = None  # load average over 1 minute
    pressure_before: float | None = None  # share of the last 10 s in which a process waited for a CPU
    steal_share: float | None = None  # of all cores' time, given to other machines by the hypervisor
    pressure_share: float | None = None  # of the trial, in which a process waited for a CPU
    foreign_cpu: float | None = None  # cores used by programs outside this run
    server_cpu_ms: float | None = None  # of the arm's server and its workers, over the whole trial
    idle_cpu_ms: float | None = None  # of the other arms' servers and workers during the trial
    server_lag_p99_ms: float | None = None  # lag of the server's event loop, sampled every 5 ms
    server_lag_max_ms: float | None = None
    throttled_share: float | None = None  # of all cores' time, withheld by the quota of our control group


UNKNOWN = Noise()


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One request of one trial: a row of `requests.csv`. Failures and warm-ups are rows too."""

    arm: str
    strategy: str
    load: str  # the arrival law, such as closed(8)
    block: int  # 0 is the pilot, which is not analysed
    trial: int
    seq: int  # in order of sending within the trial
    phase: str  # warmup, measure, cooldown (sent after the window, to keep the load up) or ping
    due_ms: float  # by the schedule; closed loop: when the same user's last answer was complete
    sent_ms: float
    done_ms: float
    entered_ms: float | None
    queue_ms: float | None
    model_ms: float | None
    model_cpu_ms: float | None
    resume_ms: float | None
    io_ms: float | None
    handler_ms: float | None
    status: int | None  # the HTTP status; empty without an answer
    error: str  # why there was no good answer; empty for a good one
    batch_size: int | None
    worker_pid: int | None
    io_server_ms: float | None = None  # the duration that the other side of the I/O reports


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """The fields that identify a trial, in its own row and in the rows of its requests."""

    trial: int
    block: int
    position: int  # place within the block, which is in random order
    arm: str
    strategy: str
    load: str
    concurrency: int | None  # closed loop: users; empty in open loop
    rate_per_s: float | None  # open loop: mean arrivals per second of the law
    schedule: str  # open loop: hash of the due times, the same for all arms of a block
    io_nominal_ms: float | None  # nominal I/O of this arm; empty if unknown


@dataclasses.dataclass(frozen=True, slots=True)
class Trial(Identity):
    """One arm under one load for one window: a row of `trials.csv`, written after its requests.

    The row completes a trial: requests without such a row are the incomplete end of a killed run.
    """

    requests: int  # rows of this trial in requests.csv
    measured: int  # those in the phase measure
    failed: int  # measured requests without a good answer
    in_flight_max: int  # most requests in flight at the same time, without pings
    capped: int  # open loop: requests that were sent late because the cap was reached
    window_start_ms: float  # the measured window, from the trial's start
    window_end_ms: float
    client_cpu_ms: float  # CPU of the load generator's process over the whole trial
    client_lag_p99_ms: float | None  # lag of its event loop, sampled every 5 ms
    client_lag_max_ms: float | None
    load_before: float | None  # this and the next columns: see Noise
    pressure_before: float | None
    steal_share: float | None
    pressure_share: float | None
    foreign_cpu: float | None
    server_cpu_ms: float | None
    idle_cpu_ms: float | None
    server_lag_p99_ms: float | None
    server_lag_max_ms: float | None
    throttled_share: float | None
    started_at: str  # UTC, ISO 8601
    state: str  # ok, failed, or invalid (the load generator sent requests late or not at all)
    error: str  # why the state is not ok


OK = "ok"
FAILED = "failed"
INVALID = "invalid"


class Cause(enum.Enum):
    """Why a trial is not ok."""

    SERVER_ENDED = enum.auto()
    NOTHING_MEASURED = enum.auto()
    NO_GOOD_ANSWER = enum.auto()
    OWN_LIMIT = enum.auto()  # the load generator reached a limit of its own process
    SENT_LATE = enum.auto()


class Fault(NamedTuple):
    """What is wrong with a trial. Its row keeps the words."""

    cause: Cause
    words: str

    @property
    def state(self) -> str:
        return INVALID if self.cause in (Cause.OWN_LIMIT, Cause.SENT_LATE) else FAILED


def judge(outcome: Outcome, *, ended: str = "", late: str = "") -> Fault | None:
    """Return what is wrong with a trial; None if it is ok.

    ended: how the server ended, if it did. late: why requests were sent too late, if they were.
    """
    if ended:
        return Fault(Cause.SERVER_ENDED, ended)
    if limit := own_limits.why_invalid(shot.error for shot in outcome.shots):
        return Fault(Cause.OWN_LIMIT, limit)
    errors = [shot.error for shot in outcome.shots if shot.phase == MEASURE]
    if not errors:
        return Fault(Cause.NOTHING_MEASURED, "no request fell into the measured window")
    if all(errors):  # a trial without good answers shows nothing about speed
        commonest = in_words(statistics.mode(errors), outcome.bad_answers)
        return Fault(Cause.NO_GOOD_ANSWER, f"none of {len(errors)} requests got a good answer ({commonest})")
    return Fault(Cause.SENT_LATE, late) if late else None


def to_rows(
    identity: Identity, outcome: Outcome, *, started_at: str, fault: Fault | None, noise: Noise = UNKNOWN
) -> tuple[Trial, list[Sample]]:
    """Return the row of a trial and the rows of all its requests, also for a trial that is not ok."""
    measured = [shot for shot in outcome.shots if shot.phase == MEASURE]
    trial = Trial(
        **dataclasses.asdict(identity),
        requests=len(outcome.shots),
        measured=len(measured),
        failed=sum(bool(shot.error) for shot in measured),
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


def to_cells(row: Sample | Trial) -> list[str]:
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
