"""The one declaration of run.json: reading checks it, and `execbench schema run` prints it as JSON Schema.

It has the types and bounds that reports, comparisons and `--resume` rely on, and a description of each key
that a run writes. A run of another version may have additional keys, and may lack keys that have a default
here. The check converts nothing: readers get the plain data.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from harness.results.recorded_plan import (
    NotNegative,
    Number,
    Options,
    Part,
    Plan,
    Positive,
    Request,
    Text,
    Times,
    Whole,
    Workload,
    means,
)
from harness.wire import bounds
from harness.wire.records import OLDEST_READABLE, SCHEMA_VERSION
from harness.wire.setting import explain

Size = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,6}$")]  # of a batch; a string, as JSON's keys are
BlockNumber = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,6})$")]  # a string, as JSON's keys are
Cores = Annotated[int, Field(ge=0, le=1_000_000)]


class About(Part):
    """Facts about the loaded model, as its worker saw them, and about its server. Workloads differ."""

    own_io: Annotated[bool | None, means("Whether the workload has its own I/O.")] = None
    model: Annotated[Text | None, means("The model's name.")] = None
    backend: Annotated[Text | None, means("What runs the model.")] = None
    event_loop: Annotated[Text | None, means("The package of the event loop that runs the app.")] = None


class Process(Part):
    """A process whose CPU time counts as an arm's."""

    pid: Annotated[Whole | None, means("Its number.")] = None
    command: Annotated[Text, means("Its command line, shortened.")]


class ServerOptions(Part):
    """What the server of an arm was started with. Keys as in an arm of a plan."""

    strategy: Text = ""
    options: Options = Field(default_factory=dict)
    server_processes: Whole | None = None
    event_loop: Text | None = None
    http_parser: Text | None = None
    workload: Workload | None = None
    inject: dict[Text, Number] = Field(default_factory=dict)
    instrumented: bool = True


class ServerEnvironment(Part):
    """The Python that ran a server's model, and its packages, as it saw them itself."""

    python: Annotated[Text | None, means("Version of Python.")] = None
    implementation: Annotated[Text | None, means("Implementation of Python.")] = None
    free_threaded: Annotated[
        bool | None, means("Whether this build of Python can run without the interpreter lock.")
    ] = None
    interpreter_lock: Annotated[
        bool | None, means("Whether the interpreter lock was on, after the model had run.")
    ] = None
    packages: Annotated[
        dict[Text, Text],
        means("Package → its version: those of the server, and those that were imported."),
    ] = Field(default_factory=dict)


class Arm(Part):
    """What ran as an arm."""

    options: ServerOptions | None = None
    about: About | None = None
    environment: Annotated[
        ServerEnvironment | None, means("The Python that ran its model, and its packages.")
    ] = None
    processes: Annotated[list[Process] | None, means("The processes whose CPU counts as this arm's.")] = None
    uss_bytes: Annotated[
        NotNegative | None, means("Memory of its processes alone (USS), after the last trial.")
    ] = None
    # Resident servers start at the same time, so they slow each other down.
    ready_s: Annotated[
        NotNegative | None,
        means("From starting the server until every worker had loaded and run the model; of the last start."),
    ] = None
    first_answer_s: Annotated[
        NotNegative | None, means("From starting a command until its first good answer; of the last start.")
    ] = None
    when_worker_dies: Annotated[Text | None, means("What the strategy does when a worker is killed.")] = None
    url: Annotated[Text | None, means("The address of a server that already runs.")] = None
    is_here: Annotated[bool | None, means("Whether that server runs on this machine.")] = None


class Revision(Part):
    """The commit of the checkout that ran."""

    commit: Annotated[Text | None, means("Its hash.")] = None
    modified: Annotated[bool | None, means("Whether tracked files differed from it.")] = None


