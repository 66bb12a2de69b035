"""The bare models of a plan: what its limits are measured on. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.wire.options import IO_OPTIONS, WorkloadOptions

if TYPE_CHECKING:
    from harness.plans.plan import Plan

SIZES = (1, 2, 4, 8, 16, 32, 64)  # of batches


def of_plan(plan: Plan) -> list[tuple[WorkloadOptions, list[str]]]:
    """Each distinct model of our own arms, with the names of the arms that run it in the same Python.

    Without I/O, and with the library's own number of threads.
    """
    no_io = {name: WorkloadOptions.model_fields[name].default for name in IO_OPTIONS}
    bare = {**no_io, "io_ms": 0.0, "torch_threads": None, "onnx_threads": None}
    found: dict[tuple[str, str | None], tuple[WorkloadOptions, list[str]]] = {}
    for arm in plan.every_arm:
        if arm.is_foreign:
            continue
        workload = arm.own_workload(plan.workload).model_copy(update=bare)
        found.setdefault((workload.model_dump_json(), arm.python), (workload, []))[1].append(arm.name)
    return list(found.values())


def sizes(plan: Plan) -> tuple[int, ...]:
    """The batch sizes to measure: up to the first that holds an item of each user of a closed loop."""
    users = max(plan.concurrency, default=1)
    return tuple(size for size, smaller in zip(SIZES, (0, *SIZES), strict=False) if smaller < users)
