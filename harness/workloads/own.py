"""The user's own model as a workload: two to four functions in a file or a module."""

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
from harness.workloads import json_bodies, local_setup, own_code, payload_texts

SUMMARY = "your own model: two to four functions (`execbench init` writes a template)"

_LONGEST_RESULT_SHOWN = 1_000  # characters of JSON
_TEXTS_CHECKED = 3  # before anything starts


class Workload:
    """The user's `load` and `predict`, and their `io` and `payloads` if present; see docs/howto/workload.md.

    The user's code is imported when it is first needed, after the variables that limit threads are set.
    """

    gives_vectors = True  # assumed: only a run can show it
    packages: tuple[str, ...] = ()  # known to the user's code alone
    modules: tuple[str, ...] = ()

    def __init__(self, options: WorkloadOptions) -> None:
        self._options = options

    @functools.cached_property
    def _code(self) -> own_code.Code:
        return own_code.find(self._options.name)

    @property
    def io(self) -> Callable[[Any], Awaitable[Any]] | None:
        """The user's `io` function, or None."""
        return self._code.io

    @functools.cached_property
    def warmup_item(self) -> str:
        """The first of the user's texts, or the article's sentence if there are none."""
        if self._options.payloads is not None:
            return payload_texts.read(self._options.payloads)[0]
        return next(self.payloads(0)) if self._code.payloads is not None else ARTICLE_SENTENCE

    def environment(self) -> dict[str, str]:
        return local_setup.thread_variables(self._options)

    def load(self) -> Any:
        """Load the model and let it answer the warm-up item. Raises HarnessError if either fails."""
        with _blaming(f"load() in {self._code.label}"):
            model = self._code.load()
        with _blaming(f"predict() in {self._code.label}, given {self.warmup_item!r:.60},"):
            self.predict(model, [self.warmup_item])
        return model

    def predict(self, model: Any, items: list[str]) -> list[Any]:
        """One result per item. Raises HarnessError for another number, as results then fit no item."""
        returned = self._code.predict(model, list(items))  # a copy, as the user's code may change the list
        if isinstance(returned, str | bytes | Mapping | Set) or not hasattr(returned, "__iter__"):
            what = f"{type(returned).__name__} {own_code.short_repr(returned)}"
            raise self._wrong_results(what, items)
        results = list(islice(returned, len(items) + 1))  # a generator may never end
        if len(results) != len(items):
            count = "too many" if len(results) > len(items) else len(results)
            number = len(returned) if isinstance(returned, Sized) else count
            raise self._wrong_results(f"{number} results", items)
        return results

    def _wrong_results(self, what: str, items: list[str]) -> HarnessError:
        return HarnessError(
            f"predict() in {self._code.label} returned {what} for {len(items)} item{'s' * (len(items) > 1)}.",
            stage=own_code.STAGE,
            hint="It should return a list with one result for each item, in their order.",
        )

    def answer(self, result: Any) -> Any:
        """The result as JSON can express it, or a placeholder if that is not possible or too long."""
        encoded = json_bodies.as_json(result, _LONGEST_RESULT_SHOWN)
        return json_bodies.PLACEHOLDER if encoded is None else json.loads(encoded)

    def payloads(self, seed: int) -> Iterator[str]:
        """The user's texts; without any, the questions that the built-in model gets."""
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
        """Hash of the imported file; None if there is no file."""
        source = self._code.source
        return None if source is None else hashlib.sha256(source.read_bytes()).hexdigest()


def check(options: WorkloadOptions, io_options: Set[str]) -> None:
    """Raise UsageError unless the code exists, has the right functions and yields texts.

    Imports the code but loads no model. `io_options`: options that have no effect if the code has its own
    `io` function.
    """
    code = own_code.find(options.name)
    unused = sorted(options.model_fields_set & io_options)
    if code.io is not None and unused:
        raise UsageError(
            f"{code.label} has its own io function, so {', '.join(unused)} would have no effect.",
            stage="plan",
            hint="Leave it out, or remove the function io from the workload.",
        )
    with redirect_stdout(sys.stderr):  # the user's code may print, and stdout may be one JSON document
        for _ in islice(Workload(options).payloads(0), _TEXTS_CHECKED):
            pass


@contextmanager
def _blaming(what: str) -> Iterator[None]:
    """Turn an exception into a HarnessError that names the function and the line; log the traceback."""
    try:
        yield
    except HarnessError:
        raise
    except (Exception, SystemExit) as error:
        traceback.print_exception(error)
        raise HarnessError(
            f"{what} raised {own_code.describe(error)}.", stage=own_code.STAGE, hint=own_code.WITH_TRACEBACK
        ) from error
