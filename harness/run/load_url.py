"""Send load to a server that already runs, and save the result as a run."""

from __future__ import annotations

from typing import Any

from harness import environment, workloads
from harness.errors import HarnessError
from harness.results.store import Writer
from harness.run.foreign_server import first_answer
from harness.run.listener import Listener
from harness.run.load_generator import Loader
from harness.run.supervisor import Supervisor
from harness.run.trials import sent_late
from harness.system import signals
from harness.wire.clock import utc_now
from harness.wire.load_options import LoadOptions
from harness.wire.records import MEASURE, Identity, Outcome, Trial, judge, to_rows

ARM = "server"


def load(options: LoadOptions, writer: Writer, listener: Listener) -> Trial:
    """Check the server with one request, then run one trial of `options` and save it.

    Raises HarnessError if the first request gets no answer, or the load generator dies. On KeyboardInterrupt,
    saves what was measured, if anything, and raises it again.
    """
    with Supervisor() as supervisor, Loader(supervisor) as loader:
        listener.stage("checking the server with one request")
        first = first_answer(loader, options, listener, whose=options.url)
        options = options.model_copy(update={"keep_alive": not first.ended})
        texts = options.texts
        record: dict[str, Any] = {
            "plan": None,
            "load": options.model_dump(mode="json"),
            "payloads_sha256": None if texts is None else workloads.payloads_sha256(texts.workload),
            "environment": environment.collect(),
            "started_at": utc_now(),
        }
        writer.write_record({**record, "state": "running"})
        listener.stage(f"sending load to {options.url}")
        try:
            outcome, interrupt = _measured(loader, options, listener)
        except HarnessError as error:
            writer.write_record({**record, "ended_at": utc_now(), "state": "failed", "error": error.what})
            raise
        with signals.deferred():  # save what was measured before Ctrl-C ends the command
            fault = judge(outcome, late=sent_late(options, outcome))
            identity = Identity(
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
            trial, samples = to_rows(identity, outcome, started_at=record["started_at"], fault=fault)
            writer.append(trial, samples)
            state = "finished" if interrupt is None else "interrupted"
            ended = {"ended_at": utc_now(), "state": state, "bad_answers": dict(outcome.bad_answers)}
            writer.write_record({**record, **ended})
        writer.close()
    if interrupt is not None:
        raise interrupt
    return trial


def _measured(
    loader: Loader, options: LoadOptions, listener: Listener
) -> tuple[Outcome, KeyboardInterrupt | None]:
    """The outcome of the trial, and the interrupt that cut it short, if any."""
    try:
        return loader.run(options, listener.progress), None
    except KeyboardInterrupt as interrupt:
        outcome = loader.hand_over()
        if outcome is None or not any(shot.phase == MEASURE for shot in outcome.shots):
            raise
        return outcome, interrupt
