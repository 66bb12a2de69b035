"""The schema of run.json, which checks the types and bounds that reports, comparisons and `--resume` rely on.

A run of another version may have additional keys, and may lack keys that have a default here. The check
converts nothing: readers get the plain data.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.wire import bounds
from harness.wire.setting import explain

LARGEST_RECORDED = 1e15

Text = Annotated[str, Field(max_length=10_000)]
Whole = Annotated[int, Field(ge=-LARGEST_RECORDED, le=LARGEST_RECORDED)]
Number = Annotated[float, Field(ge=-LARGEST_RECORDED, le=LARGEST_RECORDED)]
Positive = Annotated[float, Field(gt=0, le=LARGEST_RECORDED)]
NotNegative = Annotated[float, Field(ge=0, le=LARGEST_RECORDED)]
Times = Annotated[float, Field(ge=0, le=bounds.A_DAY_MS)]
Scalar = bool | Whole | Number | Text
Options = dict[Text, Scalar | list[Text] | None]
Size = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,6}$")]  # of a batch; a string, as JSON's keys are
Header = Annotated[list[Text], Field(min_length=2, max_length=2)]


class Part(BaseModel):
    """A strict model: "5" is not a number, and 1 is not a boolean. Accepts unknown keys of other versions."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class Workload(Part):
    """The workload of a plan, an arm or a server."""

    name: Text | None = None
    io: Text = "sleep"
    io_ms: Times = 0.0
    payloads: Text | None = None


class PlannedArm(Part):
    """An arm as its plan describes it."""

    name: Text
    strategy: Text = ""
    url: Text | None = None
    pid: list[Whole] = []
    workers: Whole | None = None
    options: Options = {}
    server_processes: Whole | None = None
    workload: Options = {}
    io_per_model: Positive | None = None
    inject: dict[Text, Number] = {}


class Sweep(Part):
    """The options of a sweep and their values."""

    strategies: list[Text]
    axes: dict[Text, Annotated[list[Scalar], Field(min_length=1)]]
    settings: dict[Text, dict[Text, Scalar]]


class ExternalRequest(Part):
    """The request that servers get that already run."""

    method: Text | None = None
    headers: list[Header] = []
    body: str | None = None
    ping_path: Text | None = None
    expect_status: Whole = 200


class Exclude(Part):
    """The limits beyond which a block is excluded."""

    __pydantic_extra__: dict[str, Number]


class Plan(Part):
    """A plan of this or an older version."""

    name: Text = ""
    arms: Annotated[list[PlannedArm], Field(min_length=1)]
    workload: Workload | None = None
    concurrency: list[Whole] = []
    arrivals: list[Text] = []
    requests: Whole | None = None
    requests_per_user: Whole | None = None
    duration_s: Positive | None = None
    open_duration_s: Positive | None = None
    blocks: Annotated[int, Field(ge=0, le=bounds.BLOCKS)] | None = None
    cap: Whole | None = None
    seed: Annotated[int, Field(ge=0, le=bounds.SEED)] | None = None
    precision: Positive | None = None
    timeout_s: Positive | None = None
    transport: Text | None = None
    reference: Text | None = None
    twin: bool = False
    ranking: bool = False
    delta_latency: Positive | None = None
    delta_throughput: Positive | None = None
    exclude: Exclude | None = None
    notes: list[Text] = []
    claims: Text | None = None
    sweep: Sweep | None = None
    ask: ExternalRequest | None = None

    @model_validator(mode="after")
    def _names_each_arm_once(self) -> Self:
        names = Counter(arm.name for arm in self.arms)
        if twice := [name for name, times in names.items() if times > 1]:
            raise ValueError(f"duplicate arm {twice[0]}")
        if self.reference is not None and self.reference not in names:
            raise ValueError(f"reference: there is no arm {self.reference}")
        return self


class About(Part):
    """Facts about the loaded model."""

    own_io: bool | None = None
    model: Text | None = None
    backend: Text | None = None


