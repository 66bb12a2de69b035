"""What to run: arms x loads x blocks, as data that is checked as a whole."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from harness.plans.arm import Arm, Name
from harness.wire import arrivals, bounds
from harness.wire.arrivals import closed
from harness.wire.options import (
    IN_FLIGHT_CAP,
    Frozen,
    Law,
    LoadOptions,
    Request,
    Requests,
    Route,
    Seconds,
    SecondsOrNone,
    Seed,
    Texts,
    Transport,
    Users,
    WorkloadOptions,
)
from harness.wire.records import TWIN_SUFFIX

FEWEST_BLOCKS = 10  # for a stop at a precision: of fewer a width is chance, and a lucky one stops too soon
_SEEDS_PER_RUN = 1_000_000  # block seeds of two run seeds must not meet


class Cell(NamedTuple):
    """One trial to be run: an arm under a load, at its place in a block."""

    block: int
    position: int
    arm: Arm
    law: Law


BLOCKS = 24  # see docs/studies/windows.md

Scalar = str | int | float | bool


class Sweep(Frozen):
    """What the arms of a plan go through: an arm for each combination of the values of some options."""

    strategies: tuple[str, ...]  # as they were asked for
    axes: dict[str, tuple[Scalar, ...]]  # option → its values, as they were asked for
    settings: dict[
        str, dict[str, Scalar]
    ]  # arm → its value of each axis; what its strategy takes not is absent


class Exclusion(Frozen):
    """When a whole block is left out: its trials' mean, by time, is above one of these. Fixed before the run.

    Each is many times what this instrument needs: a twentieth of the machine taken away, a third of a core
    busy with something else, requests sent 10 ms late in open loop.
    """

    steal_share: PositiveFloat = 0.05
    foreign_cpu: PositiveFloat = 0.33  # in cores
    dispatch_lag_p99_ms: PositiveFloat = 10.0


_OF_OUR_SERVERS = {"workload", "route", "fresh", "pin", "limit", "claims"}


class Plan(Frozen):
    """Arms x loads x blocks. Closed loads measure short windows, many of them; open ones long windows.

    A closed window lasts until `requests` (at least `requests_per_user` of each user) are under way and
    `duration_s` is over, an open one for `open_duration_s`, after `open_settle_s` of warm-up.
    """

    name: Name
    summary: str = ""
    workload: WorkloadOptions = WorkloadOptions()
    arms: tuple[Arm, ...] = Field(min_length=1, max_length=bounds.TRIALS)
    concurrency: tuple[Users, ...] = ()  # closed loop: users
    arrivals: tuple[Law, ...] = ()  # open loop
    requests: Requests | None = None
    requests_per_user: Requests | None = None
    duration_s: Seconds | None = None
    open_duration_s: Seconds = 20.0  # from empty, the wait at load 0.8 is 15 % too low after 2 s
    open_settle_s: SecondsOrNone = 3.0
    open_every: PositiveInt = 1  # open loads in every so many blocks only: their windows are long
    own_users: Users = 32  # users of the closed loop in which own(0.8) sees what the arm can do
    cap: Users = IN_FLIGHT_CAP
    blocks: Annotated[int, Field(gt=0, le=bounds.BLOCKS)] = BLOCKS
    precision: Annotated[float, Field(gt=0, lt=1)] | None = None  # stop early at this half width of interval
    warmup_per_client: Annotated[int, Field(ge=0, le=bounds.REQUESTS)] = 2
    settle_s: SecondsOrNone = 0.0
    timeout_s: Seconds = 30.0
    transport: Transport = "aiohttp"
    route: Route = "POST /predict"
    seed: Seed = 1
    fresh: bool = False  # a new server for each trial, instead of all resident
    pin: bool = False  # client and servers on CPUs of their own
    reference: Name | None = None  # the arm that others are compared with; None: the first
    twin: bool = False  # run the reference twice: does the machine tell equal from equal?
    delta_latency: PositiveFloat = 0.05  # the smallest difference that matters, as a share
    delta_throughput: PositiveFloat = 0.03
    exclude: Exclusion = Exclusion()
    # probes of a route without model beside the load; 0: none
    ping_per_s: Annotated[float, Field(ge=0, le=bounds.PER_S)] = 10.0
    self_check: bool = True  # see before the first trial what the load generator can do
    probes: bool = True  # watch the event loops
    limit: bool = False  # see before the first trial what the bare model can do, alone
    limit_s: Seconds = 1.0  # … for so long with each size of batch
    ranking: bool = False  # end the report with the arms in order: how much, why, and what it costs
    notes: tuple[str, ...] = ()  # what a reader of the results must know of it
    claims: str | None = None  # the file of published claims to judge, by name
    sweep: Sweep | None = None  # the arms are the settings of a sweep
    ask: Request = Request()  # what servers that run already are asked

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if not self.concurrency and not self.arrivals:
            raise ValueError("give concurrency (closed loop) or arrivals (open loop), or both")
        if self.concurrency and self.requests is None and self.duration_s is None:
            raise ValueError("give requests or duration_s (per closed trial): how long is measured?")
        _refuse_twice("arm", [arm.name for arm in self.every_arm])
        _refuse_twice("load", [str(law) for law in self.laws])
        if any(not law.is_open for law in self.arrivals):
            raise ValueError("arrivals: a closed loop is asked for with concurrency")
        if self.reference is not None and self.reference not in [arm.name for arm in self.arms]:
            raise ValueError(f"reference: there is no arm {self.reference!r}")
        if self.precision is not None and (len(self.every_arm) < 2 or self.blocks < FEWEST_BLOCKS):
            raise ValueError(f"precision needs two arms (or a twin) and at least {FEWEST_BLOCKS} blocks")
        self._has_a_size()
        self._do_one_kind_of_work()
        if all(arm.io_per_model is not None for arm in self.arms):
            raise ValueError("every arm scales its I/O to the model, so none is left for the pilot")
        return self

    def _has_a_size(self) -> None:
        """ValueError for more trials, or more requests in one of them, than anybody means."""
        trials = len(self.every_arm) * len(self.laws) * self.blocks
        if trials > bounds.TRIALS:
            raise ValueError(f"arms, loads and blocks make {trials:,} trials; at most {bounds.TRIALS:,}")
        per_user = self.warmup_per_client + (self.requests_per_user or 0)
        if per_user * max(self.concurrency, default=0) > bounds.REQUESTS:
            raise ValueError(f"a closed trial has at most {bounds.REQUESTS:,} requests of all its users")
        for law in self.arrivals:
            arrivals.check_request_count(law, self.open_settle_s + self.open_duration_s)

    @property
    def laws(self) -> tuple[Law, ...]:
        """Every load, the closed ones first."""
        return (*map(closed, self.concurrency), *self.arrivals)

    @property
    def runs_elsewhere(self) -> bool:
        """Whether the arms are servers that run already: none is started then."""
        return self.arms[0].url is not None

    def _do_one_kind_of_work(self) -> None:
        """ValueError for strategies beside running servers, and for what only one of the two can be told."""
        if len({arm.url is None for arm in self.arms}) > 1:
            raise ValueError("servers that run already and strategies do different work: take two runs")
        if not self.runs_elsewhere and self.ask != Request():
            raise ValueError("ask: what is asked is said of servers that run already (--url NAME=URL)")
        if not self.runs_elsewhere:
            return
        texts = {"workload": {"payloads"}}
        ours = self.model_dump(include=_OF_OUR_SERVERS, exclude=texts, exclude_defaults=True)
        if told := [key for key, value in ours.items() if value != {}]:
            raise ValueError(f"servers that run already cannot be told {', '.join(told)}")
        self._ask(self.seed)

    @property
    def reference_arm(self) -> Arm:
        """The arm that the others are compared with."""
        return next(arm for arm in self.arms if self.reference in (None, arm.name))

    @property
    def every_arm(self) -> tuple[Arm, ...]:
        """The arms, and the twin of the reference if one was asked for."""
        if not self.twin:
            return self.arms
        reference = self.reference_arm
        return (*self.arms, reference.model_copy(update={"name": f"{reference.name}{TWIN_SUFFIX}"}))

    @property
    def knows_own_loads(self) -> bool:
        """Whether it must be seen first what each arm can do."""
        return any(law.is_own for law in self.arrivals)

    @property
    def pilot(self) -> Arm | None:
        """The arm on which the model's time alone is seen before scaled arms start; None when none are."""
        if all(arm.io_per_model is None for arm in self.arms):
            return None
        return next(arm for arm in self.arms if arm.io_per_model is None)

    def cells(self) -> Iterator[Cell]:
        """Every trial in the order it is run: in each block the loads in random order, in each load the arms.

        So the arms that are compared under a load follow each other within seconds.
        """
        for block in range(1, self.blocks + 1):
            draw = random.Random(self.block_seed(block))  # noqa: S311 - order, not secrets
            with_open = (block - 1) % self.open_every == 0
            laws = [law for law in draw.sample(self.laws, len(self.laws)) if with_open or not law.is_open]
            cells = [(arm, law) for law in laws for arm in draw.sample(self.every_arm, len(self.every_arm))]
            for position, (arm, law) in enumerate(cells):
                yield Cell(block, position, arm, law)

    def block_seed(self, block: int) -> int:
        """Seed of order, texts and arrivals: new for each block, the same for all arms in it."""
        return self.seed * _SEEDS_PER_RUN + block

    def load_options(self, url: str, law: Law, block: int) -> LoadOptions:
        """One trial's load on a server at `url` (empty: `LoadOptions.at` says it later)."""
        path, ping_path, asked = self._asked(self.block_seed(block))
        return LoadOptions(
            url=url + path,
            **asked,
            arrivals=law,
            seed=self.block_seed(block),
            cap=self.cap,
            timeout_s=self.timeout_s,
            transport=self.transport,
            ping_url=url + ping_path if self.ping_per_s and ping_path else None,
            ping_per_s=self.ping_per_s or 1.0,
            beat=self.probes,
            **self.window(law),
        )

    def _asked(self, seed: int) -> tuple[str, str | None, dict[str, Any]]:
        """Path, path of the ping, and what `LoadOptions` says of a request."""
        if self.runs_elsewhere:
            return "", self.ask.ping_path, self._ask(seed)
        method, path = self.route.split(" ")
        texts = Texts(workload=self.workload, seed=seed) if method == "POST" else None
        return path, "/ping", {"method": method, "texts": texts}

    def _ask(self, seed: int) -> dict[str, Any]:
        """What servers that run already are asked."""
        return self.ask.load(self.workload, seed, [arm.url or "" for arm in self.arms])

    def window(self, law: Law) -> dict[str, Any]:
        """What `LoadOptions` says of how long a trial under `law` is."""
        if law.is_open:
            return {"duration_s": self.open_duration_s, "settle_s": self.open_settle_s}
        users = law.users or 1
        return {
            "requests": max(self.requests or 0, users * (self.requests_per_user or 0)) or None,
            "duration_s": self.duration_s,
            "warmup_requests": self.warmup_per_client * users,
            "settle_s": self.settle_s,
        }


def _refuse_twice(what: str, values: Sequence[str]) -> None:
    twice = sorted(value for value, times in Counter(values).items() if times > 1)
    if twice:
        raise ValueError(f"duplicate {what} {twice[0]}")
