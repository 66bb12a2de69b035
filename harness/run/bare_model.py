"""The model limit: the throughput of the bare model, which no service around it can exceed.

`python -m harness.run.bare_model` calls the model in a loop, in its own process. It reads a `Job` as JSON
from the first line of stdin and answers with a line on stdout once the model is loaded. Each further line of
stdin asks for one turn: each batch size is timed, and the times are the answer. The model's library chooses
its own threads, so that the loop can use all cores. The awaited I/O is not included.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import workloads
from harness.errors import HarnessError, from_child, to_parent
from harness.plans import bare_models
from harness.system import children, garbage, streams
from harness.wire.load_options import LoadOptions
from harness.wire.options import ServerOptions, WorkloadOptions
from harness.wire.records import MEASURE, PILOT_BLOCK
from harness.wire.setting import Frozen

if TYPE_CHECKING:
    from harness.plans.plan import Plan
    from harness.run.generators import LoadGenerator
    from harness.run.record import Record
    from harness.run.supervisor import Supervisor

WARM_UPS = 2  # a shape's first call plans its kernels
NULL_USERS = 32
NULL_S = 1.5

_NOTHING = ServerOptions(
    strategy="inline", workload=WorkloadOptions(name="synthetic", service_ms=0.0, io_ms=0.0)
)


class Job(Frozen):
    """What the child process measures."""

    workload: WorkloadOptions
    sizes: tuple[int, ...]
    each_s: float  # seconds for each batch size in a turn
    seed: int  # of the texts


# -- the run's side ------------------------------------------------------------------------------------


class BareModels:
    """The bare models of a plan, timed before the servers start and at the start of each block.

    As the speed of a machine changes during a run, an arm's share of the limit is taken within each block.
    The models stay loaded in between. Servers are idle while they are timed; the plan's `neighbours` are not.
    run.json has the times as `limits`: for each distinct model, `arms` (the names of the arms that run it),
    `workload` (its options in the loop), `about` (the model as loaded), `by_block` (block → batch size →
    median ms of a call; block 0 is before the servers start) and `batches` (batch size → the median over
    blocks; of block 0 only if there is no other).
    """

    def __init__(
        self, plan: Plan, supervisor: Supervisor, record: Record, *, log: Path, cpus: tuple[int, ...] = ()
    ) -> None:
        self._plan = plan
        self._supervisor = supervisor
        self._record = record
        self._log = log
        self._cpus = cpus
        self._limits: list[dict[str, Any]] = []
        self._models: list[BareModel] = []

    def __enter__(self) -> BareModels:
        """Load the models, and time them. Raises HarnessError if one cannot be loaded or run."""
        with ExitStack() as stack:
            for workload, arms in bare_models.of_plan(self._plan):
                model = stack.enter_context(closing(self._model(workload, arms[0])))
                self._models.append(model)
                self._limits.append(
                    {
                        "arms": arms,
                        "workload": workload.model_dump(mode="json"),
                        "about": model.load(),
                        "by_block": self._earlier_blocks(arms),
                    }
                )
            self.measure(PILOT_BLOCK)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes; the second time, do nothing."""
        self._stack.close()

    def _model(self, workload: WorkloadOptions, arm: str) -> BareModel:
        plan = self._plan
        job = Job(
            workload=workload,
            sizes=bare_models.sizes(plan),
            each_s=plan.limit_s,
            seed=plan.block_seed(PILOT_BLOCK),
        )
        interpreter = next(one.python for one in plan.every_arm if one.name == arm)
        return BareModel(job, self._supervisor, log=self._log, cpus=self._cpus, interpreter=interpreter)

    def _earlier_blocks(self, arms: list[str]) -> dict[str, Any]:
        """The times of the blocks before a run was resumed."""
        return next(
            (one.get("by_block") or {} for one in self._record["limits"] or [] if one["arms"] == arms), {}
        )

    def measure(self, block: int) -> list[str]:
        """Time each model once more, and record it as of this block.

        Returns messages about models whose process has ended, which are not timed any more.
        """
        ended: list[str] = []
        for limit, model in zip(self._limits, self._models, strict=True):
            if model.is_lost:
                continue
            try:
                limit["by_block"] = {**limit["by_block"], str(block): model.turn()}
            except HarnessError as error:
                if block == PILOT_BLOCK:
                    raise
                ended.append(f"{error} {', '.join(limit['arms'])} have no limit from block {block} on.")
            limit["batches"] = _medians(limit["by_block"])
        self._record.note(limits=self._limits)
        return ended