class Environment(Part):
    """The machine and the versions of the software, without paths and host names."""

    system: Annotated[Text | None, means("Operating system.")] = None
    kernel: Annotated[Text | None, means("Its release.")] = None
    machine: Annotated[Text | None, means("Architecture.")] = None
    cpu: Annotated[Text | None, means("Name of the processor.")] = None
    cores: Annotated[Cores | None, means("Cores of the machine.")] = None
    usable_cores: Annotated[Cores | None, means("Cores that the run could use.")] = None
    cpu_quota: Annotated[Number | None, means("Cores that the control group allows; null: no limit.")] = None
    governor: Annotated[Text | None, means("CPU frequency governor.")] = None
    smt: Annotated[bool | None, means("Whether cores run two threads at once.")] = None
    hypervisor: Annotated[bool | None, means("Whether the machine is virtual.")] = None
    pressure: Annotated[
        bool | None, means("Whether the kernel reports the time spent waiting for a CPU.")
    ] = None
    memory_bytes: Annotated[NotNegative | None, means("Memory of the machine.")] = None
    load_average: Annotated[list[Number], means("1, 5 and 15 minutes before the run.")] = Field(
        default_factory=list
    )
    python: Annotated[Text | None, means("Version of Python.")] = None
    implementation: Annotated[Text | None, means("Implementation of Python.")] = None
    interpreter_lock: Annotated[bool | None, means("Whether Python has an interpreter lock.")] = None
    packages: Annotated[dict[Text, Text | None], means("Package → its version; null: not installed.")] = (
        Field(default_factory=dict)
    )
    thread_variables: Annotated[
        dict[Text, Text | None], means("Environment variables that limit threads; null: not set.")
    ] = Field(default_factory=dict)
    event_loop: Annotated[Text | None, means("The event loop of servers whose arm sets no other.")] = None
    http_parser: Annotated[Text | None, means("The HTTP parser of servers whose arm sets no other.")] = None
    revision: Annotated[Revision | None, means("null: not run from a git checkout.")] = None
    code: Annotated[Text | None, means("First digits of a SHA-256 of the source files that ran.")] = None


class SelfCheck(Part):
    """The limits of the load generator, as the self-check measured them."""

    requests_per_s: Annotated[NotNegative | None, means("Its highest rate.")] = None
    cpu_ms_per_request: Annotated[NotNegative | None, means("CPU of the load generator a request.")] = None
    dispatch_lag_p50_ms: Annotated[NotNegative | None, means("Median dispatch lag at half that rate.")] = None
    dispatch_lag_p99_ms: Annotated[NotNegative | None, means("p99 dispatch lag at half that rate.")] = None


class Idle(Part):
    """The CPU time that an arm used while other arms were measured."""

    cpu_ms: Annotated[NotNegative, means("CPU time of its processes.")]
    wall_ms: Annotated[NotNegative, means("How long other arms were measured.")]


class Limit(Part):
    """The time of a bare model, without a service around it."""

    arms: Annotated[list[Text], means("The arms that run this model.")]
    batches: Annotated[
        dict[Size, Annotated[float, Field(gt=0, le=bounds.A_DAY_MS)]],
        Field(min_length=1, description="Batch size → median ms of a call, over blocks."),
    ]
    by_block: Annotated[
        dict[BlockNumber, dict[Size, Annotated[float, Field(gt=0, le=bounds.A_DAY_MS)]]],
        means("Block → batch size → median ms of a call; block 0: before the run. Empty: not timed again."),
    ] = Field(default_factory=dict)
    workload: Annotated[Workload | None, means("The model's options.")] = None
    about: About | None = None


class Pinning(Part):
    """The CPUs that each side may use (`--pin`)."""

    client: Annotated[list[Whole], means("CPUs of the load generator.")] = Field(default_factory=list)
    server: Annotated[list[Whole], means("CPUs of the servers.")] = Field(default_factory=list)


class Resumed(Part):
    """One resumption of an interrupted run."""

    at: Annotated[Text | None, means("When (UTC).")] = None
    after_trial: Annotated[Whole | None, means("The last trial that was kept.")] = None
    in_block: Annotated[Whole | None, means("The block that was interrupted; null: none.")] = None
    self_check: Annotated[
        SelfCheck | list[SelfCheck] | None, means("The self-check before; a new one replaced it.")
    ] = None


class Downstream(Part):
    """The failures of services that requests await."""

    requests: Annotated[Whole, means("How many requests failed by them.")] = 0
    first: Annotated[Text, means("The first such error.")] = ""
    died: Annotated[list[Text], means("Messages of services that ended.")] = Field(default_factory=list)


