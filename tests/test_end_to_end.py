"""A short `make bench` on the real model: fewer arms and requests, one torch thread per model."""

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytestmark = [pytest.mark.model, pytest.mark.timeout(400)]

ARMS = 5  # inline and process, each also with scaled I/O, and the twin
CONCURRENCIES = (1, 4)
BLOCKS = 1
REQUESTS = 6


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The folder of the finished run, and the completed process."""
    folder = tmp_path_factory.mktemp("whole-job") / "run"
    loads = [word for c in CONCURRENCIES for word in ("--concurrency", str(c))]
    small = ["--blocks", str(BLOCKS), "--requests", str(REQUESTS), "--out", str(folder)]
    small += ["--strategy", "inline", "--strategy", "process", "--torch-threads", "1"]
    command = [
        sys.executable,
        "-m",
        "harness.cli",
        "run",
        "article",
        "--full",
        "--no-self-check",
        *loads,
        *small,
    ]
    return folder, subprocess.run(command, capture_output=True, text=True)


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open() as stream:
        return list(csv.DictReader(stream))


def test_the_run_succeeds_and_prints_the_finding_first(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    _, done = run
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("At c = 4, ")


def test_every_arm_is_run_at_every_load_in_every_block(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = run
    trials = [row for row in rows(folder, "trials.csv") if row["block"] != "0"]
    cells = Counter((row["arm"], row["concurrency"], row["block"]) for row in trials)
    assert len(cells) == ARMS * len(CONCURRENCIES) * BLOCKS
    assert set(cells.values()) == {1}
    assert {row["state"] for row in trials} == {"ok"}


def test_every_measured_request_is_answered_with_the_whole_split(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = run
    measured = [
        row for row in rows(folder, "requests.csv") if row["phase"] == "measure" and row["block"] != "0"
    ]
    assert set(Counter(row["trial"] for row in measured).values()) == {REQUESTS}
    for name in ("queue_ms", "model_ms", "model_cpu_ms", "resume_ms", "io_ms", "handler_ms", "entered_ms"):
        assert all(row[name] for row in measured), name
    assert {row["status"] for row in measured} == {"200"}


def test_the_io_of_scaled_arms_is_derived_from_the_pilots_model_time(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = run
    lone = json.loads((folder / "run.json").read_text())["lone_model_ms"]
    nominal_ms = {row["arm"]: float(row["io_nominal_ms"]) for row in rows(folder, "trials.csv")}
    assert nominal_ms["inline"] == 5.0
    assert nominal_ms["inline-scaled-io"] == nominal_ms["process-scaled-io"] == round(lone * 0.8333)


def test_model_and_machine_are_recorded(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = run
    record = json.loads((folder / "run.json").read_text())
    about = {name: arm["about"] for name, arm in record["arms"].items()}
    assert len(about) == ARMS
    assert len({facts["weights_sha256"] for facts in about.values()}) == 1
    assert all(facts["torch_threads"] == 1 and facts["hub_offline"] for facts in about.values())
    assert all(arm["uss_bytes"] > 50e6 for arm in record["arms"].values())
    assert record["environment"]["packages"]["torch"]
    assert record["state"] == "finished"


def test_each_arm_records_the_thread_pools_of_its_worker(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    """The worker itself reports its pools, after it has run the model."""
    folder, _ = run
    arms = json.loads((folder / "run.json").read_text())["arms"]
    for pools in (arm["about"]["threadpools"] for arm in arms.values()):
        assert {"user_api", "internal_api", "num_threads", "version"} == set(pools[0])
        assert {pool["num_threads"] for pool in pools if pool["user_api"] == "openmp"} == {1}


def test_claims_and_printed_tables_are_judged_on_the_terminal_and_in_the_csv(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = run
    claims = rows(folder, "claims.csv")
    verdicts = {row["id"]: row["verdict"] for row in claims if row["kind"] == "claim"}
    assert set(verdicts) == {"C1", "C2", "C3a", "C3b", "C4a", "C4b", "C5", "C6"}
    assert set(verdicts.values()) <= {"inconclusive", "not tested", "withheld"}  # one block gives no verdict
    assert {row["id"] for row in claims if row["kind"] == "table"} == {"T1", "T2", "T3", "T4"}
    laws = {row["arm"] for row in claims if row["kind"] == "law"}
    assert laws == {"inline", "inline-scaled-io", "inline-twin"}
    for name in (*verdicts, "T1", "T2", "T3", "T4"):
        assert f"\n{name}" in done.stdout


def test_the_charts_are_there(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = run
    names = {path.name for path in (folder / "charts").iterdir()}
    assert names == {f"{name}.png" for name in ("timeline", "split", "io", "published", "claims")}
