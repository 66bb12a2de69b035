"""A run as a trace for Perfetto or chrome://tracing, in the Trace Event Format. Pure, but for `write`.

Each arm is a process. Its requests are nestable async slices, from the time that a request was due until its
answer was complete, with their parts in them. Each worker is a thread with a slice for each call of the
model: requests of one batch share a slice. One more process has a slice for each trial. Times are whole
microseconds, as in requests.csv. The trials follow each other as they did in the run.
"""

from __future__ import annotations

import gzip
import heapq
import itertools
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.analysis.rows import Rows, arms_of
from harness.numbers import counted
from harness.report.choice import STALLED_PING_MS
from harness.results.store import Run
from harness.verdicts.metrics import facts
from harness.wire.records import PILOT_BLOCK, PING

NAME = "trace.json.gz"
VIEWER = "https://ui.perfetto.dev"
MOST_REQUESTS = 100_000  # in the trace; these are some 10 MB

Event = dict[str, Any]
Microseconds = npt.NDArray[np.int64]
Milliseconds = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

REQUEST, FAILED = "request", "failed request"
LAG, OUTSIDE, QUEUE, WORKER, BACK, IO, MODEL = (
    *("dispatch lag", "outside", "queue", "worker", "way back", "I/O"),
    "model",  # of a server that reports one time for queue, worker and way back
)
STALL, FAILED_PING, IN_FLIGHT = "loop stall", "failed ping", "in flight"
_SERVER_PARTS = {QUEUE: "queue_ms", WORKER: "model_ms", BACK: "resume_ms", IO: "io_ms"}
_SHOWN = ("seq", "phase", "status", "error", "batch_size")  # as args of a request
_COLUMNS = [
    *("due_ms", "sent_ms", "done_ms", "entered_ms", *_SERVER_PARTS.values(), "handler_ms", "worker_pid"),
    *_SHOWN,
]
_KINDS = {"seq": np.int64, "phase": np.object_, "error": np.object_}  # all other columns may be empty
_ROUNDING_US = 2  # of two stamps that were the same time
_WORKER_PLACE = 3  # of the worker among the parts of a request
_RUN_PID = 1  # the process of the trials; the arms follow
_FIRST_TID = 1001  # no number is a process and a thread: a viewer would take it for a main thread
_ENCODED_AT_ONCE = 4096  # events


# -- what is shown -------------------------------------------------------------------------------------


class Selection(NamedTuple):
    """The trials in a trace."""

    trials: list[int]
    requests_each: int | None = None  # the first of each trial; None for all
    left_out: str = ""  # what the trace does not have, as a sentence; "" if it has all


