"""The model limit: the throughput of the bare model, which no service around it can exceed.

`python -m harness.run.bare_model` calls the model in a loop, in its own process. It reads a `Job` as JSON
from stdin; the result is the last line of stdout. The model's library chooses its own threads, so that the
loop can use all cores. The awaited I/O is not included.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import workloads
from harness.errors import HarnessError, from_child, to_parent
from harness.system import children, streams
from harness.wire.arrivals import closed
from harness.wire.load_options import LoadOptions
from harness.wire.options import ServerOptions, WorkloadOptions
from harness.wire.records import MEASURE, PILOT_BLOCK
from harness.wire.setting import Frozen

if TYPE_CHECKING:
    from harness.plans.plan import Plan
    from harness.run.generators import LoadGenerator
    from harness.run.supervisor import Supervisor

BATCHES = (1, 2, 4, 8, 16, 32, 64)
ROUNDS = 5  # over all sizes, so that a disturbance of a second does not hit a single size
WARM_UPS = 2  # a shape's first call plans its kernels
NULL_USERS = 32
NULL_S = 1.5

_NOTHING = ServerOptions(
    strategy="inline", workload=WorkloadOptions(name="synthetic", service_ms=0.0, io_ms=0.0)
)


class Job(Frozen):
    """What the child process measures."""

    workload: WorkloadOptions
    each_s: float  # seconds for each batch size
    seed: int  # of the texts


# -- the run's side ------------------------------------------------------------------------------------


def measure_limits(
    plan: Plan, supervisor: Supervisor, loader: LoadGenerator, *, log: Path, cpus: tuple[int, ...] = ()
) -> dict[str, Any]:
    """Measure the model limits while nothing else of the run is active; return them as recorded in run.json.

    limits: for each distinct model, `arms` (the names of the arms that run it), `workload` (its options in
    the loop), `batches` ({"1": median ms of a call, …}) and `about` (the model as loaded). null_ms: see
    `null_request_ms`.
    """
    seed = plan.block_seed(PILOT_BLOCK)
    pythons = {arm.name: arm.python for arm in plan.every_arm}
    limits = [
        {
            "arms": arms,
            "workload": workload.model_dump(mode="json"),
            **run_child(
                Job(workload=workload, each_s=plan.limit_s, seed=seed),
                supervisor,
                log=log,
                cpus=cpus,
                interpreter=pythons[arms[0]],
            ),
        }
        for workload, arms in bare_workloads(plan)
    ]
    load = plan.load_options("", closed(NULL_USERS), PILOT_BLOCK)
    return {"limits": limits, "null_ms": null_request_ms(supervisor, loader, load, log=log, cpus=cpus)}


def bare_workloads(plan: Plan) -> list[tuple[WorkloadOptions, list[str]]]:
    """Each distinct model of our own arms, with the names of the arms that run it in the same Python.

    Without I/O, and with the library's own number of threads.
    """
    bare = {"torch_threads": None, "onnx_threads": None, "io": "sleep", "io_ms": 0.0}
    found: dict[tuple[str, str | None], tuple[WorkloadOptions, list[str]]] = {}
    for arm in plan.every_arm:
        if arm.is_foreign:
            continue
        workload = arm.own_workload(plan.workload).model_copy(update=bare)
        found.setdefault((workload.model_dump_json(), arm.python), (workload, []))[1].append(arm.name)
    return list(found.values())


def run_child(
    job: Job,
    supervisor: Supervisor,
    *,
    log: Path,
    cpus: tuple[int, ...] = (),
    interpreter: str | None = None,
) -> dict[str, Any]:
    """Run `job` in a child process, in this Python or another; return its `batches` and `about`.

    Raises HarnessError if the model cannot be loaded or run.
    """
    from harness.system import pinning  # not at the top: the child may lack psutil in another Python

    with children.open_log(log) as stream:
        process = supervisor.spawn(
            "harness.run.bare_model",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
            interpreter=interpreter,
        )
        try:
            if cpus:
                pinning.apply(process.pid, cpus)  # it waits for its job and has loaded nothing yet
            output, _ = process.communicate(job.model_dump_json())
        finally:
            process.kill()
            process.wait()
    return _parse_output(output, process.returncode, log)


def _parse_output(output: str, code: int, log: Path) -> dict[str, Any]:
    lines = output.splitlines()
    if code or not lines:
        raise HarnessError(
            f"The process that times the bare model ended (exit code {code}).",
            stage="limit",
            hint=f"See {log}.",
        )
    answer: dict[str, Any] = json.loads(lines[-1])
    if "error" in answer:
        raise from_child(answer["error"])
    return answer


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
        answer = _measure(Job.model_validate_json(sys.stdin.read()))
    except Exception as error:  # noqa: BLE001 - the parent shows it
        answer = {"error": to_parent(error, failed="The bare model cannot be measured", stage="limit")}
    answers.write(f"{json.dumps(answer)}\n")
    answers.close()


def _measure(job: Job) -> dict[str, Any]:
    workload = workloads.create(job.workload)
    os.environ.update(workload.environment())  # read by the model's library when `load` imports it
    model = workload.load()
    texts = workloads.texts(job.workload, job.seed)
    batches = call_times_ms(lambda items: workload.predict(model, items), texts, job.each_s)
    return {"batches": batches, "about": dict(workload.about(model))}


def call_times_ms(
    call: Callable[[list[str]], object], texts: Iterator[str], each_s: float
) -> dict[int, float]:
    """Batch size → median milliseconds of a call, over at least `each_s` seconds and `ROUNDS` calls per size.

    Each call gets the next texts, as requests would bring them.
    """
    for size in BATCHES * WARM_UPS:
        call(list(itertools.islice(texts, size)))
    found: dict[int, list[float]] = {size: [] for size in BATCHES}
    for _ in range(ROUNDS):
        for size, times in found.items():
            times += _turn_ms(call, size, texts, each_s / ROUNDS)
    return {size: statistics.median(times) for size, times in found.items()}


def _turn_ms(
    call: Callable[[list[str]], object], size: int, texts: Iterator[str], for_s: float
) -> Iterator[float]:
    ends = time.perf_counter() + for_s
    while True:
        batch = list(itertools.islice(texts, size))
        began = time.perf_counter()
        call(batch)
        ended = time.perf_counter()
        yield (ended - began) * 1e3
        if ended >= ends:
            return


if __name__ == "__main__":
    main()
