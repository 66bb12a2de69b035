"""Bad input gives one clear message with the stage and the way out, and leaves no files."""

import socket

import pytest
from conftest import Execbench, Invoke
from output import QUICK, assert_refused


@pytest.fixture
def littered(execbench: Execbench) -> Execbench:
    """`execbench` in a folder with files and folders that cause errors."""
    (execbench.folder / "there").mkdir()
    (execbench.folder / "file").write_text("")
    (execbench.folder / "typo.toml").write_text('name = "typo"\nconcurency = [1]\n')
    (execbench.folder / "broken.toml").write_text("name = \n")
    return execbench


ONE_ARM = f"run --no-self-check {' '.join(QUICK)} --strategy inline --requests 1 --blocks 1"
NOWHERE = "http://127.0.0.1:1/"
PLAN, RESULTS, LOAD = (rf"Error \({stage}\): .*" for stage in ("plan", "results", "load"))


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("run --strategy tread", 2, PLAN + r"no strategy 'tread'\.\n.*'thread'"),
        ("serve proces", 2, PLAN + r"no strategy 'proces'\.\n.*'process'"),
        ("run artikle", 2, PLAN + r"no plan 'artikle'\.\n.*'article'"),
        ("run nothing.toml", 2, PLAN + r"nothing\.toml cannot be read"),
        ("run typo.toml", 2, PLAN + r"concurency: there is no such key"),
        ("run broken.toml", 2, PLAN + r"broken\.toml' is not TOML: .*line 1"),
        ("run smoke --strategy nothing", 2, PLAN + r"no strategy 'nothing'\.\n.*execbench list"),
        ("run --workload sinthetic", 2, PLAN + r"no workload 'sinthetic'\.\n.*'synthetic'"),
        ("run --concurrency 0", 2, "(?s)--concurrency.*greater than"),
        ("run --concurrency -3", 2, "(?s)--concurrency.*greater than"),
        ("run --requests 0", 2, "(?s)--requests.*greater than"),
        ("run --duration 0", 2, "(?s)--duration.*greater than"),
        ("run --duration inf", 2, PLAN + "--duration inf is not valid: must be a finite number"),
        ("run --requests 5 --duration 1", 2, PLAN + "either --requests or --duration"),
        ("run --workers 0", 2, "(?s)--workers.*greater than"),
        (
            "run --workers 2 --strategy inline",
            2,
            PLAN + "No strategy of this plan takes the option 'workers'",
        ),
        ("run --blocks many", 2, "(?s)--blocks.*whole number"),
        ("run --io-ms inf", 2, PLAN + "--io-ms inf is not valid: must be a finite number"),
        ("run --service-ms nan --workload synthetic", 2, "--service-ms"),
        ("run --service-ms 5", 2, PLAN + r"'embed' does not take the option service_ms\.\n.*takes"),
        (
            "run --model x --workload synthetic",
            2,
            PLAN + r"'synthetic' does not take the option model\.\n.*takes",
        ),
        ("run --transport pigeon", 2, "(?s)--transport.*aiohttp"),
        (
            "run --inject nonsense",
            2,
            PLAN + r"--inject nonsense is not .*\n--inject PART=MS: Add a delay to queue",
        ),
        (
            "run --inject queue=-1",
            2,
            PLAN + r"--inject queue=-1 is not valid: must be greater .*\n--inject PART=MS",
        ),
        (
            "run --inject model=inf",
            2,
            PLAN + r"--inject model=inf is not valid: must be a finite .*\n--inject PART=MS",
        ),
        ("run --nonsense", 2, "No such option: --nonsense"),
        ("run --arrivals poison(5)", 2, PLAN + r"'poison\(5\)' is not an arrival law.*poisson\(50\)"),
        ("run --arrivals closed(5)", 2, PLAN + r"give a closed loop with concurrency \(-c\)"),
        ("run --rate 0", 2, PLAN + "--rate 0 is not valid: the rate must be from"),
        ("run --rate 5 --rate 5", 2, PLAN + r"duplicate load poisson\(5\)"),
        ("run --precision 300%", 2, PLAN + r"--precision 300% is not valid: must be less than 1.*\n.*3%"),
        (
            "run --precision narrow",
            2,
            PLAN + r"--precision narrow is not valid: must be a number.*\n.*3%",
        ),
        ("run --reference nobody", 2, PLAN + "reference: there is no arm 'nobody'"),
        ("run --cap 0", 2, "(?s)--cap.*greater than"),
        ("run --resume nowhere", 1, RESULTS + r"no run folder nowhere"),
        ("run --resume file --out other", 2, r"Error \(resume\): .*remove --out"),
        ("load http://127.0.0.1:1/ -c 2 --rate 5", 2, LOAD + "one of --concurrency, --rate and --arrivals"),
        ("compare nowhere", 1, RESULTS + "no run folder nowhere"),
        ("check --only nothing", 2, r"(?s)Error \(check\): .*nothing"),
        ("study nothing", 2, "(?s)nothing.*coverage"),
        ("bench", 2, "No such command 'bench'"),
        ("report nowhere --full --json", 2, "Give either --full or --json, not both"),
        ("run --full --json", 2, "Give either --full or --json, not both"),
        (f"{ONE_ARM} --out there", 1, RESULTS + r"folder there already exists.*\n.*--out"),
        (f"{ONE_ARM} --out file/run", 1, RESULTS + r"file/run cannot be written.*\n.*--out"),
        (f"load {NOWHERE} --requests 0", 2, "(?s)--requests.*greater than"),
        (f"load {NOWHERE} --requests 5 --duration 1", 2, "either --requests or --duration"),
        ("load nonsense", 2, LOAD + r"'nonsense' is not an HTTP URL\.\n.*http://127"),
        ("load ftp://x/", 2, LOAD + "'ftp://x/' is not an HTTP URL"),
        ("load http://[::1/", 2, LOAD + r"'http://\[::1/' is not an HTTP URL"),
        ("load http://x:port/", 2, LOAD + "'http://x:port/' is not an HTTP URL"),
        (f"load {NOWHERE} --think 0.5 --rate 5", 2, LOAD + "This load is not valid: think: only the users"),
        (f"load {NOWHERE} --think soon", 2, LOAD + "--think soon is not valid: 'soon' is not a think time"),
        ("capacity --slo p99<9ms --think 0.5", 2, "No such option: --think"),
        ("load", 2, "Missing argument 'URL'"),
    ],
)
def test_bad_input_gives_one_clear_message_and_leaves_no_files(
    littered: Execbench, invoke: Invoke, words: str, code: int, message: str
) -> None:
    """The command starts no process, so it runs in the process of the tests."""
    before = set(littered.folder.rglob("*"))
    assert_refused(invoke(*words.split()), code, message)
    assert set(littered.folder.rglob("*")) == before