class Process(Part):
    """A process whose CPU time counts as an arm's."""

    command: Text


class ServerOptions(Part):
    workload: Workload | None = None


class Arm(Part):
    options: ServerOptions | None = None
    about: About | None = None
    processes: list[Process] | None = None
    uss_bytes: NotNegative | None = None
    url: Text | None = None


class Revision(Part):
    commit: Text | None = None


class Environment(Part):
    """The machine and the versions of the software."""

    cpu: Text | None = None
    usable_cores: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    packages: dict[Text, Text | None] = {}
    thread_variables: dict[Text, Text | None] = {}
    revision: Revision | None = None
    code: Text | None = None


class SelfCheck(Part):
    """The limits of the load generator, as the self-check measured them."""

    requests_per_s: NotNegative | None = None
    dispatch_lag_p50_ms: NotNegative | None = None
    dispatch_lag_p99_ms: NotNegative | None = None


class Idle(Part):
    """The CPU time that an arm used while other arms were measured."""

    cpu_ms: NotNegative
    wall_ms: NotNegative


class Limit(Part):
    """The time of the bare model in ms, for each batch size."""

    arms: list[Text]
    batches: Annotated[dict[Size, Annotated[float, Field(gt=0, le=bounds.A_DAY_MS)]], Field(min_length=1)]


class Resumed(Part):
    """One resumption of an interrupted run."""

    in_block: Whole | None = None


class Downstream(Part):
    """The failures of services that requests await."""

    requests: Whole = 0
    first: Text = ""
    died: list[Text] = []


class LoadTexts(Part):
    """The texts that `execbench load` sent."""

    workload: Workload | None = None
    seed: Whole = 1


class Load(ExternalRequest):
    """The options of `execbench load`."""

    url: Text | None = None
    texts: LoadTexts | None = None
    expected_status: Whole = 200
    transport: Text | None = None
    timeout_s: Positive | None = None


class Capacity(Part):
    """The options of a capacity run, and the number of blocks in its search."""

    objectives: Annotated[list[Text], Field(min_length=1)]
    searched: Whole | None
    window_s: Positive
    search_s: Positive
    blocks: Annotated[int, Field(ge=1, le=bounds.BLOCKS)]


class Record(Part):
    """A whole run.json."""

    plan: Plan | None = None
    load: Load | None = None
    capacity: Capacity | None = None
    state: Text | None = None
    environment: Environment | None = None
    arms: dict[Text, Arm] | None = None
    schedules: dict[Text, dict[Text, Text]] | None = None
    payloads_sha256: Text | None = None
    lone_model_ms: Number | None = None
    own_per_s: dict[Text, NotNegative] | None = None
    self_check: SelfCheck | list[SelfCheck] | None = None
    idle: dict[Text, Idle] | None = None
    limits: list[Limit] | None = None
    null_ms: Times | None = None
    resumed: list[Resumed] | None = None
    stopped_at_block: Whole | None = None
    bad_answers: dict[Text, Text] | None = None
    downstream: Downstream | None = None

    @model_validator(mode="after")
    def _has_the_plan_of_its_capacity(self) -> Self:
        if "capacity" not in self.model_fields_set:
            return self
        if self.capacity is None or self.plan is None:
            raise ValueError("a capacity run needs the keys plan and capacity")
        if self.plan.cap is None or self.plan.timeout_s is None:
            raise ValueError("the plan of a capacity run needs the keys cap and timeout_s")
        return self


class Resumable(Record):
    """A record with everything that `--resume` needs."""

    plan: Plan
    environment: Environment
    arms: dict[Text, Arm]
    schedules: dict[Text, dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Text]]
    resumed: list[Resumed] = []


def fault(data: Any, kind: type[Record] = Record) -> str:
    """Describe the first fault of a record; empty if it has none."""
    try:
        kind.model_validate(data)
        json.dumps(data, ensure_ascii=False).encode()
    except ValidationError as error:
        return explain(error)
    except UnicodeEncodeError:
        return "it contains half a surrogate pair"
    return ""
