"""A participant of a plan: a strategy with its options, or a server that runs already."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

import strategies
from harness.wire import addresses, bounds
from harness.wire.options import (
    Frozen,
    Inject,
    Processes,
    ServerOptions,
    StrategyOptions,
    Workers,
    WorkloadOptions,
    with_io_spelt_out,
)

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=60)]

Pids = Annotated[
    tuple[Annotated[int, Field(gt=0, le=bounds.PID)], ...],
    BeforeValidator(lambda given: (given,) if isinstance(given, int) else given),
]  # in a plan file one may stand without brackets

Times = Annotated[float, Field(gt=0, le=1_000)]

ELSEWHERE = "url"  # what the column `strategy` holds of an arm that runs already


class Arm(Frozen):
    """A strategy with its options, or a server that runs already, under the name it has in tables."""

    name: Name
    strategy: str
    url: Annotated[str, AfterValidator(addresses.checked)] | None = None  # of a server that runs already
    pid: Pids = ()  # url: processes of that server which cannot be found from the one that listens
    workers: Workers | None = None  # None: the strategy's default
    options: StrategyOptions = Field(default_factory=dict)  # what else the strategy is told
    server_processes: Processes = 1  # uvicorn's --workers
    workload: Annotated[dict[str, Any], AfterValidator(with_io_spelt_out)] = Field(
        default_factory=dict
    )  # where this arm's differs from the plan's: backend, thread budget
    io_per_model: Times | None = None  # I/O as a multiple of the model's time alone, seen in a pilot
    inject: Inject = Inject()
    instrumented: bool = True

    @model_validator(mode="before")
    @classmethod
    def _names_its_strategy(cls, data: Any) -> Any:
        """None that we know where it runs already; `executor:package.module:factory` says an option too."""
        if not isinstance(data, dict):
            return data
        if data.get("url") is not None:
            data = {"strategy": ELSEWHERE, **data}
        strategy, _, factory = str(data.get("strategy", "")).partition(":")
        if not factory:
            return data
        return {**data, "strategy": strategy, "options": {**data.get("options", {}), "factory": factory}}

    @model_validator(mode="after")
    def _is_told_nothing_where_it_runs_already(self) -> Self:
        said = self.model_dump(exclude_defaults=True).keys() - {"name", "strategy", "url", "pid"}
        said |= {"strategy"} if self.strategy != ELSEWHERE else set()
        if self.url is not None and said:
            raise ValueError(f"a server that runs already cannot be told {', '.join(sorted(said))}")
        if self.url is None and self.pid:
            raise ValueError("pid names processes of a server that runs already, so it needs url")
        return self

    @property
    def chosen(self) -> strategies.Options:
        """What its strategy is told."""
        return strategies.Options(workers=self.workers, **self.options)

    @property
    def when_worker_dies(self) -> str:
        """What a killed worker means, in its strategy's words; of batches, in those of what runs them."""
        runs = self.chosen.over if self.strategy == "batch" else self.strategy
        return strategies.get(runs).WHEN_WORKER_DIES

    def own_workload(self, workload: WorkloadOptions) -> WorkloadOptions:
        """The plan's workload as this arm has it."""
        return WorkloadOptions.model_validate({**workload.model_dump(exclude_unset=True), **self.workload})

    def server_options(self, workload: WorkloadOptions, lone_model_ms: float | None = None) -> ServerOptions:
        """What its server is told; `lone_model_ms` is needed when the I/O is scaled to the model.

        Scaled I/O is whole milliseconds: asyncio's timers round up to those, so a fraction would be a lie.
        """
        workload = self.own_workload(workload)
        if self.io_per_model is not None:
            assert lone_model_ms is not None, "a scaled arm starts after the pilot"
            whole_ms = float(max(1, round(self.io_per_model * lone_model_ms)))
            workload = workload.model_copy(update={"io_ms": whole_ms})
        return ServerOptions(
            strategy=self.strategy,
            workers=self.workers,
            options=self.options,
            server_processes=self.server_processes,
            workload=workload,
            inject=self.inject,
            instrumented=self.instrumented,
        )
