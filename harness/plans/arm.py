"""An arm of a plan: a strategy with its options, a command, or a server that already runs."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema

import strategies
from harness.wire import addresses, bounds
from harness.wire.options import ServerOptions, ServerSettings, WorkloadOptions
from harness.wire.panel import Panel
from harness.wire.server_command import ONLY_OF_COMMANDS, CommandSettings
from harness.wire.setting import Setting
from harness.wire.spelling import Interpreter, with_io_split

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=60)]

_PID_SCHEMA = {"type": "integer", "minimum": 1, "maximum": bounds.PID}
Pids = Annotated[
    tuple[Annotated[int, Field(gt=0, le=bounds.PID)], ...],
    BeforeValidator(lambda given: (given,) if isinstance(given, int) else given),
    WithJsonSchema({"anyOf": [_PID_SCHEMA, {"type": "array", "items": _PID_SCHEMA}]}),
]  # a plan file may give a single pid without brackets

_URL_SCHEMA = WithJsonSchema({"type": "string", "pattern": "^https?://"})

Times = Annotated[float, Field(gt=0, le=1_000)]


class _LikeWorkload:
    """In the JSON Schema, the table is one of `WorkloadOptions`."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(WorkloadOptions.__pydantic_core_schema__)


# in the column `strategy` of an arm that is not our server
RUNS_ALREADY = "url"
COMMAND = "command"

_OF_RUNNING_SERVERS = frozenset({"url", "pid"})
_OF_ALL = frozenset({"name", "strategy", "generators"})


class Arm(CommandSettings, ServerSettings):
    """A strategy with its options, a command, or a server that already runs, under its name in tables."""

    name: Annotated[Name, Setting("Call the arm by this name in tables.", Panel.COMPARE, flag=None)]
    python: Annotated[
        Interpreter | None,
        Setting("Run the server in this Python, or virtual environment.", Panel.COMPARE, flag=None),
    ] = None  # None: the Python that runs execbench
    url: Annotated[
        Annotated[str, AfterValidator(addresses.checked), _URL_SCHEMA] | None,
        Setting("Measure the server at this address.", Panel.RUNNING, flag=None),
    ] = None
    pid: Annotated[
        Pids, Setting("Count the CPU of these processes as the server's.", Panel.RUNNING, flag=None)
    ] = ()
    workload: Annotated[
        dict[str, Any],
        AfterValidator(with_io_split),
        _LikeWorkload(),  # its keys are checked with the plan's workload
        Setting("Set these options of the workload for this arm.", Panel.COMPARE, flag=None),
    ] = Field(default_factory=dict)
    generators: Annotated[
        Annotated[int, Field(gt=0, le=bounds.GENERATORS)] | None,
        Setting("Send from only this many of the run's generators.", Panel.LOAD, flag=None),
    ] = None  # all
    io_per_model: Annotated[
        Times | None,
        Setting("Let the I/O take this multiple of the model's time alone.", Panel.IO, flag=None),
    ] = None  # measured in a pilot

    @model_validator(mode="before")
    @classmethod
    def _read_strategy(cls, data: Any) -> Any:
        """Accept `executor:package.module:factory`, and no strategy for a server that is not ours."""
        if not isinstance(data, dict):
            return data
        for kind in (RUNS_ALREADY, COMMAND):
            if data.get(kind) is not None:
                data = {"strategy": kind, **data}
        strategy, _, factory = str(data.get("strategy", "")).partition(":")
        return data | {"strategy": strategy, "factory": factory} if factory else data

    @model_validator(mode="after")
    def _refuse_options_of_other_kinds(self) -> Self:
        given = self.model_dump(exclude_defaults=True).keys() - _OF_ALL
        given |= {"strategy"} if self.is_foreign and self.strategy not in (RUNS_ALREADY, COMMAND) else set()
        if self.url is not None and (others := given - _OF_RUNNING_SERVERS):
            raise ValueError(f"a server that already runs cannot have {', '.join(sorted(others))}")
        if self.url is None and self.pid:
            raise ValueError("pid names processes of a server that already runs, so it needs url")
        if self.command is not None and (others := given - ONLY_OF_COMMANDS):
            raise ValueError(f"a command cannot have {', '.join(sorted(others))}")
        if self.command is None and (others := given & ONLY_OF_COMMANDS):
            raise ValueError(f"{', '.join(sorted(others))}: only a command has these")
        return self

    @property
    def is_foreign(self) -> bool:
        """Whether its server is not ours: a command, or a server that already runs."""
        return self.url is not None or self.command is not None

    @property
    def chosen(self) -> strategies.Options:
        """The options of its strategy."""
        return strategies.Options(**self.options)

    @property
    def strategies_used(self) -> tuple[str, ...]:
        """Its strategy, and the one that runs its batches."""
        return (self.strategy, self.chosen.over) if self.strategy == "batch" else (self.strategy,)

    @property
    def when_worker_dies(self) -> str:
        """What a killed worker means, in the words of its strategy, or of the one that runs its batches.

        "" for a server that is not ours.
        """
        return "" if self.is_foreign else strategies.get(self.strategies_used[-1]).WHEN_WORKER_DIES

    def own_workload(self, workload: WorkloadOptions) -> WorkloadOptions:
        """Return the plan's workload with this arm's options."""
        return WorkloadOptions.model_validate({**workload.model_dump(exclude_unset=True), **self.workload})

    def server_options(self, workload: WorkloadOptions, lone_model_ms: float | None = None) -> ServerOptions:
        """Return the options of its server; `lone_model_ms` is needed if the I/O is scaled to the model.

        Scaled I/O takes whole milliseconds, as asyncio's timers round up to these.
        """
        workload = self.own_workload(workload)
        if self.io_per_model is not None:
            assert lone_model_ms is not None, "a scaled arm starts after the pilot"
            whole_ms = float(max(1, round(self.io_per_model * lone_model_ms)))
            workload = workload.model_copy(update={"io_ms": whole_ms})
        return ServerOptions(
            strategy=self.strategy,
            options=self.options,
            server_processes=self.server_processes,
            event_loop=self.event_loop,
            http_parser=self.http_parser,
            workload=workload,
            inject=self.inject,
            instrumented=self.instrumented,
        )