def select(sizes: pd.DataFrame, most: int = MOST_REQUESTS) -> Selection:
    """All trials if they have at most `most` requests; else whole blocks, spread evenly over the run.

    `sizes` has the columns trial, block and requests. A block that is too large on its own is cut: the trace
    then has the first requests of each trial of the first block.
    """
    total = int(sizes["requests"].sum())
    if total <= most:
        return Selection(sizes["trial"].tolist())
    if (sizes["block"] != PILOT_BLOCK).any():
        sizes = sizes[sizes["block"] != PILOT_BLOCK]
    blocks = sizes.groupby("block")["requests"].sum()
    for count in range(min(len(blocks), int(most // max(blocks.min(), 1))), 0, -1):
        places = np.linspace(0, len(blocks) - 1, count).round().astype(int)
        shown = blocks.iloc[places]
        if shown.sum() <= most:
            kept = sizes[sizes["block"].isin(shown.index)]["trial"].tolist()
            words = f"{count} of {counted(len(blocks), 'block')}, spread evenly over the run"
            return Selection(kept, None, _left_out(words, int(shown.sum()), total))
    first = sizes[sizes["block"] == blocks.index[0]].iloc[:most]
    each = most // len(first)
    words = f"the first requests of each trial of block {blocks.index[0]}"
    return Selection(
        first["trial"].tolist(), each, _left_out(words, int(first["requests"].clip(upper=each).sum()), total)
    )


def _left_out(words: str, shown: int, total: int) -> str:
    return f"The trace has {words}: {shown:,} of {total:,} requests."


# -- writing -------------------------------------------------------------------------------------------


def write(folder: Path, run: Run, most: int = MOST_REQUESTS) -> str:
    """Write `NAME` into `folder`; return what it leaves out, or "". The same run gives the same bytes.

    Only one trial at a time is in memory, and of its events a few thousand.
    """
    arms = [*facts(run.record).arms, *run.trials["arm"]]  # in the plan's order, then the twin
    rows = Rows.of(run.rows, run.trials, arms=list(dict.fromkeys(arms)), pilot=True, pings=True)
    chosen = select(rows.trials.assign(requests=rows.trials["end"] - rows.trials["begin"]), most)
    about = {"run": run.folder.resolve().name, "left_out": chosen.left_out}
    with (
        (folder / NAME).open("wb") as packed,
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, compresslevel=5, mtime=0) as stream,
    ):
        for text in _document(about, events(rows, run.trials, chosen, about["run"])):
            stream.write(text.encode("ascii"))
    return chosen.left_out


def _document(about: Mapping[str, str], found: Iterator[Event]) -> Iterator[str]:
    """The JSON document in pieces."""
    yield f'{{"displayTimeUnit":"ms","otherData":{json.dumps(about)},"traceEvents":['
    separator = "\n"
    while part := list(itertools.islice(found, _ENCODED_AT_ONCE)):
        yield separator + json.dumps(part, separators=(",", ":"))[1:-1]
        separator = ",\n"
    yield "\n]}\n"


# -- events --------------------------------------------------------------------------------------------


def events(rows: Rows, trials: pd.DataFrame, chosen: Selection, name: str) -> Iterator[Event]:
    """The events of the chosen trials. `trials` are the rows of trials.csv, `name` is that of the run."""
    of_run = trials.set_index("trial").loc[chosen.trials]
    pids = {arm: pid for pid, arm in enumerate(arms_of(rows), _RUN_PID + 1)}
    yield from _named_process(_RUN_PID, f"run {name}")
    for arm, pid in pids.items():
        yield from _named_process(pid, str(arm))
    threads, ids = _Threads(), itertools.count(1)
    lane = threads.of(_RUN_PID, "trials")
    first, free = None, 0
    for number, row in of_run.iterrows():
        frame = _frame(rows.only(rows.trials["trial"] == number), chosen.requests_each)
        started = _microseconds(row["started_at"])
        first = started if first is None else first
        # a trial never begins before the one before it has ended, whatever the wall clock says
        begin = max(free, (started or 0) - (first or 0))
        stamped = _Stamped(frame, begin - min(0, _whole(frame["due_ms"].min())), pids[row["arm"]])
        free = max(begin, stamped.end)
        yield from threads.new()
        yield _slice(_trial_name(row), _RUN_PID, lane, begin, free, _trial_args(number, row))
        yield from _in_flight(stamped)
        yield from _stalls(stamped)
        yield from _requests(stamped, ids)
        yield from _calls(stamped, threads)


def _frame(rows: Rows, most: int | None) -> pd.DataFrame:
    """A trial's requests, or the first of them."""
    return next(rows.parts(_COLUMNS, most)) if most else rows.frame(_COLUMNS)


def _microseconds(started_at: str) -> int | None:
    """A time in ISO 8601 as microseconds since 1970; None if it is not one."""
    try:
        at = datetime.fromisoformat(started_at)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return round((at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1e6)


def _whole(ms: float) -> int:
    return round(ms * 1000.0)


def _trial_name(row: pd.Series[Any]) -> str:
    block = "pilot" if row["block"] == PILOT_BLOCK else f"block {row['block']}"
    return f"{block}, {row['load']}, {row['arm']}"


def _trial_args(number: Any, row: pd.Series[Any]) -> dict[str, Any]:
    names = ("arm", "load", "state", "started_at")
    return {"trial": int(number), "block": int(row["block"]), **{name: str(row[name]) for name in names}}


class _Stamped:
    """A trial's requests as columns, with stamps in microseconds on the axis of the trace."""

    def __init__(self, frame: pd.DataFrame, origin: int, pid: int) -> None:
        columns: dict[str, npt.NDArray[Any]] = {
            name: np.asarray(frame[name], dtype=_KINDS.get(name, np.float64)) for name in _COLUMNS
        }
        is_ping = columns["phase"] == PING
        self.pid, self.origin = pid, origin
        due, done = self.at(columns["due_ms"]), self.at(columns["done_ms"])
        columns["due"], columns["done"] = due, np.maximum(done, due)
        columns["sent"] = np.clip(self.at(columns["sent_ms"]), due, columns["done"])
        self.pings = {name: values[is_ping] for name, values in columns.items()}
        self.load = {name: values[~is_ping] for name, values in columns.items()}
        self.end = int(columns["done"].max())

    def at(self, ms: Milliseconds) -> Microseconds:
        return self.origin + np.rint(ms * 1000.0).astype(np.int64)


def _requests(trial: _Stamped, ids: Iterator[int]) -> Iterator[Event]:
    """An async slice for each request, with its parts in it: pairs that share an id and a category."""
    names, cuts, there = _parts(trial)
    args = [trial.load[name].tolist() for name in _SHOWN]
    for request, times, known, *shown in zip(names, cuts.tolist(), there.tolist(), *args, strict=True):
        given = {
            name: value for name, value in zip(_SHOWN, shown, strict=True) if value == value and value != ""
        }
        name = FAILED if "error" in given else REQUEST
        base = {"cat": REQUEST, "pid": trial.pid, "tid": trial.pid, "id2": {"local": hex(next(ids))}}
        begin: Event = {"name": name, "ph": "b", "ts": times[0], **base, "args": _whole_numbers(given)}
        yield begin | {"cname": "bad"} if name == FAILED else begin
        for part, start, end, is_known in zip(request, times[:-1], times[1:], known, strict=True):
            if is_known and end > start:
                yield {"name": part, "ph": "b", "ts": start, **base}
                yield {"name": part, "ph": "e", "ts": end, **base}
        yield {"name": name, "ph": "e", "ts": times[-1], **base}


def _whole_numbers(args: dict[str, Any]) -> dict[str, Any]:
    return {name: int(value) if isinstance(value, float) else value for name, value in args.items()}


def _parts(trial: _Stamped) -> tuple[list[tuple[str, ...]], Microseconds, Bools]:
    """Per request: the names of its parts in order, the times between which they lie, and which are known.

    The last time is that of the complete answer. No time is before the one to its left, or out of the
    request: the clock of another host could say so.
    """
    load = trial.load
    due, sent, done = load["due"], load["sent"], load["done"]
    entered_ms, handler_ms = load["entered_ms"], load["handler_ms"]
    lengths = np.column_stack([load[name] for name in _SERVER_PARTS.values()])
    # with a worker on another host, the moments of its parts are not known
    lengths[_has_model_alone(load) & ~np.isnan(load["worker_pid"])] = np.nan
    ends_ms = entered_ms[:, None] + np.cumsum(np.nan_to_num(lengths), axis=1)
    left_ms = np.where(np.isnan(handler_ms), ends_ms[:, -1], entered_ms + handler_ms)
    on_server = ~np.isnan(entered_ms)[:, None]
    server_ms = np.where(on_server, np.column_stack([entered_ms, ends_ms, left_ms]), 0.0)
    cuts = np.column_stack([due, sent, np.where(on_server, trial.at(server_ms), sent[:, None]), done])
    cuts = np.maximum.accumulate(np.minimum(cuts, done[:, None]), axis=1)
    always, never = np.ones((len(due), 1), dtype=bool), np.zeros((len(due), 1), dtype=bool)
    known = ~np.isnan(lengths) & on_server
    answered = ~np.isnan(handler_ms)[:, None] & on_server
    there = np.column_stack([always, on_server, known, never, answered])
    whole, split = ((LAG, OUTSIDE, QUEUE, name, BACK, IO, "", OUTSIDE) for name in (MODEL, WORKER))
    unsplit = _has_model_alone(load) & np.isnan(load["worker_pid"])
    return [whole if one else split for one in unsplit.tolist()], cuts, there


def _has_model_alone(load: Mapping[str, Any]) -> Any:
    return np.isnan(load["queue_ms"]) & np.isnan(load["resume_ms"])


def _in_flight(trial: _Stamped) -> Iterator[Event]:
    """The number of requests that were sent and have no complete answer, whenever it changes."""
    sent, done = trial.load["sent"], trial.load["done"]
    times, places = np.unique(np.concatenate([sent, done]), return_inverse=True)
    steps = np.zeros(len(times), dtype=np.int64)
    np.add.at(steps, places, np.repeat([1, -1], len(sent)))
    for time, count in zip(times.tolist(), steps.cumsum().tolist(), strict=True):
        yield {"name": IN_FLIGHT, "ph": "C", "ts": time, "pid": trial.pid, "args": {"requests": count}}


def _stalls(trial: _Stamped) -> Iterator[Event]:
    """An instant for each ping that the event loop kept waiting, or that got no good answer."""
    pings = trial.pings
    sent = pings["sent"].tolist()
    took_ms = (pings["done_ms"] - pings["due_ms"]).tolist()  # as costs.csv has them
    for time, ping_ms, error in zip(sent, took_ms, pings["error"].tolist(), strict=True):
        if ping_ms <= STALLED_PING_MS and not error:
            continue
        why = error or f"a route without a model took longer than {STALLED_PING_MS:g} ms"
        args = {"ping_ms": round(ping_ms, 3), "because": why}
        base = {"name": FAILED_PING if error else STALL, "cat": PING, "ph": "i", "s": "p", "ts": time}
        yield {**base, "pid": trial.pid, "tid": trial.pid, "args": args}


# -- workers -------------------------------------------------------------------------------------------


class _Threads:
    """The numbers of the trace's threads, with events that name them."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str], int] = {}
        self._new: list[Event] = []

    def of(self, pid: int, name: str) -> int:
        found = self._known.get((pid, name))
        if found is None:
            found = self._known[pid, name] = _FIRST_TID + len(self._known)
            for kind, value in (
                ("thread_name", {"name": name}),
                ("thread_sort_index", {"sort_index": found}),
            ):
                self._new.append({"name": kind, "ph": "M", "pid": pid, "tid": found, "args": value})
        return found

    def new(self) -> Iterator[Event]:
        """The events of the threads that are new since the last call."""
        yield from self._new
        self._new = []


class _Call(NamedTuple):
    """One call of the model, with a request or a batch."""

    worker: int
    begin: int
    end: int
    batch_size: int
    seqs: list[int]


def _calls(trial: _Stamped, threads: _Threads) -> Iterator[Event]:
    """A slice for each call of the model. Calls that overlap are in different lanes of their worker.

    These are the threads of a pool: a request tells the process of its worker, not the thread.
    """
    lanes: dict[int, list[tuple[int, int]]] = {}  # worker → heap of when each lane is free, and its number
    for call in _of_batches(trial):
        of_worker = lanes.setdefault(call.worker, [])
        free, lane = of_worker[0] if of_worker else (0, 1)
        if free > call.begin + _ROUNDING_US:
            free, lane = 0, len(of_worker) + 1
        begin = max(call.begin, free)
        end = max(begin, call.end)
        (heapq.heapreplace if lane <= len(of_worker) else heapq.heappush)(of_worker, (end, lane))
        name = f"worker {call.worker}" + (f", thread {lane}" if lane > 1 else "")
        tid = threads.of(trial.pid, name)
        yield from threads.new()
        args = {"batch_size": call.batch_size, "requests": call.seqs}
        what = "model" if call.batch_size == 1 else f"batch of {call.batch_size}"
        yield _slice(what, trial.pid, tid, begin, end, args)


def _of_batches(trial: _Stamped) -> list[_Call]:
    """The calls of the model, in order of their beginning."""
    load = trial.load
    _, cuts, _ = _parts(trial)
    begin, end = cuts[:, _WORKER_PLACE], cuts[:, _WORKER_PLACE + 1]
    sizes = np.nan_to_num(load["batch_size"], nan=1.0)
    known = ~np.isnan(load["entered_ms"] + load["queue_ms"] + load["model_ms"] + load["worker_pid"])
    order = np.flatnonzero(known)
    order = order[np.lexsort((begin[order], load["worker_pid"][order]))]
    columns = (
        *(load["worker_pid"][order].astype(np.int64), begin[order], end[order]),
        *(sizes[order].astype(np.int64), load["seq"][order]),
    )
    calls: list[_Call] = []
    for one, start, stop, size, seq in zip(*(values.tolist() for values in columns), strict=True):
        if calls and _is_same_call(calls[-1], one, start, stop, size):
            calls[-1].seqs.append(seq)
        else:
            calls.append(_Call(one, start, stop, size, [seq]))
    return sorted(calls, key=lambda call: call.begin)


def _is_same_call(call: _Call, worker: int, begin: int, end: int, size: int) -> bool:
    near = begin - call.begin <= _ROUNDING_US and abs(end - call.end) <= _ROUNDING_US
    return near and (call.worker, call.batch_size) == (worker, size) and len(call.seqs) < size


# -- kinds of events -----------------------------------------------------------------------------------


def _named_process(pid: int, name: str) -> Iterator[Event]:
    yield {"name": "process_name", "ph": "M", "pid": pid, "args": {"name": name}}
    yield {"name": "process_sort_index", "ph": "M", "pid": pid, "args": {"sort_index": pid}}


def _slice(name: str, pid: int, tid: int, begin: int, end: int, args: dict[str, Any]) -> Event:
    base = {"name": name, "cat": "run", "ph": "X", "pid": pid, "tid": tid}
    return {**base, "ts": begin, "dur": end - begin, "args": args}
