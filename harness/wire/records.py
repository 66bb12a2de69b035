"""The rows of a run. Frozen and flat, the unit in every name; the CSV headers derive from these classes.

Stamps (`*_ms` that name a moment) count from the start of their trial, on the monotonic clock that all
processes of one host share. Durations are raw. Percentiles are never stored: they can be recomputed.
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
NEW_COLUMNS = {3: ("io_server_ms",), 4: ("throttled_share",)}  # layout → columns that those before it lack

DOWNSTREAM = "downstream "  # begins the reason why what a request awaits after the model gave no answer

WARMUP = "warmup"
MEASURE = "measure"
COOLDOWN = "cooldown"
PING = "ping"  # asks a route without model beside the load: what the strategy does to other routes

TWIN_SUFFIX = "-twin"  # of the name of the reference arm that is run a second time
MOST_PROCESSES = 100  # that run.json names of an arm; a server may start one for each request
PILOT_BLOCK = 0  # sizes the run; not analysed

Row = TypeVar("Row", bound="Sample | Trial")


@dataclasses.dataclass(frozen=True, slots=True)
class Timings:
    """One request as the server saw it; travels in the answer's `Server-Timing` header.

    The stretches are contiguous: entered → queue → model → resume → io. With `entered_ms` every stamp on
    the server can be rebuilt from them. External servers may omit some, hence None.
    """

    entered_ms: float | None = None  # the route's entry, on the host's monotonic clock
    queue_ms: float | None = None  # submitted → a worker starts: waiting, pickling, the way there
    model_ms: float | None = None  # inside the worker, wall clock
    model_cpu_ms: float | None = None  # inside the worker, CPU of the thread that ran the model
    resume_ms: float | None = None  # the worker is done → the route runs again: the way back
    io_ms: float | None = None  # the awaited I/O as the route sees it, stalls of the loop included
    io_server_ms: float | None = None  # of that, what the other side says it took itself
    handler_ms: float | None = None  # route entry → just before the answer
    batch_size: int | None = None  # requests that shared this call of the model
    worker_pid: int | None = None  # process in which the model ran


class Shot(NamedTuple):
    """One request as sent and answered: what a Sample holds beside the names of its trial."""

    seq: int
    phase: str
    due_ms: float
    sent_ms: float
    done_ms: float
    timings: Timings
    status: int | None
    error: str


class Outcome(NamedTuple):
    """One trial. Stamps count from its start."""

    shots: list[Shot]
    window_start_ms: float
    window_end_ms: float
    client_cpu_ms: float
    in_flight_max: int = 0
    capped: int = 0  # requests that were due while the cap was in flight, and so were sent late
    client_lag_p99_ms: float | None = None  # the client's own event loop, by a beat of 5 ms
    client_lag_max_ms: float | None = None
    bad_answers: Mapping[str, str] = types.MappingProxyType({})  # error → what the first such answer says
    ended: bool = False  # the server had ended a connection; see `LoadOptions.watches_end`


_NOT_OF_A_TRIAL = ("shots", "bad_answers", "ended")  # of an Outcome


class Noise(NamedTuple):
    """What the machine did before and during one trial; None where the platform does not tell.

    Shares are of the trial's time; on `cpu` in cores, so that 0.1 is a tenth of one core.
    """

    load_before: float | None = None  # load average over 1 minute
    pressure_before: float | None = None  # share of the last 10 s in which something waited for a CPU
    steal_share: float | None = None  # of all cores' time, taken by the hypervisor
    pressure_share: float | None = None  # of the trial, in which something waited for a CPU
    foreign_cpu: float | None = None  # cores busy with what is not of this run
    server_cpu_ms: float | None = None  # of the arm's server and its workers, over the whole trial
    idle_cpu_ms: float | None = None  # of all the other arms' servers and workers meanwhile
    server_lag_p99_ms: float | None = None  # lateness of the server's event loop, by a beat of 5 ms
    server_lag_max_ms: float | None = None
    throttled_share: float | None = None  # of all cores' time, held back by the quota of our control group


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
    due_ms: float  # when the schedule wanted it; closed loop: when the same client's last answer was done
    sent_ms: float
    done_ms: float
    entered_ms: float | None
    queue_ms: float | None
    model_ms: float | None
    model_cpu_ms: float | None
    resume_ms: float | None
    io_ms: float | None
    handler_ms: float | None
    status: int | None  # the HTTP code; empty when there was no answer
    error: str  # empty, or why there was no good answer
    batch_size: int | None
    worker_pid: int | None
    io_server_ms: float | None = None  # what the other side of the I/O says it took itself


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """Which trial it is: what its row and its requests' rows have in common."""

    trial: int
    block: int
    position: int  # place within the block, which is in random order
    arm: str
    strategy: str
    load: str
    concurrency: int | None  # closed loop: users; empty in open loop
    rate_per_s: float | None  # open loop: mean arrivals a second that the law asks for
    schedule: str  # open loop: hash of the due times, the same for all arms of a block
    io_nominal_ms: float | None  # the I/O asked for, in this arm; empty when nobody knows


