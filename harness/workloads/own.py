"""A model of the user's own: two to four functions in a file or module, as a workload like any other."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping, Set, Sized
from contextlib import contextmanager, redirect_stdout
from itertools import islice
from typing import Any

from harness.errors import HarnessError, UsageError
from harness.wire.options import ARTICLE_SENTENCE, WorkloadOptions
from harness.workloads import here, json_bodies, own_code, payload_texts

SUMMARY = "your own: two to four functions (`execbench init` writes a file to begin with)"

_LONGEST_ANSWER = 1_000  # characters of JSON
_TEXTS_LOOKED_AT = 3  # before anything starts


class Workload:
    """The user's `load`, `predict`, and where they have them `io` and `payloads`; see docs/own-workload.md.

    Their code is imported when it is first needed, so that the thread budget stands before.
    """

    gives_vectors = True  # for all that is known before it has run
    modules: tuple[str, ...] = ()

    def __init__(self, options: WorkloadOptions) -> None:
        self._options = options

    @functools.cached_property
    def _code(self) -> own_code.Code:
        return own_code.find(self._options.name)

    @property
    def io(self) -> Callable[[Any], Awaitable[Any]] | None:
        """The user's, if they have one."""
        return self._code.io

    @functools.cached_property
    def warmup_item(self) -> str:
        """The first of the texts; of a model that brings none, the article's sentence."""
        if self._options.payloads is not None:
            return payload_texts.read(self._options.payloads)[0]
        return next(self.payloads(0)) if self._code.payloads is not None else ARTICLE_SENTENCE

    def environment(self) -> dict[str, str]:
        return here.thread_budget(self._options.torch_threads)

    def load(self) -> Any:
        """The model, after it has answered the warm-up item once: HarnessError if it could not."""
        with _blaming(f"load() in {self._code.label}"):
            model = self._code.load()
        with _blaming(f"predict() in {self._code.label}, asked {self.warmup_item!r:.60},"):
            self.predict(model, [self.warmup_item])
        return model

    def predict(self, model: Any, items: list[str]) -> list[Any]:
        """HarnessError for another number of results than items: they cannot be told apart any more."""
        given = self._code.predict(model, list(items))  # it may use up its list
        if isinstance(given, str | bytes | Mapping | Set) or not hasattr(given, "__iter__"):
            raise self._no_results(f"gave {type(given).__name__} {own_code.shown(given)}", items)
        results = list(islice(given, len(items) + 1))  # a generator may never end
        if len(results) != len(items):
            count = "too many" if len(results) > len(items) else len(results)
            raise self._no_results(f"gave {len(given) if isinstance(given, Sized) else count} results", items)
        return results

    def _no_results(self, what: str, items: list[str]) -> HarnessError:
        return HarnessError(
            f"predict() in {self._code.label} {what} for {len(items)} item{'s' * (len(items) > 1)}.",
            stage=own_code.STAGE,
            hint="It should return a list with one result for each item, in their order.",
        )

    def answer(self, result: Any) -> Any:
        """What JSON says of the result, if it can in short."""
        said = json_bodies.as_json(result, _LONGEST_ANSWER)
        return json_bodies.UNSAID if said is None else json.loads(said)

    def payloads(self, seed: int) -> Iterator[str]:
        """The user's; without any, questions as they are asked of the built-in model."""
        return (
            payload_texts.questions(seed) if self._code.payloads is None else own_code.texts(self._code, seed)
        )

    def about(self, model: object) -> dict[str, str | int | float | bool | None]:  # noqa: ARG002 - contract
        return {
            "model": self._code.label,
            "version": self._code.version,
            "source_sha256": self.source_sha256,
            "own_io": self._code.io is not None,
            "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        }

    @property
    def source_sha256(self) -> str | None:
        """Of the file that was imported; None where there is none."""
        source = self._code.source
        return None if source is None else hashlib.sha256(source.read_bytes()).hexdigest()


def check(options: WorkloadOptions, idle_with_io: Set[str]) -> None:
    """UsageError unless the code is there, has its shape, and gives texts. Imports it, and loads nothing.

    `idle_with_io`: the options that say nothing where it awaits I/O of its own.
    """
    code = own_code.find(options.name)
    idle = sorted(options.model_fields_set & idle_with_io)
    if code.io is not None and idle:
        raise UsageError(
            f"{code.label} has an io of its own, so {', '.join(idle)} would say nothing.",
            stage="plan",
            hint="Leave it out, or take io out of the workload.",
        )
    with redirect_stdout(sys.stderr):  # as `_code` imports: stdout may be one JSON document
        for _ in islice(Workload(options).payloads(0), _TEXTS_LOOKED_AT):
            pass


@contextmanager
def _blaming(what: str) -> Iterator[None]:
    """HarnessError that names the function, the exception and its line; the traceback goes to the log."""
    try:
        yield
    except HarnessError:
        raise
    except (Exception, SystemExit) as error:
        traceback.print_exception(error)
        raise HarnessError(
            f"{what} raised {own_code.told(error)}.", stage=own_code.STAGE, hint=own_code.WITH_TRACEBACK
        ) from error
