"""`execbench load`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands import flags
from harness.commands.run import show_all
from harness.commands.terminal import console, print_message
from harness.errors import HarnessError, UsageError
from harness.wire.panel import Panel

if TYPE_CHECKING:
    from harness.plans.from_flags import Flags
    from harness.plans.settings import Known
    from harness.results.store import Writer
    from harness.wire.arrivals import Law
    from harness.wire.load_options import LoadOptions

REQUESTS = 200
SECONDS = 20.0
OPEN_SETTLES_S = 3.0


def _is_used(one: Known) -> bool:
    from harness.wire.load_options import LoadSettings

    if one.section == "ask":
        return one.name != "ping_path"
    return one.name == "payloads" or (one.section == "plan" and one.name in LoadSettings.model_fields)


EXAMPLES = (
    "execbench load http://127.0.0.1:8000/",
    "execbench load http://127.0.0.1:8000/predict -c 16 --payloads texts.txt --duration 10",
    """execbench load http://127.0.0.1:8000/search --rate 50 --body '{"query": "{text}"}' --seed 1""",
    "execbench load http://127.0.0.1:8000/ -c 100 --think 'exponential(2)' --duration 60",
    "execbench load http://127.0.0.1:8000/predict --arrivals 'replay(recorded.jsonl)'",
)


@flags.with_settings
def load(
    *,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where to send requests.")],
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            "-c",
            min=1,
            metavar="N",
            help="Closed loop: send from this many users. [8]",
            rich_help_panel=Panel.LOAD,
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            metavar="PER_S", help="Open loop: Poisson arrivals at this rate.", rich_help_panel=Panel.LOAD
        ),
    ] = None,
    arrivals: Annotated[
        str | None,
        typer.Option(
            metavar="LAW",
            help="Open loop: constant(50), burst(10, 0.5), replay(FILE); a .jsonl has texts too.",
            rich_help_panel=Panel.LOAD,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="Send texts drawn by this seed, by POST.", rich_help_panel=Panel.LOAD
        ),
    ] = None,
    given: Flags = flags.settings(_is_used, stage="load"),
    out: flags.Out = None,
    full: flags.Full = False,
    as_json: flags.AsJson = False,
) -> None:
    """Send load to one server that already runs, and show its latency.

    The report splits the latency into its parts if the server answers with Server-Timing. Without a body,
    texts are sent as {"text": …}.
    """
    flags.refuse_full_json(full=full, as_json=as_json)
    from harness.wire import addresses

    try:
        addresses.checked(url)
    except ValueError as error:
        raise UsageError(f"{error}.", stage="load", hint="For example: http://127.0.0.1:8000/") from error
    if sum(one is not None for one in (concurrency, rate, arrivals)) > 1:
        raise UsageError("Give only one of --concurrency, --rate and --arrivals.", stage="load")
    law = _law(concurrency, rate, arrivals)
    window: dict[str, Any] = {
        name: given.plan[name] for name in ("requests", "duration_s") if name in given.plan
    }
    if len(window) > 1:
        raise UsageError("Give either --requests or --duration, not both.", stage="load")
    options: dict[str, Any] = {
        **given.plan,
        "arrivals": law,
        **_warmup(law),
        **(window or _window(law)),
        **_request(url, given, seed, law),
    }
    _load(_checked(url, options), out, full=full, as_json=as_json)


def _law(concurrency: int | None, rate: float | None, arrivals: str | None) -> Law:
    from harness.wire import arrivals as arrivals_

    flag, text = "--concurrency", f"closed({8 if concurrency is None else concurrency})"
    if rate is not None:
        flag, text = "--rate", f"poisson({rate:.15g})"
    if arrivals is not None:
        flag, text = "--arrivals", arrivals
    try:
        law = arrivals_.parse(text)
    except ValueError as error:
        hint = f"For example: --arrivals '{arrivals_.EXAMPLES[2]}'"
        raise UsageError(f"{flag}: {error}.", stage="load", hint=hint) from error
    if law.is_own:
        raise UsageError(
            f"{flag} {text!r} is a share of an arm's own throughput, which is unknown here.",
            stage="load",
            hint="Give a rate, as in --rate 50.",
        )
    if not law.is_open and arrivals is not None:
        raise UsageError(f"{flag} {text!r} is a closed loop.", stage="load", hint="Give it with -c 8.")
    return law


