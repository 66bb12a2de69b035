"""The frozen objects that travel whole from the edge (flags, plan files) into the child processes."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

DEFAULT_MODEL = "all-MiniLM-L6-v2"
ARTICLE_SENTENCE = "How big is London"

# the server's, pinned ("auto" would take what happens to be installed) and recorded
EVENT_LOOP: Final = "asyncio"
HTTP_PARSER: Final = "httptools"

Transport = Literal["aiohttp", "httpx"]
Mode = Literal["sleep", "hold", "spin", "release"]
Route = Literal["GET /", "POST /predict"]


class Frozen(BaseModel):
    """Immutable. An unknown key is an error (a typo in a plan must not be ignored); so is an infinite number.

    Infinity and NaN do not survive JSON, through which these objects reach the child processes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def explain(error: ValidationError) -> str:
    """What is wrong with which key, in one line."""
    return "; ".join(
        f"{'.'.join(str(part) for part in problem['loc']) or 'as a whole'}: {_plain(problem)}"
        for problem in error.errors()
    )


def _plain(problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        return "there is no such key"
    return str(problem["msg"]).removeprefix("Value error, ")


class WorkloadOptions(Frozen):
    """A workload by name with its options. Travels to spawned workers as data, never as an object."""

    name: str = "embed"
    io_ms: NonNegativeFloat = 5.0  # the awaited I/O, a sleep
    # embed
    model: str = DEFAULT_MODEL  # a name or the path of a sentence-transformers folder
    device: str = "cpu"
    torch_threads: PositiveInt | None = None  # None: torch's own choice, which is recorded
    online: bool = False  # may a model hub be asked?
    # synthetic
    service_ms: NonNegativeFloat = 20.0
    mode: Mode = "sleep"


class Inject(Frozen):
    """Known delays added to one stretch of every request: how the instrument is checked against truth."""

    queue_ms: NonNegativeFloat = 0.0
    model_ms: NonNegativeFloat = 0.0
    resume_ms: NonNegativeFloat = 0.0
    io_ms: NonNegativeFloat = 0.0


class ServerOptions(Frozen):
    """Everything one child server needs to know."""

    strategy: str
    workers: PositiveInt | None = None  # None: the strategy's own default
    workload: WorkloadOptions = WorkloadOptions()
    inject: Inject = Inject()


class Texts(Frozen):
    """Which texts the load generator sends: those of a workload, drawn by a seed."""

    workload: WorkloadOptions
    seed: int


class LoadOptions(Frozen):
    """One trial's load. Exactly one of `requests` and `duration_s` says how long is measured."""

    url: str
    method: str = "GET"
    texts: Texts | None = None  # None: the request has no body
    concurrency: PositiveInt
    requests: PositiveInt | None = None
    duration_s: PositiveFloat | None = None
    warmup_requests: Annotated[int, Field(ge=0)] = 0
    settle_s: NonNegativeFloat = 0.0  # warm up at least this long
    timeout_s: PositiveFloat = 30.0
    transport: Transport = "aiohttp"
    expected_status: int = 200

    @model_validator(mode="after")
    def _has_an_end(self) -> Self:
        if (self.requests is None) == (self.duration_s is None):
            raise ValueError("give either requests or duration_s, not both and not neither")
        return self

    @property
    def arrivals(self) -> str:
        """The arrival law as it stands in the column `load`."""
        return f"closed({self.concurrency})"