class Look(Part):
    """One look at a run that may stop early, and what held the run up."""

    blocks: Annotated[int, Field(ge=0, le=bounds.BLOCKS, description="Counted blocks at this look.")]
    open: Annotated[list[Text], means("What had no verdict yet.")]


Level = Annotated[float, Field(gt=0, lt=1)]


class LooksLevels(Part):
    """The level of all looks' intervals together, and the level at each look."""

    overall: Annotated[Level, means("The level of all looks together.")]
    at_looks: Annotated[list[Level], means("The level at each look.")]


class Looks(Part):
    """The looks of a run that may stop early, the levels of their intervals, and what came of them."""

    blocks: Annotated[
        list[Annotated[int, Field(ge=1, le=bounds.BLOCKS)]],
        Field(min_length=1, description="The numbers of counted blocks at which the run may stop."),
    ]
    levels: Annotated[list[LooksLevels], means("The levels of the intervals.")]
    looked: Annotated[list[Look], means("The looks that were taken.")]

    @model_validator(mode="after")
    def _has_a_level_for_each_look(self) -> Self:
        if any(len(one.at_looks) != len(self.blocks) for one in self.levels):
            raise ValueError("each look needs a level")
        if any(look.blocks not in self.blocks for look in self.looked):
            raise ValueError("a look is at another number of blocks than planned")
        return self


class LoadTexts(Part):
    """The texts that `execbench load` sent."""

    workload: Annotated[Workload | None, means("The workload whose texts they are.")] = None
    seed: Annotated[Whole, means("They were drawn by this seed.")] = 1
    recording: Annotated[Text | None, means("The recorded file whose texts were sent.")] = None


class Load(Request):
    """The options of `execbench load`."""

    url: Annotated[Text | None, means("The address.")] = None
    texts: Annotated[LoadTexts | None, means("null: every request was the same.")] = None
    arrivals: Annotated[Text | None, means("The arrival law: closed(8), poisson(50) …")] = None
    seed: Annotated[Whole, means("Arrivals were drawn by this seed.")] = 1
    expected_status: Annotated[Whole, means("The status code of a good answer.")] = 200
    warmup_requests: Annotated[Whole, means("Requests before the window.")] = 0
    settle_s: Annotated[NotNegative, means("Seconds of load before the window.")] = 0.0
    give_up_in_flight: Annotated[Whole | None, means("Stop once this many are in flight.")] = None
    ping_url: Annotated[Text | None, means("The address that was pinged.")] = None
    ping_per_s: Annotated[Positive | None, means("The rate of the pings.")] = None
    probe_loop: Annotated[bool, means("Whether the lag of the client's event loop was measured.")] = True
    keep_alive: Annotated[bool, means("Whether the server keeps connections open.")] = True
    watches_end: Annotated[bool, means("Whether closed connections were looked for.")] = False
    transport: Text | None = None
    timeout_s: Positive | None = None
    think: Text | None = None
    new_connections: bool = False


class Capacity(Part):
    """The options of a capacity run, and the number of blocks in its search."""

    objectives: Annotated[list[Text], Field(min_length=1, description="The limits that must hold.")]
    searched: Annotated[Whole | None, means("The blocks of the search; later ones confirm.")]
    window_s: Annotated[Positive, means("Length of a confirming window.")]
    search_s: Annotated[Positive, means("Length of a window of the search.")]
    blocks: Annotated[int, Field(ge=1, le=bounds.BLOCKS, description="Confirming windows of each arm.")]
    seed: Annotated[Whole, means("Order and arrivals were drawn by this seed.")] = 1


class HalvingRound(Part):
    """A finished round of a choice by halving."""

    arms: Annotated[list[Text], Field(min_length=1, description="The arms that it measured.")]
    blocks: Annotated[int, Field(ge=1, le=bounds.BLOCKS, description="How many blocks it had.")]
    kept: Annotated[list[Text], Field(min_length=1, description="The arms that went on, the best first.")]