def _warmup(law: Law) -> dict[str, Any]:
    if law.users:
        return {"warmup_requests": 2 * law.users}
    return {"settle_s": min(OPEN_SETTLES_S, _last_s(law) / 4) if law.file else OPEN_SETTLES_S}


def _window(law: Law) -> dict[str, Any]:
    """Return how long to measure if the user does not say so: a replay until its end."""
    from harness.wire import bounds

    if law.users:
        return {"requests": REQUESTS}
    # a second more than until the last request, with which the window ends
    return {"duration_s": min(_last_s(law) + 1.0, bounds.A_DAY_S) if law.file else SECONDS}


def _last_s(law: Law) -> float:
    from harness.wire import recordings

    return recordings.times_s(law.file)[-1]


def _checked(url: str, given: dict[str, Any]) -> LoadOptions:
    """Return the checked load. Raises UsageError for one that is too large."""
    from harness.wire import arrivals
    from harness.wire.load_options import LoadOptions

    with _refused("This load is not valid"):
        load = LoadOptions(url=url, **given)
        arrivals.check_request_count(load.arrivals, load.settle_s + (load.duration_s or 0.0))
    return load


def _request(url: str, given: Flags, seed: int | None, law: Law) -> dict[str, Any]:
    """Return the fields of `LoadOptions` about a request. Raises UsageError for one that cannot be sent."""
    from harness import workloads
    from harness.plans import plan_checks
    from harness.wire import addresses, sending
    from harness.wire.load_options import Request
    from harness.wire.options import WorkloadOptions

    if law.recorded_texts and (seed is not None or "payloads" in given.workload):
        flag = "--payloads" if seed is None else "--seed"
        raise UsageError(
            f"The texts of {law} are sent, so {flag} has no effect.", stage="load", hint="Leave it out."
        )
    ask = given.ask
    if seed is not None and addresses.PLACEHOLDER not in url and ask.keys() <= {"headers", "expect_status"}:
        ask = ask | {"body": sending.DEFAULT_BODY}
    with _refused("This request is not valid"):
        workload = WorkloadOptions(**given.workload)
        workloads.check(workload)
        request = Request.model_validate(ask)
        fields = request.load(workload, 1 if seed is None else seed, [url], law)
    plan_checks.check_headers(request, stage="load")
    return fields | ({} if seed is None else {"seed": seed})


@contextlib.contextmanager
def _refused(what: str) -> Iterator[None]:
    """Turn a ValueError into a UsageError that begins with `what`."""
    from pydantic import ValidationError

    from harness.wire.setting import explain

    try:
        yield
    except ValueError as error:
        why = explain(error) if isinstance(error, ValidationError) else error
        raise UsageError(f"{what}: {why}.", stage="load") from error


def _load(options: LoadOptions, out: Path | None, *, full: bool, as_json: bool) -> None:
    from harness.commands.progress import Progress
    from harness.results import store
    from harness.run import load_url

    writer = store.Writer(out or store.default_folder("load"))
    try:
        with Progress(console(stderr=True), seconds=_lasts_s(options), requests=options.requests) as progress:
            trial = load_url.load(options, writer, progress)
    except KeyboardInterrupt:
        _show_what_there_is(writer, full=full, as_json=as_json)
        raise
    except HarnessError:
        _keep_record(writer)
        raise
    show_all(writer, full=full, as_json=as_json)
    if trial.state != "ok":
        rows = writer.folder / "requests.csv"
        raise HarnessError(trial.error, stage="load", hint=f"All rows are kept: {rows}")


def _lasts_s(options: LoadOptions) -> float | None:
    """How long the load lasts, warm-up included; None if its requests end it."""
    return None if options.duration_s is None else options.settle_s + options.duration_s


def _show_what_there_is(writer: Writer, *, full: bool, as_json: bool) -> None:
    """Show what an interrupted load has measured; remove a folder without any measured request."""
    measured = writer.measured or writer.uncommitted
    if not measured:
        writer.discard()
        return
    show_all(writer, full=full, as_json=as_json)
    counted = f"{measured} request{'s were' if measured > 1 else ' was'} measured"
    print_message(f"The load was interrupted: {counted}. All rows are in {writer.folder}.")


def _keep_record(writer: Writer) -> None:
    """Keep the folder of a load that began and failed: it has the reason, and the rows until then."""
    if not writer.record:
        writer.discard()
    elif writer.folder.exists():
        print_message(f"The request and the error are kept in {writer.folder / 'run.json'}.")