def _medians(by_block: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Batch size → the median over blocks."""
    turns = [turn for block, turn in by_block.items() if int(block) != PILOT_BLOCK] or [*by_block.values()]
    return {size: statistics.median(turn[size] for turn in turns) for size in turns[0]}


class BareModel:
    """A process with a bare model, which waits to be asked for a turn. It ends with the supervisor."""

    def __init__(
        self,
        job: Job,
        supervisor: Supervisor,
        *,
        log: Path,
        cpus: tuple[int, ...] = (),
        interpreter: str | None = None,
    ) -> None:
        """Start the process, in this Python or another."""
        from harness.system import pinning  # not at the top: the child may lack psutil in another Python

        self.is_lost = False  # whether its process has ended by itself
        self._job = job
        self._log = log
        with children.open_log(log) as stream:
            self._process = supervisor.spawn(
                "harness.run.bare_model",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                interpreter=interpreter,
            )
        if cpus:
            pinning.apply(self._process.pid, cpus)  # it waits for its job and has loaded nothing yet

    def load(self) -> dict[str, Any]:
        """Load the model and call it with each size; return its facts."""
        facts: dict[str, Any] = self._ask(self._job.model_dump_json())["about"]
        return facts

    def turn(self) -> dict[str, float]:
        """Batch size → median milliseconds of a call, in one turn of all sizes."""
        found: dict[str, float] = self._ask("")["times"]
        return found

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()  # do not read to its end: a child of the model may have it open

    def _ask(self, line: str) -> dict[str, Any]:
        """Send a line; return the answer. Raises HarnessError with the child's error, or if it has ended."""
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            self.is_lost = True
            raise HarnessError(
                f"The process that times the bare model ended (exit code {self._process.wait()}).",
                stage="limit",
                hint=f"See {self._log}.",
            )
        found: dict[str, Any] = json.loads(answer)
        if "error" in found:
            raise from_child(found["error"])
        return found


def null_request_ms(
    supervisor: Supervisor, loader: LoadGenerator, load: LoadOptions, *, log: Path, cpus: tuple[int, ...] = ()
) -> float:
    """Milliseconds per request (1 / throughput) of service and client without model and I/O.

    Measured in a closed loop on the same app: mean latency / users, by Little's law. `load` is a closed loop
    whose url is a path; its window is replaced.
    """
    from harness.run import server_process  # not at the top, as above

    window = {"requests": None, "duration_s": NULL_S, "settle_s": 0.3}
    quiet = {"warmup_requests": 10 * load.connections, "ping_url": None, "probe_loop": False}
    with server_process.start("null", _NOTHING, supervisor, log=log, cpus=cpus) as child:
        child.wait_ready()
        outcome = loader.run(load.model_copy(update=window | quiet).at(child.url))
    if outcome.counts.errors:
        raise HarnessError(
            "A request without model and I/O got no good answer.", stage="limit", hint=f"See {log}."
        )
    took_ms = [shot.done_ms - shot.due_ms for shot in outcome.shots if shot.phase == MEASURE]
    return statistics.fmean(took_ms) / load.connections


# -- the child -----------------------------------------------------------------------------------------


def main() -> None:
    answers = streams.reserve_stdout()
    try:
        for answer in _answers(sys.stdin):
            answers.write(f"{json.dumps(answer)}\n")
            answers.flush()
    except Exception as error:  # noqa: BLE001 - the parent shows it
        failed = to_parent(error, failed="The bare model cannot be measured", stage="limit")
        answers.write(f"{json.dumps({'error': failed})}\n")
    answers.close()


def _answers(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The facts of the loaded model, then the times of one turn for each further line."""
    job = Job.model_validate_json(next(lines))
    workload = workloads.create(job.workload)
    os.environ.update(workload.environment())  # read by the model's library when `load` imports it
    model = workload.load()
    if job.workload.gc_freeze:
        garbage.freeze()
    texts = workloads.texts(job.workload, job.seed)

    def call(items: list[str]) -> None:
        workload.predict(model, items)

    for size in job.sizes * WARM_UPS:
        call(list(itertools.islice(texts, size)))
    yield {"about": dict(workload.about(model))}
    for _ in lines:
        texts = workloads.texts(job.workload, job.seed)  # each turn has the same texts
        yield {"times": {str(size): time_call_ms(call, size, texts, job.each_s) for size in job.sizes}}


def time_call_ms(call: Callable[[list[str]], object], size: int, texts: Iterator[str], for_s: float) -> float:
    """Median milliseconds of a call with `size` items, over at least `for_s` seconds and one call.

    Each call gets the next texts, as requests would bring them.
    """
    times: list[float] = []
    ends = time.perf_counter() + for_s
    while True:
        batch = list(itertools.islice(texts, size))
        began = time.perf_counter()
        call(batch)
        ended = time.perf_counter()
        times.append((ended - began) * 1e3)
        if ended >= ends:
            return statistics.median(times)


if __name__ == "__main__":
    main()
