"""A plan: arms x loads x blocks, as data that is checked as a whole."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, PositiveFloat, model_validator

from harness.plans.arm import Arm, Name
from harness.wire import arrivals, bounds
from harness.wire.arrivals import closed
from harness.wire.load_options import Law, LoadOptions, LoadSettings, Request, Route, Texts
from harness.wire.options import WorkloadOptions
from harness.wire.panel import Panel
from harness.wire.records import TWIN_SUFFIX
from harness.wire.setting import (
    Blocks,
    Frozen,
    Requests,
    Seconds,
    SecondsOrZero,
    Seed,
    SetByRun,
    Setting,
    Share,
    Users,
)

_SEEDS_PER_RUN = 1_000_000  # block seeds of two run seeds must not meet


class Cell(NamedTuple):
    """One trial: an arm under a load, at its place in a block."""

    block: int
    position: int
    arm: Arm
    law: Law


BLOCKS = 24  # see docs/studies/windows.md
Until = Literal["blocks", "settled"]

Scalar = str | int | float | bool


class Sweep(Frozen):
    """The axes of a sweep. The plan has an arm for each combination of values that its strategy takes."""

    strategies: tuple[str, ...]  # as given
    axes: dict[str, tuple[Scalar, ...]]  # option → its values, as given
    settings: dict[str, dict[str, Scalar]]  # arm → its value on each axis that its strategy takes


class Exclusion(Frozen):
    """The limits beyond which a block is left out: means over its trials, by time. Fixed before the run.

    Each is many times what this instrument causes itself: a twentieth of the machine taken away, a third of a
    core busy with other programs, requests sent 10 ms late in open loop.
    """

    steal_share: Annotated[
        PositiveFloat, Setting("Leave out blocks with more steal.", Panel.PRECISION, flag=None)
    ] = 0.05
    foreign_cpu: Annotated[
        PositiveFloat,
        Setting(
            "Leave out blocks with more CPU of other programs.",
            Panel.PRECISION,
            flag="--exclude-foreign-cpu",
            metavar="CORES",
        ),
    ] = 0.33
    dispatch_lag_p99_ms: Annotated[
        PositiveFloat, Setting("Leave out blocks with more dispatch lag.", Panel.PRECISION, flag=None)
    ] = 10.0


OF_OUR_SERVERS = {"limit", "claims"}
_OF_STARTED_SERVERS = {"workload", "route", "fresh", "pin", "skip_missing", "suspend_idle"}


class Plan(LoadSettings):
    """Arms x loads x blocks. Closed loops measure many short windows, open loops few long ones.

    A closed window lasts until `requests` (at least `requests_per_user` of each user) are under way and
    `duration_s` is over, an open one for `open_duration_s`, after `open_settle_s` of warm-up.
    """

    name: Annotated[Name, Setting("Call the plan by this name.", Panel.OUTPUT, flag=None)]
    summary: Annotated[str, Setting("Say in one line what the plan is for.", Panel.OUTPUT, flag=None)] = ""
    notes: Annotated[
        tuple[str, ...], Setting("Tell readers of the results these things.", Panel.OUTPUT, flag=None)
    ] = ()
    workload: Annotated[
        WorkloadOptions, Setting("Run this model and this I/O in every arm.", Panel.MODEL, flag=None)
    ] = WorkloadOptions()
    arms: Annotated[tuple[Arm, ...], Setting("Compare these arms.", Panel.COMPARE, flag=None)] = Field(
        min_length=1, max_length=bounds.TRIALS
    )
    reference: Annotated[
        Name | None,
        Setting("Compare all other arms with this one.", Panel.COMPARE, metavar="ARM", shown_default="first"),
    ] = None
    concurrency: Annotated[
        tuple[Users, ...],
        Setting("Closed loop: send from this many users. Repeatable.", Panel.LOAD, flag="--concurrency,-c"),
    ] = ()
    arrivals: Annotated[
        tuple[Law, ...],
        Setting("Open loop: constant(50), burst(10, 0.5), own(0.8) … Repeatable.", Panel.LOAD, metavar="LAW"),
    ] = ()
    blocks: Annotated[Blocks, Setting("Repeat all trials this often, in random order.", Panel.PRECISION)] = (
        BLOCKS
    )
    until: Annotated[
        Until,
        Setting(
            "Run all blocks, or stop once every verdict is settled.",
            Panel.PRECISION,
            metavar="blocks|settled",
        ),
    ] = "blocks"
    precision: Annotated[
        Share | None,
        Setting(
            "Stop early when every interval is within ± this, like 3%.", Panel.PRECISION, metavar="SHARE"
        ),
    ] = None
    twin: Annotated[bool, Setting("Run the reference twice, to see the noise.", Panel.PRECISION)] = False
    requests_per_user: Annotated[
        Requests | None,
        Setting("Closed loop: measure at least this many requests of each user.", Panel.PRECISION, flag=None),
    ] = None
    warmup_per_client: Annotated[
        Annotated[int, Field(ge=0, le=bounds.REQUESTS)],
        Setting("Closed loop: warm up with this many requests of each user.", Panel.PRECISION, flag=None),
    ] = 2
    settle_s: Annotated[
        SecondsOrZero, Setting("Closed loop: warm up at least this long.", Panel.PRECISION, flag=None)
    ] = 0.0
    open_duration_s: Annotated[
        Seconds, Setting("Open loop: measure for this long.", Panel.PRECISION, flag=None)
    ] = 20.0  # from empty, the wait at load 0.8 is 15 % too low after 2 s
    open_settle_s: Annotated[
        SecondsOrZero, Setting("Open loop: warm up this long.", Panel.PRECISION, flag=None)
    ] = 3.0
    open_every: Annotated[
        Blocks, Setting("Run open loops in every n-th block only.", Panel.PRECISION, flag=None)
    ] = 1  # as their windows are long
    own_users: Annotated[
        Users, Setting("Measure an arm's own throughput with this many users.", Panel.LOAD, flag=None)
    ] = 32
    route: Annotated[Route, Setting("Measure this route.", Panel.LOAD, flag=None)] = "POST /predict"
    seed: Annotated[Seed, Setting("Draw trials, texts and arrivals by this seed.", Panel.PRECISION)] = 1
    fresh: Annotated[
        bool, Setting("Start a new server for each trial.", Panel.PRECISION, flag="--fresh/--resident")
    ] = False
    suspend_idle: Annotated[
        bool, Setting("Suspend commands while other arms are measured.", Panel.PRECISION, flag=None)
    ] = False
    bind: Annotated[
        Annotated[str, Field(pattern=r"^[\w.:-]+$")],
        Setting("Serve at this address, for load from other hosts.", Panel.LOAD, metavar="ADDRESS"),
    ] = "127.0.0.1"
    neighbours: Annotated[
        Annotated[int, Field(ge=0, le=bounds.PROCESSES)],
        Setting("Keep this many cores busy, as other programs may do.", Panel.PRECISION, flag=None),
    ] = 0
    pin: Annotated[bool, Setting("Give client and servers CPUs of their own.", Panel.PRECISION)] = False
    delta_latency: Annotated[
        PositiveFloat,
        Setting("Ignore smaller differences of latency, as a share.", Panel.PRECISION, flag=None),
    ] = 0.05
    delta_throughput: Annotated[
        PositiveFloat,
        Setting("Ignore smaller differences of throughput, as a share.", Panel.PRECISION, flag=None),
    ] = 0.03
    exclude: Annotated[
        Exclusion, Setting("Leave out blocks beyond these limits.", Panel.PRECISION, flag=None)
    ] = Exclusion()
    ping_per_s: Annotated[
        Annotated[float, Field(ge=0, le=bounds.PER_S)],
        Setting("Ping a route without model at this rate; 0 for never.", Panel.PRECISION, flag=None),
    ] = 10.0
    probes: Annotated[bool, Setting("Measure the lag of the event loops.", Panel.PRECISION, flag=None)] = True
    self_check: Annotated[
        bool, Setting("First measure the load generator's top rate (4 s).", Panel.PRECISION)
    ] = True
    limit: Annotated[
        bool, Setting("Measure the bare model, without a service, in each block.", Panel.PRECISION)
    ] = False
    limit_s: Annotated[
        Seconds, Setting("Time the bare model this long at each batch size.", Panel.PRECISION, flag=None)
    ] = 0.3
    ranking: Annotated[bool, Setting("Rank the arms at the end of the report.", Panel.OUTPUT, flag=None)] = (
        False
    )
    claims: Annotated[
        str | None, Setting("Judge the published claims of this name.", Panel.OUTPUT, flag=None)
    ] = None
    sweep: Annotated[Sweep | None, SetByRun()] = None  # by `execbench sweep`: the arms are its settings
    skip_missing: Annotated[
        bool,
        Setting("Leave out arms whose program, event loop or backend is missing.", Panel.COMPARE, flag=None),
    ] = False
    left_out: Annotated[dict[Name, str], SetByRun()] = Field(
        default_factory=dict
    )  # by `skip_missing`: reason
    ask: Annotated[
        Request, Setting("Send this request to servers that are not ours.", Panel.RUNNING, flag=None)
    ] = Request()

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if not self.concurrency and not self.arrivals:
            raise ValueError("give concurrency (closed loop) or arrivals (open loop), or both")
        if self.concurrency and self.requests is None and self.duration_s is None:
            raise ValueError("give requests or duration_s, which end the window of a closed loop")
        _refuse_twice("arm", [arm.name for arm in self.every_arm])
        _refuse_twice("load", [str(law) for law in self.laws])
        if any(not law.is_open for law in self.arrivals):
            raise ValueError("arrivals: give a closed loop with concurrency (-c)")
        if self.reference is not None and self.reference not in [arm.name for arm in self.arms]:
            raise ValueError(f"reference: there is no arm {self.reference!r}")
        self._can_stop_early()
        if self.think is not None and not self.concurrency:
            raise ValueError("think: only the users of a closed loop pause; give concurrency (-c)")
        self._has_a_size()
        self._do_one_kind_of_work()
        self._sends_its_texts()
        if all(arm.io_per_model is not None for arm in self.arms):
            raise ValueError("every arm scales its I/O to the model; the pilot needs one that does not")
        return self

    def _can_stop_early(self) -> None:
        """Raise ValueError for a plan that should stop early but cannot."""
        if self.precision is not None and (len(self.every_arm) < 2 or self.blocks < bounds.FIRST_LOOK):
            raise ValueError(
                f"precision needs two arms (or --twin) and at least {bounds.FIRST_LOOK} blocks (--blocks)"
            )

    def _has_a_size(self) -> None:
        """Raise ValueError for more trials, or more requests in a trial, than anyone can mean."""
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
        """All loads, closed loops first."""
        return (*map(closed, self.concurrency), *self.arrivals)

    @property
    def has_running_servers(self) -> bool:
        """Whether the arms are servers that already run, so that the run starts none."""
        return self.arms[0].url is not None

    @property
    def has_strategies(self) -> bool:
        """Whether an arm is our own server, which obeys the workload."""
        return any(not arm.is_foreign for arm in self.arms)

    @property
    def has_foreign_servers(self) -> bool:
        """Whether an arm is a server that is not ours, which gets the requests of `ask`."""
        return any(arm.is_foreign for arm in self.arms)

    def _do_one_kind_of_work(self) -> None:
        """Raise ValueError for servers that already run beside others, and for options that no arm obeys."""
        if len({arm.url is None for arm in self.arms}) > 1:
            raise ValueError(
                "servers that already run and servers that the run starts do different work: use two runs"
            )
        if not self.has_foreign_servers and self.ask != Request():
            raise ValueError(
                "ask (--header, --method, --body, --expect-status, --ping-path) needs a server that already "
                "runs (--url NAME=URL) or a command (--command NAME=COMMAND)"
            )
        if self.has_strategies:
            return
        kind = "servers that already run" if self.has_running_servers else "commands"
        unused = OF_OUR_SERVERS | (_OF_STARTED_SERVERS if self.has_running_servers else set())
        texts = {"workload": {"payloads"}}
        ours = self.model_dump(include=unused, exclude=texts, exclude_defaults=True)
        if given := [key for key, value in ours.items() if value != {}]:
            raise ValueError(f"{kind} cannot have {', '.join(given)}")

    def _sends_its_texts(self) -> None:
        """Raise ValueError for texts that no request would send."""
        recorded = [law for law in self.laws if law.recorded_texts]
        if self.workload.payloads is not None and len(recorded) == len(self.laws):
            raise ValueError(f"payloads: {recorded[0]} has its own texts")
        for law in self.laws if self.has_foreign_servers else ():
            for arm in self.arms:
                self._asked(arm, self.seed, law)
        if self.has_running_servers:
            return
        if recorded and self.route != "POST /predict":
            raise ValueError(f"route: {self.route} sends no texts, but {recorded[0]} has some")

    @property
    def reference_arm(self) -> Arm:
        """The arm that the others are compared with."""
        return next(arm for arm in self.arms if self.reference in (None, arm.name))

    @property
    def every_arm(self) -> tuple[Arm, ...]:
        """The arms, and the twin of the reference if the plan has one."""
        if not self.twin:
            return self.arms
        reference = self.reference_arm
        return (*self.arms, reference.model_copy(update={"name": f"{reference.name}{TWIN_SUFFIX}"}))

    @property
    def needs_own_throughput(self) -> bool:
        """Whether a load depends on the arm's own throughput, which a pilot must measure first."""
        return any(law.is_own for law in self.arrivals)

    @property
    def pilot(self) -> Arm | None:
        """The arm whose model is timed alone before scaled arms start; None if no arm scales its I/O."""
        if all(arm.io_per_model is None for arm in self.arms):
            return None
        return next(arm for arm in self.arms if arm.io_per_model is None)

    def cells(self) -> Iterator[Cell]:
        """Return all trials in order."""
        return (cell for block in range(1, self.blocks + 1) for cell in self.cells_of(block))

    def cells_of(self, block: int) -> Iterator[Cell]:
        """Return the trials of a block: loads in random order, and for each load the arms, in a row."""
        draw = random.Random(self.block_seed(block))  # noqa: S311 - order, not secrets
        laws = draw.sample(self.laws, len(self.laws))
        laws = [law for law in laws if not law.is_open or (block - 1) % self.open_every == 0]
        cells = [(arm, law) for law in laws for arm in draw.sample(self.every_arm, len(self.every_arm))]
        return (Cell(block, position, *cell) for position, cell in enumerate(cells))

    def block_seed(self, block: int) -> int:
        """Seed of order, texts and arrivals: another one for each block, the same for all its arms."""
        return self.seed * _SEEDS_PER_RUN + block

    def load_options(self, url: str, law: Law, block: int, arm: Arm | None = None) -> LoadOptions:
        """Return one trial's load on a server at `url`; if that is empty, `LoadOptions.at` adds it later.

        `arm` is the server's; None: one of ours.
        """
        path, ping_path, asked = self._asked(arm, self.block_seed(block), law)
        return LoadOptions(
            url=url + path,
            **asked,
            arrivals=law,
            seed=self.block_seed(block),
            ping_url=url + ping_path if self.ping_per_s and ping_path else None,
            ping_per_s=self.ping_per_s or 1.0,
            probe_loop=self.probes,
            most_generators=None if arm is None else arm.generators,
            **{name: getattr(self, name) for name in LoadSettings.model_fields} | self.window(law),
        )

    def _asked(self, arm: Arm | None, seed: int, law: Law) -> tuple[str, str | None, dict[str, Any]]:
        """Return the path, the path of the ping, and the fields of `LoadOptions` about a request."""
        if arm is not None and arm.url is not None:
            urls = [one.url or "" for one in self.arms]
            return "", self.ask.ping_path, self.ask.load(self.workload, seed, urls, law)
        method, path = self.route.split(" ")
        if arm is not None and arm.command is not None:
            own = {"method": arm.method or self.ask.method or method, "body": arm.body or self.ask.body}
            path = arm.path or path
            request = self.ask.model_copy(update=own)
            asked = request.load(self.workload, seed, [path], law, posts_texts=True)
            return path, arm.ping or self.ask.ping_path, asked
        texts = Texts(workload=self.workload, seed=seed, recording=law.recorded_texts)
        return path, "/ping", {"method": method, "texts": texts if method == "POST" else None}

    def window(self, law: Law) -> dict[str, Any]:
        """Return the fields of `LoadOptions` about how long a trial under `law` is, and its think time."""
        if law.is_open:
            settle_s = self.open_settle_s
            return {"requests": None, "duration_s": self.open_duration_s, "settle_s": settle_s, "think": None}
        users = law.users or 1
        requests = max(self.requests or 0, users * (self.requests_per_user or 0)) or None
        # a plan of open loops alone may give neither, and yet has pilots, which are closed loops
        duration_s = self.duration_s or (None if requests else self.open_duration_s)
        return {
            "requests": requests,
            "duration_s": duration_s,
            "warmup_requests": self.warmup_per_client * users,
            "settle_s": self.settle_s,
            "think": self.think,
        }


def _refuse_twice(what: str, values: Sequence[str]) -> None:
    twice = sorted(value for value, times in Counter(values).items() if times > 1)
    if twice:
        raise ValueError(f"duplicate {what} {twice[0]}")
