"""The plan in run.json, as reading checks it: of this layout or an older one.

Its keys are those of a plan file, with their types as JSON. `plans.schemas` takes their descriptions from the
settings, and the keys on which no reader relies.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.wire import bounds

LARGEST_RECORDED = 1e15

Text = Annotated[str, Field(max_length=10_000)]
Whole = Annotated[int, Field(ge=-LARGEST_RECORDED, le=LARGEST_RECORDED)]
Number = Annotated[float, Field(ge=-LARGEST_RECORDED, le=LARGEST_RECORDED)]
Positive = Annotated[float, Field(gt=0, le=LARGEST_RECORDED)]
NotNegative = Annotated[float, Field(ge=0, le=LARGEST_RECORDED)]
Times = Annotated[float, Field(ge=0, le=bounds.A_DAY_MS)]
Scalar = bool | Whole | Number | Text
Options = dict[Text, Scalar | list[Text] | None]
Header = Annotated[list[Text], Field(min_length=2, max_length=2)]


def means(description: str) -> Any:
    """The description of a key, for the JSON Schema."""
    return Field(description=description)


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
    workers: Annotated[Whole | None, means("Older layouts: the option `workers` of its strategy.")] = None
    options: Options = {}
    server_processes: Whole | None = None
    event_loop: Text | None = None
    http_parser: Text | None = None
    workload: Options = {}
    io_per_model: Positive | None = None
    python: Text | None = None
    inject: dict[Text, Number] = {}


class Sweep(Part):
    """The options of a sweep and their values."""

    strategies: Annotated[list[Text], means("The strategies, as given.")]
    axes: Annotated[
        dict[Text, Annotated[list[Scalar], Field(min_length=1)]], means("Option → its values, as given.")
    ]
    settings: Annotated[
        dict[Text, dict[Text, Scalar]], means("Arm → its value on each axis that its strategy takes.")
    ]


class Request(Part):
    """The request that a server gets that already runs."""

    method: Annotated[Text | None, means("The HTTP method.")] = None
    headers: Annotated[list[Header], means("Name and value of each header, secret values replaced.")] = []
    body: Annotated[str | None, means("The body; {text} in it is replaced by a text.")] = None


class PlannedRequest(Request):
    """The request as a plan describes it."""

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
    until: Text | None = None
    precision: Positive | None = None
    timeout_s: Positive | None = None
    transport: Text | None = None
    think: Text | None = None
    new_connections: bool = False
    reference: Text | None = None
    twin: bool = False
    ranking: bool = False
    delta_latency: Positive | None = None
    delta_throughput: Positive | None = None
    exclude: Exclude | None = None
    notes: list[Text] = []
    claims: Text | None = None
    sweep: Annotated[Sweep | None, means("The axes of `execbench sweep`, whose settings are the arms.")] = (
        None
    )
    left_out: Annotated[
        dict[Text, Text], means("Arms that could not be started, with the reason (`skip_missing`).")
    ] = Field(default_factory=dict)
    ask: PlannedRequest | None = None

    @model_validator(mode="after")
    def _names_each_arm_once(self) -> Self:
        names = Counter(arm.name for arm in self.arms)
        if twice := [name for name, times in names.items() if times > 1]:
            raise ValueError(f"duplicate arm {twice[0]}")
        if self.reference is not None and self.reference not in names:
            raise ValueError(f"reference: there is no arm {self.reference}")
        return self