@pytest.mark.integration
def test_load_fails_if_no_server_listens(littered: Execbench, invoke: Invoke) -> None:
    before = set(littered.folder.rglob("*"))
    assert_refused(invoke("load", NOWHERE), 1, LOAD + r"does not answer .*\n.*execbench serve")
    assert set(littered.folder.rglob("*")) == before


@pytest.mark.model
def test_a_model_that_fails_to_load_leaves_no_folder_that_blocks_the_next_attempt(
    execbench: Execbench,
) -> None:
    words = ("--no-self-check", "--model", "no-such-model", "--strategy", "inline", "--out", "run")
    done = execbench("run", *words)
    assert_refused(done, 1, r"Error \(model\): Cannot load the model 'no-such-model' .*\n.*--model.*--online")
    assert not list(execbench.folder.iterdir())


@pytest.mark.integration
def test_a_port_in_use_is_refused(invoke: Invoke) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = invoke("serve", "inline", *QUICK, "--port", port)
    assert_refused(done, 1, rf"Error \(server\): Port {port} of 127\.0\.0\.1 cannot be used: .*\n.*--port")


@pytest.mark.integration
def test_a_server_that_accepts_the_connection_but_never_answers_is_reported(
    execbench: Execbench, invoke: Invoke
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        done = invoke("load", url, "--timeout", "0.3")
    assert_refused(done, 1, rf"Error \(load\): {url} does not answer \(timeout after 0\.3 s\)")
    assert not list(execbench.folder.iterdir())


def test_debug_adds_the_traceback_and_keeps_message_and_exit_code(invoke: Invoke) -> None:
    done = invoke("--debug", "run", "--strategy", "tread")
    assert done.returncode == 2
    assert "Traceback (most recent call last)" in done.stderr
    assert "Error (plan): There is no strategy 'tread'." in done.stderr
