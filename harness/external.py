"""Our load on a server that somebody else started. Leaves a run folder like any other."""

from __future__ import annotations

from typing import Any

from harness import environment
from harness.arrivals import closed
from harness.clock import utc_now
from harness.errors import HarnessError
from harness.loader import Loader
from harness.options import LoadOptions
from harness.records import Identity, Trial, to_rows
from harness.run import Listener, sent_late
from harness.store import Writer
from harness.supervisor import Supervisor

ARM = "server"


def load(options: LoadOptions, writer: Writer, listener: Listener) -> Trial:
    """Ask once, then run one trial of `options` and save it.

    Raises HarnessError when the first request gets no answer at all.
    """
    with Supervisor() as supervisor, Loader(supervisor) as loader:
        listener.stage("asking once")
        _ask_once(loader, options, listener)
        record: dict[str, Any] = {
            "plan": None,
            "load": options.model_dump(mode="json"),
            "environment": environment.collect(),
            "started_at": utc_now(),
        }
        writer.write_record({**record, "state": "running"})
        listener.stage(f"load on {options.url}")
        outcome = loader.run(options, listener.progress)
        trial, samples = to_rows(
            _identity(options),
            outcome,
            started_at=record["started_at"],
            invalid=sent_late(options, outcome),
        )
        writer.append(trial, samples)
        writer.write_record({**record, "ended_at": utc_now(), "state": "finished"})
        writer.close()
    return trial


def _ask_once(loader: Loader, options: LoadOptions, listener: Listener) -> None:
    one = options.model_copy(
        update={"arrivals": closed(1), "requests": 1, "duration_s": None, "warmup_requests": 0}
    )
    first = loader.run(one, listener.progress).shots[0]
    if first.status is None:
        raise HarnessError(
            f"{options.url} does not answer ({first.error}).",
            stage="load",
            hint="Is the server running, and is that its port? `execbench serve STRATEGY` starts one.",
        )


def _identity(options: LoadOptions) -> Identity:
    return Identity(
        trial=1,
        block=1,
        position=0,
        arm=ARM,
        strategy="",
        load=str(options.arrivals),
        concurrency=options.arrivals.users,
        rate_per_s=options.arrivals.rate_per_s,
        schedule=options.schedule,
        io_nominal_ms=None,
    )
