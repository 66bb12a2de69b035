"""Send load to a server that already runs, and save the result as a run."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from harness import environment, workloads
from harness.errors import HarnessError
from harness.results.store import Writer
from harness.run import generators
from harness.run.foreign_server import first_answer
from harness.run.generators import LoadGenerator
from harness.run.listener import Listener
from harness.run.load_generator import Sink
from harness.run.supervisor import Supervisor
from harness.run.trials import sent_late
from harness.system import signals
from harness.wire.clock import utc_now
from harness.wire.load_options import LoadOptions
from harness.wire.records import Identity, Outcome, Trial, judge, to_rows

ARM = "server"


def load(options: LoadOptions, writer: Writer, listener: Listener) -> Trial:
    """Check the server with one request, then run one trial of `options` and save it.

    Raises HarnessError if the first request gets no answer, or the load generator dies. On KeyboardInterrupt,
    saves what was measured, if anything, and raises it again.
    """
    with Supervisor() as supervisor, generators.opened(options.generators, supervisor) as loader:
        listener.stage("checking the server with one request")
        first = first_answer(loader, options, listener, whose=options.url)
        options = options.model_copy(update={"keep_alive": not first.ended})
        texts = options.texts
        record: dict[str, Any] = {
            "plan": None,
            "load": options.model_dump(mode="json", exclude={"share", "start_at_ms", "most_generators"}),
            "payloads_sha256": None if texts is None else workloads.payloads_sha256(texts.workload),
            "environment": environment.collect(),
            "started_at": utc_now(),
        }
        writer.write_record({**record, "state": "running"})
        listener.stage(f"sending load to {options.url}")
        identity = Identity(
            trial=1,
            block=1,
            position=0,
            arm=ARM,
            strategy="",
            load=str(options.arrivals),
            concurrency=options.arrivals.users,
            rate_per_s=options.arrivals.rate_per_s,
            schedule="",  # known at the end: it takes seconds for millions of requests
            io_nominal_ms=None,
        )
        save = functools.partial(writer.stream, identity)
        try:
            outcome, interrupt = _measured(loader, options, listener, save)
        except (HarnessError, KeyboardInterrupt) as error:
            why = {"state": "interrupted"}
            if isinstance(error, HarnessError):
                why = {"state": "failed", "error": error.what}
            writer.write_record({**record, "ended_at": utc_now(), **why})
            raise
        with signals.deferred():  # save what was measured before Ctrl-C ends the command
            fault = judge(outcome, late=sent_late(options, outcome))
            schedule = options.schedule
            identity = dataclasses.replace(identity, schedule=schedule)
            trial, _ = to_rows(identity, outcome, started_at=record["started_at"], fault=fault)
            writer.finish(trial)
            writer.append_generators(trial.trial, outcome.generators)
            state = "finished" if interrupt is None else "interrupted"
            ended = {"ended_at": utc_now(), "state": state, "bad_answers": dict(outcome.bad_answers)}
            schedules = {identity.load: {"1": schedule}} if schedule else {}
            writer.write_record({**record, **ended, "schedules": schedules})
        writer.close()
    if interrupt is not None:
        raise interrupt
    return trial


def _measured(
    loader: LoadGenerator, options: LoadOptions, listener: Listener, save: Sink
) -> tuple[Outcome, KeyboardInterrupt | None]:
    """The outcome of the trial, and the interrupt that cut it short, if any."""
    try:
        return loader.run(options, listener.progress, save, keep_shots=False), None
    except KeyboardInterrupt as interrupt:
        outcome = loader.hand_over()
        if outcome is None or not outcome.counts.measured:
            raise
        return outcome, interrupt