@dataclasses.dataclass(frozen=True, slots=True)
class Trial(Identity):
    """One arm under one load for one window: a row of `trials.csv`, written after its requests.

    The row is the commit mark: requests without it are the torn tail of a killed run.
    """

    requests: int  # rows of this trial in requests.csv
    measured: int  # of these, rows of phase measure
    failed: int  # of the measured, those without a good answer
    in_flight_max: int  # most requests in flight at once, pings left out
    capped: int  # open loop: requests that were due while the cap was in flight, and so were sent late
    window_start_ms: float  # the measured window, from the trial's start
    window_end_ms: float
    client_cpu_ms: float  # CPU of the load generator's process over the whole trial
    client_lag_p99_ms: float | None  # lateness of its event loop, by a beat of 5 ms
    client_lag_max_ms: float | None
    load_before: float | None  # from here on: see Noise
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
    state: str  # ok, failed, or invalid (the client sent late, or not at all)
    error: str  # why it is not ok


OK = "ok"
FAILED = "failed"
INVALID = "invalid"


class Cause(enum.Enum):
    """Why a trial is not ok."""

    SERVER_ENDED = enum.auto()
    NOTHING_MEASURED = enum.auto()
    NO_GOOD_ANSWER = enum.auto()
    OWN_LIMIT = enum.auto()  # that the load generator met
    SENT_LATE = enum.auto()


class Fault(NamedTuple):
    """What is wrong with a trial; a row keeps the words."""

    cause: Cause
    words: str

    @property
    def state(self) -> str:
        return INVALID if self.cause in (Cause.OWN_LIMIT, Cause.SENT_LATE) else FAILED


def judge(outcome: Outcome, *, ended: str = "", late: str = "") -> Fault | None:
    """What is wrong with a trial; None when it is ok.

    ended: how its server ended, if it did. late: why its requests were sent too late, if they were.
    """
    if ended:
        return Fault(Cause.SERVER_ENDED, ended)
    if ours := own_limits.why_invalid(shot.error for shot in outcome.shots):
        return Fault(Cause.OWN_LIMIT, ours)
    errors = [shot.error for shot in outcome.shots if shot.phase == MEASURE]
    if not errors:
        return Fault(Cause.NOTHING_MEASURED, "no request fell into the measured window")
    if all(errors):  # the trial says nothing about speed
        commonest = in_words(statistics.mode(errors), outcome.bad_answers)
        return Fault(Cause.NO_GOOD_ANSWER, f"none of {len(errors)} requests got a good answer ({commonest})")
    return Fault(Cause.SENT_LATE, late) if late else None


def to_rows(
    identity: Identity, outcome: Outcome, *, started_at: str, fault: Fault | None, noise: Noise = UNKNOWN
) -> tuple[Trial, list[Sample]]:
    """A trial's row and its requests' rows; all are kept, whatever is wrong with the trial."""
    measured = [shot for shot in outcome.shots if shot.phase == MEASURE]
    trial = Trial(
        **dataclasses.asdict(identity),
        requests=len(outcome.shots),
        measured=len(measured),
        failed=sum(bool(shot.error) for shot in measured),
        **{name: value for name, value in outcome._asdict().items() if name not in _NOT_OF_A_TRIAL},
        **noise._asdict(),
        started_at=started_at,
        state=fault.state if fault else OK,
        error=fault.words if fault else "",
    )
    names = {name: getattr(identity, name) for name in ("arm", "strategy", "load", "block", "trial")}
    return trial, [_to_sample(names, shot) for shot in outcome.shots]


def in_words(error: str, bad_answers: Mapping[str, str]) -> str:
    """An error, and where it is known what the answer says: `HTTP 422: body.text: Field required`."""
    said = bad_answers.get(error, "")
    return f"{error}: {said}" if said else error


def has_logs(record: Mapping[str, Any]) -> bool:
    """Whether the run of this run.json has started its servers: of others there is no log in its folder."""
    plan = record.get("plan")  # `execbench load` has none
    return plan is not None and not any(arm.get("url") for arm in plan["arms"])


def _to_sample(names: dict[str, Any], shot: Shot) -> Sample:
    seen_by_client = shot._asdict()
    seen_by_server = dataclasses.asdict(seen_by_client.pop("timings"))
    return Sample(**names, **seen_by_client, **seen_by_server)


def header(row_type: type[Row]) -> list[str]:
    """Column names of a CSV of `row_type`, in order."""
    return [field.name for field in dataclasses.fields(row_type)]


def to_cells(row: Sample | Trial) -> list[str]:
    """One CSV line. Floats carry three decimals (a microsecond, in milliseconds); None is empty."""
    return [_cell(getattr(row, field.name)) for field in dataclasses.fields(row)]


def column_types(row_type: type[Row]) -> dict[str, type]:
    """Column name → str, int or float; says nothing of whether it may be empty."""
    found: dict[str, type] = {}
    for name, hint in typing.get_type_hints(row_type).items():
        (found[name],) = (kind for kind in typing.get_args(hint) or (hint,) if kind is not types.NoneType)
    return found


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
