"""What the command line says, as plain data: groups of flags that several commands have, and single words."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from harness.commands import flags
from harness.errors import UsageError, shortened


class Server(NamedTuple):
    """What several commands can be told of the servers: the workload, and options of the strategies."""

    workers: flags.Workers = None
    option: flags.StrategyOptions = None
    server_processes: flags.ServerProcesses = None
    workload: flags.WorkloadName = None
    payloads: flags.Payloads = None
    model: flags.Model = None
    backend: flags.Backend = None
    torch_threads: flags.TorchThreads = None
    onnx_threads: flags.OnnxThreads = None
    device: flags.Device = None
    online: flags.Online = False
    service_ms: flags.ServiceMs = None
    mode: flags.Mode = None
    io: flags.Io = None
    io_ms: flags.IoMs = None
    io_dsn: flags.IoDsn = None
    io_rows: flags.IoRows = None
    io_timeout: flags.IoTimeout = None
    inject: flags.Injected = None

    def as_plan_flags(self) -> dict[str, Any]:
        """The keys of `from_flags.Flags` that these are about; UsageError for a pair that is none."""
        from harness.plans import from_flags

        return {
            "workers": self.workers,
            "options": from_flags.pairs(self.option or (), "--option"),
            "server_processes": self.server_processes,
            "workload": self._workload(),
            "inject": inject(self.inject),
        }

    def _workload(self) -> dict[str, Any]:
        """What was said of the workload, and nothing else."""
        threads = ("torch_threads", "onnx_threads")
        same = ("payloads", "model", "backend", *threads, "device", "service_ms", "mode")
        model = {name: getattr(self, name) for name in same}
        return said(name=self.workload, **model, online=self.online or None) | self._io()

    def _io(self) -> dict[str, Any]:
        """What was said of the awaited I/O."""
        from harness.workloads.io import kinds

        parsed = {} if self.io is None else kinds.parse(self.io)
        if self.io_ms is not None and "io_ms" in parsed:
            raise UsageError(
                f"--io {self.io} and --io-ms both say how long the I/O takes: give one.", stage="plan"
            )
        return parsed | said(
            io_ms=self.io_ms,
            io_dsn=None if self.io_dsn is None else _without_password(self.io_dsn),
            io_rows=self.io_rows,
            io_timeout_s=self.io_timeout,
        )


class Measuring(NamedTuple):
    """What commands that run a plan can be told of loads, windows, blocks and the instrument."""

    concurrency: flags.Concurrency = None
    rate: flags.Rate = None
    arrivals: flags.Arrivals = None
    cap: flags.Cap = None
    requests: flags.Requests = None
    duration: flags.Duration = None
    blocks: flags.Blocks = None
    precision: flags.PrecisionShare = None
    twin: flags.Twin = None
    reference: flags.Reference = None
    fresh: flags.Fresh = None
    pin: flags.Pin = None
    transport: flags.Transport = None
    timeout: flags.Timeout = None
    seed: flags.Seed = None
    self_check: flags.SelfCheck = None
    limit: flags.Limit = None
    exclude_foreign_cpu: flags.ExcludeForeignCpu = None

    def as_plan_flags(self) -> dict[str, Any]:
        """The keys of `from_flags.Flags` that these are about; UsageError for what contradicts itself."""
        refuse_both(self.requests, self.duration, stage="plan")
        same = ("cap", "requests", "blocks", "twin", "reference", "fresh", "pin", "transport", "seed")
        return {
            "concurrency": tuple(self.concurrency or ()),
            "arrivals": open_laws(self.rate, self.arrivals, stage="plan"),
            **{name: getattr(self, name) for name in (*same, "self_check", "limit")},
            "duration_s": self.duration,
            "precision": share(self.precision, "--precision"),
            "timeout_s": self.timeout,
            "exclude": said(foreign_cpu=self.exclude_foreign_cpu),
        }


class Asking(NamedTuple):
    """What a server that runs already is asked."""

    header: flags.HeaderLines = None
    method: flags.Method = None
    body: flags.Body = None
    expect_status: flags.ExpectStatus = None

    def as_request(self, **more: str | None) -> dict[str, Any]:
        """The keys of `options.Request` that were said, and `more` of them; UsageError for no header line."""
        from harness.wire import sending

        try:
            headers = [sending.parse_header(line) for line in self.header or ()]
        except ValueError as error:
            hint = "For example: --header 'X-Tenant: a'"
            raise UsageError(f"--header is not understood: {error}.", stage="plan", hint=hint) from error
        return said(
            headers=headers or None,
            method=self.method,
            body=self.body,
            expect_status=self.expect_status,
            **more,
        )


def said(**flags: Any) -> dict[str, Any]:
    """Those of the flags that were given."""
    return {name: value for name, value in flags.items() if value is not None}


def _headers(lines: list[str] | None) -> list[tuple[str, str]]:
    from harness.wire import sending

    try:
        return [sending.parse_header(line) for line in lines or ()]
    except ValueError as error:
        raise UsageError(
            f"--header is not understood: {error}.", stage="plan", hint="For example: --header 'X-Tenant: a'"
        ) from error


def open_laws(rate: list[float] | None, arrivals: list[str] | None, *, stage: str) -> tuple[str, ...]:
    """Parse the laws of open loads; raise UsageError for a text that is no law."""
    laws = [f"poisson({number:.15g})" for number in rate or ()] + list(arrivals or ())
    for law in laws:
        _refuse_no_law(law, stage)
    return tuple(laws)


def _refuse_no_law(text: str, stage: str) -> None:
    from harness.wire import arrivals

    try:
        law = arrivals.parse(text)
    except ValueError as error:
        example = f"For example: --arrivals '{arrivals.EXAMPLES[2]}'"
        raise UsageError(f"{error}.", stage=stage, hint=example) from error
    if law.is_own and stage != "plan":
        raise UsageError(
            f"--arrivals {text!r} is a share of what an arm can do.",
            stage=stage,
            hint="Here it is not known: give a rate, as in --rate 50.",
        )
    if not law.is_open:
        raise UsageError(f"--arrivals {text!r} is a closed loop.", stage=stage, hint="Ask for it with -c 8.")


def refuse_both(requests: int | None, duration: float | None, *, stage: str) -> None:
    """UsageError when a window is given twice."""
    if requests is not None and duration is not None:
        raise UsageError("Give either --requests or --duration, not both.", stage=stage)


def refuse_resume(resume: Path | None) -> None:
    """UsageError when --resume stands beside --dry-run: what is left of a run is known only by running it."""
    if resume is not None:
        raise UsageError("Give one of --dry-run and --resume.", stage="resume")


def inject(pairs: list[str] | None) -> dict[str, float]:
    """PART=MS → the keys of `options.Inject`; UsageError for what is no such pair."""
    injected = {}
    for pair in pairs or ():
        part, _, delay = pair.partition("=")
        if part not in ("queue", "model", "resume", "io") or not 0 <= _number(delay) < math.inf:
            raise UsageError(
                f"--inject {shortened(pair)!r} is not understood.",
                stage="plan",
                hint="For example: --inject queue=20",
            )
        injected[f"{part}_ms"] = float(delay)
    return injected


def _without_password(dsn: str) -> str:
    """The address as it may be kept with the results; its password goes where all our processes find it."""
    from urllib.parse import unquote, urlsplit

    try:
        parts = urlsplit(dsn)
        password = parts.password
    except ValueError:
        return dsn  # which is none: connecting will say so
    if password is None:
        return dsn
    os.environ["PGPASSWORD"] = unquote(password)
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.partition(':')[0]}@{host}").geturl()


def share(text: str | None, flag: str) -> float | None:
    """3% or 0.03 → 0.03; UsageError for anything that is not between 0 and 1."""
    if text is None:
        return None
    number = _number(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0 < number < 1:
        raise UsageError(
            f"{flag} {shortened(text)!r} is not understood.", stage="plan", hint=f"For example: {flag} 3%"
        )
    return number


def _number(text: str) -> float:
    """Parse a number; NaN for any other text."""
    try:
        return float(text)
    except ValueError:
        return math.nan
