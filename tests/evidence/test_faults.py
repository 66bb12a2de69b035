"""Faults on real servers: the guarantees of supervised workers, and that worse outcomes are detected.

Each cell is a server of its own that mostly waits, so a few are met at once; what is timed closely comes
last, alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from harness.commands import faults as command
from harness.errors import HarnessError, UsageError
from harness.evidence.faults import arms, page
from harness.evidence.faults.catalogue import FAULTS, SYNTHETIC, run_fault
from harness.evidence.faults.records import OUTCOMES, FaultRow, Observation, Tally, empty_row, make_row
from harness.evidence.faults.site import Pace
from harness.evidence.frames import frame
from harness.evidence.page import Made, write
from harness.wire.options import WorkloadOptions

pytestmark = pytest.mark.timed

AT_ONCE = 4
HURRIED = Pace(recovers_within_s=4.0, ends_within_s=2.0, overload_s=1.5, storm_s=4.2, storm_every_s=1.3)
PATIENT = Pace(recovers_within_s=15.0, overload_s=1.5, storm_s=4.2, storm_every_s=1.3)
LOOKED_AFTER = ["supervised", "batch:over=supervised"]

See = Callable[[str, str], FaultRow]


def cell(fault: str, arm: str, **workload: Any) -> FaultRow:
    ((one,), _) = arms.chosen([arm])
    pace = PATIENT if arm in LOOKED_AFTER else HURRIED
    options = WorkloadOptions.model_validate(SYNTHETIC.model_dump(exclude_unset=True) | workload)
    return run_fault(fault, one, options, pace)


@pytest.fixture(scope="module")
def see(request: pytest.FixtureRequest) -> Iterator[See]:
    """The row of one fault and one arm; all rows that this module needs are started at once."""
    wanted = dict.fromkeys(
        (str(item.callspec.params["fault"]), str(item.callspec.params["arm"]))
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module and "see" in item.fixturenames
    )
    with ThreadPoolExecutor(AT_ONCE) as pool:
        met: dict[tuple[str, str], Future[FaultRow]] = {pair: pool.submit(cell, *pair) for pair in wanted}
        yield lambda fault, arm: met[fault, arm].result()


def looked_after(*faults: str, batched: tuple[str, ...] = ()) -> pytest.MarkDecorator:
    """Each fault for `supervised`; those in `batched` also for batches that run there."""
    pairs = [(fault, arm) for arm in LOOKED_AFTER for fault in (faults if arm == "supervised" else batched)]
    return pytest.mark.parametrize(("fault", "arm"), pairs)


def assert_no_innocent_suffered(found: FaultRow) -> None:
    assert (found.outcome, found.orphans) == ("unharmed", 0), found
    assert (found.refused, found.failed, found.unanswered) == (0, 0, 0), found


# -- what is promised ------------------------------------------------------------------------------------


@looked_after(
    "kill-idle", "kill-running", "kill-rebuild", "setup-fails-later", batched=("kill-running", "kill-rebuild")
)
def test_no_request_fails_when_a_worker_is_killed(see: See, fault: str, arm: str) -> None:
    """Even if its replacement is killed during set-up, or cannot be set up for a while."""
    found = see(fault, arm)
    assert_no_innocent_suffered(found)
    assert found.kills != 1 or fault != "kill-rebuild"


@looked_after("kill-twice", "poison", batched=("poison",))
def test_only_an_item_that_killed_two_workers_is_given_up(see: See, fault: str, arm: str) -> None:
    found = see(fault, arm)
    assert_no_innocent_suffered(found)
    assert found.item.startswith("500")
    assert "Poisoned" in found.item
    assert found.kills in (None, 2)


@looked_after("start-kill", "start-exit", "start-raise", batched=("start-kill",))
def test_a_server_that_cannot_set_up_its_workers_reports_why_and_ends(see: See, fault: str, arm: str) -> None:
    found = see(fault, arm)
    assert (found.outcome, found.orphans) == ("refused to start", 0)
    reason = (
        "The model fails to load because faulty_setup is set"
        if fault == "start-raise"
        else "a worker died before it was warm"
    )
    assert reason in found.notes


@looked_after("hang", batched=("hang",))
def test_a_call_that_hangs_is_ended_in_time_and_its_worker_replaced(see: See, fault: str, arm: str) -> None:
    found = see(fault, arm)
    assert_no_innocent_suffered(found)
    assert found.item.startswith("504")
    assert "TimedOut: the call took longer than 1 s" in found.item


@looked_after(
    "raise", "unpicklable", "unpicklable-exception", "one-way-exception", batched=("one-way-exception",)
)
def test_the_error_of_an_item_is_sent_to_its_client(see: See, fault: str, arm: str) -> None:
    found = see(fault, arm)
    assert_no_innocent_suffered(found)
    assert found.item.startswith("500")
    assert "cannot be pickled" in found.item or "the model does not like this item" in found.item


@looked_after("client-leaves-queued", batched=("client-leaves-queued",))
def test_a_queued_item_is_not_run_after_its_client_left(see: See, fault: str, arm: str) -> None:
    found = see(fault, arm)
    assert (found.outcome, found.failed, found.unanswered) == ("skipped", 0, 0)


@looked_after("client-leaves-running")
def test_a_client_that_leaves_while_its_item_runs_affects_no_other(see: See, fault: str, arm: str) -> None:
    assert_no_innocent_suffered(see(fault, arm))


@looked_after("shutdown", batched=("shutdown",))
def test_requests_in_flight_at_a_shutdown_are_answered(see: See, fault: str, arm: str) -> None:
    found = see(fault, arm)
    assert (found.outcome, found.answered, found.orphans) == ("answered", 4, 0)


@looked_after("server-kill")
def test_no_worker_outlives_a_server_that_is_killed(see: See, fault: str, arm: str) -> None:
    found = see(fault, arm)
    assert (found.outcome, found.orphans) == ("ended", 0)


@looked_after("health")
def test_health_is_red_within_a_second_when_nothing_can_be_served(see: See, fault: str, arm: str) -> None:
    found = see(fault, arm)
    assert found.outcome == "red"
    assert found.health_red_s is not None
    assert found.health_red_s < 1.0
    assert (found.answered, found.orphans) == (1, 0)


@pytest.mark.parametrize(("fault", "arm"), [("health", "supervised:spares=1")])
def test_with_a_spare_worker_requests_are_always_served(see: See, fault: str, arm: str) -> None:
    assert see(fault, arm).outcome == "stayed available"


# -- worse outcomes are detected --------------------------------------------------------------------------

WORSE = {
    ("kill-idle", "process"): "broken",
    ("kill-running", "process"): "broken",
    ("kill-running", "loky"): "recovered",
    ("kill-twice", "thread"): "server died",
    ("kill-rebuild", "process"): "broken",
    ("setup-fails-later", "loky"): "recovered",
    ("hang", "thread"): "stuck",
    ("poison", "thread"): "server died",
    ("client-leaves-queued", "process"): "run anyway",
    ("server-kill", "executor"): "orphans",
    ("health", "loky"): "green",
    ("overload", "thread"): "piles up",
    ("kill-storm", "process"): "broken",
}


@pytest.mark.parametrize(("fault", "arm"), WORSE)
def test_a_worse_outcome_of_another_strategy_is_detected(see: See, fault: str, arm: str) -> None:
    assert see(fault, arm).outcome == WORSE[fault, arm]


def test_a_set_up_that_succeeds_is_not_called_a_refusal(tmp_path: Path) -> None:
    found = cell("start-raise", "thread", faulty_setup_file=str(tmp_path / "absent"))
    assert found.outcome == "started"


def test_requests_cut_off_by_a_shutdown_are_lost() -> None:
    """The server waits three seconds for its requests."""
    found = cell("shutdown", "thread", service_ms=1500.0)
    assert found.outcome == "lost"
    assert 0 < found.answered < 4


# -- timed, alone -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", LOOKED_AFTER)
def test_an_overload_is_refused_quickly_and_ends_quickly(arm: str) -> None:
    found = cell("overload", arm)
    assert (found.outcome, found.failed, found.unanswered) == ("sheds", 0, 0)
    assert "100% of them with Retry-After" in found.notes
    assert found.refused_p50_ms is not None
    assert found.refused_p50_ms < 50
    assert found.recovered_s is not None
    assert found.recovered_s < 2.0
    assert (found.in_flight_max or 0) < 64 + 40  # those that wait, and those whose answer is on its way


def test_a_storm_of_kills_is_survived() -> None:
    """Every request is answered, four of five well, and no kill costs more than one request."""
    found = cell("kill-storm", "supervised")
    everyone = found.answered + found.refused + found.failed
    assert (found.kills, found.unanswered, found.orphans) == (3, 0, 0)
    assert found.failed <= 3
    assert found.answered >= 0.8 * everyone


# -- the page and the command -----------------------------------------------------------------------------

ROWS = [
    make_row(
        "kill-idle", "one", Observation("recovered", 1.25, Tally(3, 1, 2, 0), kills=1, notes=("so", "it is"))
    ),
    make_row("kill-idle", "two", Observation("stuck", tally=Tally(0, 0, 0, 4)), orphans=2),
    empty_row("kill-idle", "three", "not available", "it is | not installed"),
]
HOW = Made("execbench faults", "2026-01-01", "a machine", "some code")


@pytest.mark.quick
def test_a_cell_shows_the_outcome_and_the_affected_requests() -> None:
    assert [page.cell(row) for row in ROWS] == [
        "recovered 1.2 s, 1 refused, 2 failed",
        "orphans, 4 unanswered, 2 left",
        "not available",
    ]


@pytest.mark.quick
def test_the_page_states_how_it_was_made_and_names_missing_strategies() -> None:
    text = page.render(HOW, ROWS, "faults")
    assert "Made by `execbench faults` on 2026-01-01" in text
    assert "| kill-idle | recovered 1.2 s, 1 refused, 2 failed | orphans" in text
    assert r"it is \| not installed" in text
    assert f"- **orphans**: {OUTCOMES['orphans']}." in text
    assert "piles up" not in text


@pytest.mark.quick
def test_the_csv_has_a_column_for_every_field(tmp_path: Path) -> None:
    write(tmp_path / "deep" / "x.md", "text", frame(FaultRow, ROWS), stage="faults")
    lines = (tmp_path / "deep" / "x.csv").read_text().splitlines()
    assert lines[0].split(",") == list(FaultRow.__dataclass_fields__)
    assert len(lines) == 1 + len(ROWS)


@pytest.mark.quick
def test_a_page_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HarnessError, match="Nothing was written to"):
        write(tmp_path / "file" / "x.md", "text", frame(FaultRow, ROWS), stage="faults")


@pytest.mark.quick
def test_every_strategy_has_an_arm_or_a_reason_why_not() -> None:
    import strategies

    here, absent = arms.chosen([])
    assert {arm.strategy for arm in here} | set(absent) == set(strategies.NAMES)
    assert all(absent.values())
    assert len({arm.name for arm in here}) == len(here)


@pytest.fixture
def execbench() -> Callable[..., Any]:
    app = typer.Typer()
    app.command()(command.faults)
    return lambda words: CliRunner().invoke(app, words.split())


@pytest.mark.integration
def test_the_command_writes_what_it_shows(execbench: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "faults.md"
    done = execbench(f"--strategy supervised --fault raise --json --out {out}")
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    assert document["command"] == "execbench faults --strategy supervised --fault raise"
    assert [(row["fault"], row["outcome"]) for row in document["rows"]] == [("raise", "unharmed")]
    assert document["command"] in out.read_text()
    assert out.with_suffix(".csv").exists()


@pytest.mark.quick
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--fault nothing", "no fault 'nothing'"),
        ("--fault poison --workload embed", "'embed' cannot have the fault 'poison'"),
        ("--strategy nobody --fault raise", "no strategy 'nobody'"),
    ],
)
def test_unknown_names_are_refused(execbench: Callable[..., Any], words: str, message: str) -> None:
    error = execbench(words).exception
    assert isinstance(error, UsageError)
    assert message in error.what


@pytest.mark.quick
def test_the_list_shows_every_fault(execbench: Callable[..., Any]) -> None:
    assert json.loads(execbench("--list --json").stdout) == {
        name: fault.summary for name, fault in FAULTS.items()
    }
