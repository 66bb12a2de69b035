"""Hosts made of network namespaces, with a bridge between them; one may have a clock of its own. Needs root.

    python tests/three_hosts.py execbench run plan.toml

runs a command while these hosts have a Dask scheduler, two Dask workers and our service:

    10.77.0.1  this host, with the scheduler on port 8786
    10.77.0.2  a worker
    10.77.0.3  a worker, whose monotonic clock is 250 ms ahead with --shifted
    10.77.0.4  the service on port 8000
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

BRIDGE = "execbench"
SHIFT_NS = 250_000_000
ADDRESS = "10.77.0.{}"
SCHEDULER = f"tcp://{ADDRESS.format(1)}:8786"
SERVICE = f"http://{ADDRESS.format(4)}:8000"
WORK = ["--workload", "synthetic", "--service-ms", "5", "--io-ms", "5"]
SERVE = [sys.executable, "-m", "harness.cli", "serve", "thread", "--workers", "4", "--port", "8000", *WORK]
CLONE_NEWTIME = 0x80


def why_not() -> str:
    """Why this machine cannot make such hosts; "" if it can."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
        return "namespaces need root, ip and unshare"
    done = subprocess.run(
        "unshare --net true && unshare --time true && ip link add execbench-try type veth && "
        "ip link del execbench-try",
        shell=True,
        capture_output=True,
        check=False,
    )
    return "" if done.returncode == 0 else f"no namespaces: {done.stderr.decode().strip()}"


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True, capture_output=True)


@contextmanager
def network(last_bytes: Sequence[int]) -> Iterator[None]:
    """Make a bridge on this host (10.77.0.1), and a host for each of the addresses 10.77.0.N."""
    with ExitStack() as stack:
        stack.callback(subprocess.run, ["ip", "link", "del", BRIDGE], capture_output=True)
        _ip(f"link add {BRIDGE} type bridge")
        _ip(f"addr add {ADDRESS.format(1)}/24 dev {BRIDGE}")
        _ip(f"link set {BRIDGE} up")
        for number in last_bytes:
            name = f"{BRIDGE}{number}"
            stack.callback(subprocess.run, ["ip", "netns", "del", name], capture_output=True)
            _ip(f"netns add {name}")
            _ip(f"link add {name} type veth peer name eth0 netns {name}")
            _ip(f"link set {name} master {BRIDGE} up")
            _ip(f"-n {name} addr add {ADDRESS.format(number)}/24 dev eth0")
            _ip(f"-n {name} link set eth0 up")
            _ip(f"-n {name} link set lo up")
        yield


def on_host(number: int, command: Sequence[str], *, shifted: bool = False) -> list[str]:
    """Return the words that run the command on the host 10.77.0.N; `shifted`: with a clock of its own."""
    inside = ["ip", "netns", "exec", f"{BRIDGE}{number}", *command]
    if not shifted:
        return inside
    return [sys.executable, __file__, "--in-time-namespace", *inside]


@contextmanager
def running(command: Sequence[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the end of the block, with all its children."""
    process = subprocess.Popen(command, start_new_session=True, **options)  # type: ignore[call-overload]  # passed on
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def scheduler(host: str, port: int = 8786) -> list[str]:
    """Return the command of a Dask scheduler."""
    words = ["--host", host, "--port", str(port), "--no-dashboard"]
    return [sys.executable, "-m", "distributed.cli.dask_scheduler", *words]


def worker(address: str) -> list[str]:
    """Return the command of a Dask worker without a nanny: it is one process."""
    words = [address, "--no-nanny", "--nthreads", "1", "--no-dashboard", "--memory-limit", "0"]
    return [sys.executable, "-m", "distributed.cli.dask_worker", *words]


@contextmanager
def hosts(*, shifted: bool, service: Sequence[str] = SERVE) -> Iterator[None]:
    """Start the scheduler, both workers and the service."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with network([2, 3, 4]), ExitStack() as stack:
        stack.enter_context(running(scheduler(ADDRESS.format(1)), **quiet))
        stack.enter_context(running(on_host(4, [*service, "--bind", ADDRESS.format(4)]), **quiet))
        stack.enter_context(running(on_host(2, worker(SCHEDULER)), **quiet))
        stack.enter_context(running(on_host(3, worker(SCHEDULER), shifted=shifted), **quiet))
        yield


def main(words: list[str]) -> int:
    """Run a command while the hosts exist; return its exit code."""
    if words[0] == "--in-time-namespace":
        ctypes.CDLL(None).unshare(CLONE_NEWTIME)  # of the children; `os.unshare` is of Python 3.12
        Path("/proc/self/timens_offsets").write_text(f"monotonic 0 {SHIFT_NS}\n")
        return subprocess.call(words[1:])
    shifted = words[0] == "--shifted"
    with hosts(shifted=shifted):
        time.sleep(8.0)  # until the workers have joined
        return subprocess.call(words[1:] if shifted else words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