class Halving(Part):
    """The options of a choice by halving, and its rounds so far."""

    objectives: Annotated[list[Text], Field(min_length=1, description="The limits that must hold.")]
    minutes: Annotated[Positive, means("The time that it was given.")]
    always: Annotated[Text | None, means("The arm that was never dropped (`--reference`); null: none.")] = (
        None
    )
    rounds: Annotated[list[HalvingRound], means("The rounds, in order; their blocks are numbered on.")]
    searched: Annotated[
        Whole | None, means("The blocks of the rounds; later ones are the final. null: it did not begin.")
    ]


class Record(Part):
    """A whole run.json."""

    layout: Annotated[
        int,
        Field(
            alias="schema",
            ge=OLDEST_READABLE,
            le=SCHEMA_VERSION,
            description="The layout of this folder's run.json, requests.csv and trials.csv.",
        ),
    ]
    state: Annotated[
        Text | None, means("running, finished, failed or interrupted; running also after a kill.")
    ] = None
    error: Annotated[Text | None, means("Of a failed load: why.")] = None
    started_at: Annotated[Text | None, means("When the run started (UTC).")] = None
    ended_at: Annotated[Text | None, means("When it ended (UTC).")] = None
    plan: Annotated[Plan | None, means("The whole plan, defaults included; null: a run of `load`.")] = None
    load: Annotated[Load | None, means("Of `load`: its options.")] = None
    capacity: Annotated[Capacity | None, means("Of `capacity`: its options.")] = None
    halving: Annotated[
        Halving | None, means("Of `sweep --slo`: its options and rounds; the plan is that of the final.")
    ] = None
    environment: Annotated[Environment | None, means("The machine and the versions of the software.")] = None
    arms: Annotated[dict[Text, Arm] | None, means("Arm → what ran.")] = None
    schedules: Annotated[
        dict[Text, dict[Text, Text]] | None, means("Open load → block → hash of its due times.")
    ] = None
    payloads_sha256: Annotated[Text | None, means("Hash of the file of texts; null: none was given.")] = None
    lone_model_ms: Annotated[
        Number | None, means("The model's time alone, to which some arms scale their I/O.")
    ] = None
    own_per_s: Annotated[
        dict[Text, NotNegative] | None, means("Arm → its throughput in the pilot, in requests/s.")
    ] = None
    self_check: Annotated[
        SelfCheck | list[SelfCheck] | None, means("The limits of the load generator; a list in older runs.")
    ] = None
    pinning: Annotated[Pinning | None, means("The CPUs that each side may use (`--pin`).")] = None
    idle: Annotated[dict[Text, Idle] | None, means("Arm → its CPU time while other arms were measured.")] = (
        None
    )
    limits: Annotated[list[Limit] | None, means("The time of each bare model (`--limit`).")] = None
    null_ms: Annotated[Times | None, means("Ms of a request without model and I/O (`--limit`).")] = None
    resumed: Annotated[list[Resumed] | None, means("Each resumption of the run.")] = None
    stopped_at_block: Annotated[Whole | None, means("Of older runs with a precision.")] = None
    looks: Annotated[Looks | None, means("When the run might stop early, and what came of it.")] = None
    bad_answers: Annotated[dict[Text, Text] | None, means("Error → what the first answer with it said.")] = (
        None
    )
    downstream: Annotated[Downstream | None, means("Failures of services that requests await.")] = None

    @model_validator(mode="after")
    def _has_the_plan_of_its_capacity(self) -> Self:
        if "capacity" not in self.model_fields_set:
            return self
        if self.capacity is None or self.plan is None:
            raise ValueError("a capacity run needs the keys plan and capacity")
        if self.plan.cap is None or self.plan.timeout_s is None:
            raise ValueError("the plan of a capacity run needs the keys cap and timeout_s")
        return self

    @model_validator(mode="after")
    def _has_the_plan_of_its_halving(self) -> Self:
        if "halving" not in self.model_fields_set:
            return self
        if self.halving is None or self.plan is None or self.plan.sweep is None:
            raise ValueError("a choice by halving needs the keys halving and plan, with a sweep")
        if self.plan.timeout_s is None:
            raise ValueError("the plan of a choice by halving needs the key timeout_s")
        return self


class Resumable(Record):
    """A record with everything that `--resume` needs."""

    plan: Plan
    environment: Environment
    arms: dict[Text, Arm]
    schedules: dict[Text, dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Text]]
    resumed: list[Resumed] = Field(default_factory=list)


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
