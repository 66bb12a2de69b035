"""A pytest plugin that groups tests by what they need, and decides which groups run at the same time.

- `quick`, the default: the test only computes and needs no torch. It fails if it starts a process, opens a
  connection or sleeps.
- `integration`: the test starts processes or servers, loads a model, or is slow. Others may run in parallel.
- `timed`: the test checks durations, so it has priority on the processors.

With pytest-xdist one worker runs the timed tests one after the other. All other workers, and the processes
that they start, run at idle priority: they get a processor only while no timed test needs it.
"""

from __future__ import annotations

import asyncio
import functools
import json
import multiprocessing.process
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import clusters
import pytest

MARKS = {
    "quick": "only computes: no process, no connection, no sleep, no torch",
    "integration": "starts processes or servers, loads a model, or takes long",
    "timed": "checks durations: it has priority on the processors",
    "model": "loads the real embedding model; also `integration`",
}
HOW_TO_FIX = "Mark the test `integration`, or let it only compute."
TIMED_WORKER = "gw0"  # pytest-xdist's name for its first worker


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # SIGINT is ignored if a script starts pytest in the background, and children would inherit that
        signal.signal(signal.SIGINT, signal.default_int_handler)
    worker = getattr(config, "workerinput", None)
    if worker and worker["workerid"] != TIMED_WORKER:
        yield_to_others()


def yield_to_others() -> None:
    """Run this process, and all processes that it will start, at the lowest priority."""
    if hasattr(os, "SCHED_IDLE"):  # Linux: any other process preempts it immediately
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)


def group_of(item: pytest.Item) -> str:
    """Return the group of the nearest mark: the test's, its class's or its module's.

    Of several marks in one place `timed` wins.
    """
    for node in reversed(item.listchain()):
        own = {marker.name for marker in node.own_markers}
        for group in ("timed", "integration", "quick"):
            if group in own:
                return group
        if "model" in own:
            return "integration"
    return "quick"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Start the longest tests first, so that no worker ends long after the others."""
    order = ("timed", "integration", "quick")
    long = {item.path for item in items if item.get_closest_marker("model")}
    items.sort(key=lambda item: (order.index(group_of(item)), item.path not in long))
    for item in items:
        item.add_marker(group_of(item))  # so that -m selects it


# -- pytest-xdist: what goes to one worker -------------------------------------------------------------

SCOPES = (
    "scopes"  # folder in which workers write their tests' scopes for the controller, which collects no tests
)


@pytest.hookimpl(tryfirst=True)  # before the controller is notified, as it then reads the file
def pytest_collection_finish(session: pytest.Session) -> None:
    if worker := getattr(session.config, "workerinput", None):
        scopes = {item.nodeid: scope_of(item) for item in session.items}
        Path(worker[SCOPES], worker["workerid"]).write_text(json.dumps(scopes))


def scope_of(item: pytest.Item) -> str:
    """Return the test's scope. Tests of one scope share a worker, and so the fixtures of their module."""
    group = group_of(item)
    if clusters.needed_by(item):
        return "timed"  # to share the cluster, whose start takes longer than they do
    if group == "timed":
        return group
    shares_models = "models_cache" in getattr(item, "fixturenames", ())
    return f"{group} {'models' if shares_models else item.path.name}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Schedule by scope. `--dist loadgroup` has no effect with pytest 9.2, which derives node ids."""
    from xdist.scheduler import LoadScopeScheduling

    class ByScope(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            return scopes()[nodeid]

        def _assign_work_unit(self, node: Any) -> None:
            if "timed" in self.workqueue:
                self.workqueue.move_to_end("timed", last=node.gateway.id != TIMED_WORKER)
            super()._assign_work_unit(node)

        def remove_node(self, node: Any) -> str | None:
            """Hand on what a worker that has died had not run; return the test during which it died.

            xdist would run that test again, and hand on finished scopes, for whose tests a worker waits.
            """
            left = {
                scope: {test: False for test, is_done in tests.items() if not is_done}
                for scope, tests in self.assigned_work.pop(node).items()
            }
            crashed = next((test for tests in left.values() for test in tests), None)
            for tests in left.values():
                tests.pop(crashed, None)
            self.workqueue.update({scope: tests for scope, tests in left.items() if tests})
            for other in self.assigned_work:
                self._reschedule(other)
            return crashed

    @functools.cache
    def scopes() -> dict[str, str]:
        left = next(Path(config.stash[FOLDER].name).iterdir())
        found: dict[str, str] = json.loads(left.read_text())
        return found

    config.option.loadscopereorder = False  # keep the order of collection
    return ByScope(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    if FOLDER not in node.config.stash:
        folder = tempfile.TemporaryDirectory()
        node.config.stash[FOLDER] = folder
        node.config.add_cleanup(folder.cleanup)
    node.workerinput[SCOPES] = node.config.stash[FOLDER].name


FOLDER = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


# -- unmarked: computes only ---------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    with guarded(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with guarded(item):
        return (yield)


@contextmanager
def guarded(item: pytest.Item) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if group_of(item) == "quick":
            refuse_all(patch)
        yield


def refuse_all(patch: pytest.MonkeyPatch) -> None:
    """Make calls fail that a test needs only if it does more than compute. Calls of git are allowed."""
    refuse(patch, subprocess.Popen, "__init__", "starts a process", unless=_is_git)
    refuse(patch, multiprocessing.process.BaseProcess, "start", "starts a process")
    refuse(patch, socket.socket, "bind", "opens a port")
    refuse(patch, socket.socket, "connect", "opens a connection")
    refuse(patch, time, "sleep", "sleeps", unless=_waits_for_a_process)
    refuse(patch, asyncio, "sleep", "sleeps", unless=lambda seconds, *rest: not seconds)


def refuse(
    patch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    what: str,
    *,
    unless: Callable[..., bool] = lambda *given, **named: False,
) -> None:
    allowed = getattr(owner, name)

    def refused(*given: Any, **named: Any) -> Any:
        if unless(*given, **named):
            return allowed(*given, **named)
        pytest.fail(f"The test {what}, but is not marked for that. {HOW_TO_FIX}")

    patch.setattr(owner, name, refused)


def _waits_for_a_process(seconds: float) -> bool:
    return bool(sys._getframe(2).f_globals["__name__"] == subprocess.__name__)


def _is_git(self: object, words: Any, *rest: Any, **named: Any) -> bool:
    return not isinstance(words, str) and words[0] == "git"
