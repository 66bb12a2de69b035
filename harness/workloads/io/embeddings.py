"""A table's texts; `python -m harness.workloads.io.embeddings FILE`: as vectors of a workload's own model.

What is asked comes as JSON on stdin; what went wrong is told as JSON on stdout. Where the model tells the
hash of its weights, the vectors are kept in the cache for the next run.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import workloads
from harness.errors import HarnessError, to_parent
from harness.system import streams
from harness.wire.options import WorkloadOptions
from harness.workloads import here

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

BATCH = 64

_PARTS = (
    (
        "How much is",
        "Who repaired",
        "Where can I see",
        "Why did they close",
        "When did they paint",
        "Is anybody using",
    ),
    ("the old", "the new", "the small", "the famous", "the second", "the other", "the nearest", "the empty"),
    ("bridge", "library", "bakery", "harbour", "tram line", "market hall", "lighthouse", "orchard", "quarry"),
    (
        "in London",
        "in Lisbon",
        "near the river",
        "behind the station",
        "on the hill",
        "by the sea",
        "in Oslo",
    ),
)
_FROM_YEAR, _YEARS = 1500, 500


def texts(seed: int, number: int) -> Iterator[str]:
    """`number` sentences, all different, and the same for the same seed; at most 1,512,000."""
    total = _YEARS * math.prod(map(len, _PARTS))
    for place in random.Random(seed).sample(range(total), number):  # noqa: S311 - texts, not secrets
        yield _sentence(place)


def _sentence(place: int) -> str:
    """The sentence at this place of all, the parts being its digits."""
    place, year = divmod(place, _YEARS)
    words = []
    for part in _PARTS:
        place, digit = divmod(place, len(part))
        words.append(part[digit])
    return f"{' '.join(words)} in {_FROM_YEAR + year}?"


def main() -> None:
    """Write the vectors, one row a text, to the file that is named; code 1 when they cannot be made."""
    answers = streams.reserve_stdout()
    asked = json.load(sys.stdin)
    options = WorkloadOptions.model_validate(asked["workload"])
    try:
        vectors = _vectors(options, list(texts(asked["seed"], options.io_rows)))
    except Exception as error:  # noqa: BLE001 - whatever a model raises is told
        failed = "The texts for the table cannot be embedded"
        answers.write(json.dumps(to_parent(error, failed=failed, stage="io")))
        answers.close()
        sys.exit(1)
    _save(Path(sys.argv[1]), vectors)


def _vectors(options: WorkloadOptions, items: list[str]) -> npt.NDArray[np.float32]:
    import numpy as np

    workload = workloads.create(options)
    os.environ.update(workload.environment())
    model = workload.load()
    kept = _kept(workload.about(model).get("weights_sha256"), items)
    if kept is not None and kept.exists():
        found: npt.NDArray[np.float32] = np.load(kept)
        return found
    vectors = _embedded(workload, model, items)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        _save(kept, vectors)
    return vectors


def _kept(weights_sha256: object, items: list[str]) -> Path | None:
    """Where the vectors of these texts by these weights are kept; None when the weights are not known."""
    if not weights_sha256:
        return None
    digest = hashlib.sha256("\n".join(items).encode()).hexdigest()[:16]
    return here.cache_folder("vectors") / f"{weights_sha256}-{digest}.npy"


def _embedded(workload: workloads.Workload, model: Any, items: list[str]) -> npt.NDArray[np.float32]:
    import numpy as np

    batches = [items[at : at + BATCH] for at in range(0, len(items), BATCH)]
    results = [result for batch in batches for result in workload.predict(model, batch)]
    try:
        vectors = np.asarray(results, dtype=np.float32)
    except (TypeError, ValueError):
        vectors = np.empty(0, dtype=np.float32)
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise HarnessError(
            "The results of the workload are no vectors of one length, so pgvector cannot search by them.",
            stage="io",
            hint="predict must return a list of numbers, or an array, for each item.",
        )
    return vectors


def _save(path: Path, vectors: npt.NDArray[np.float32]) -> None:
    """As a whole: another run may read it."""
    import numpy as np

    new = path.with_name(f"{path.name}.{os.getpid()}")
    with new.open("wb") as stream:
        np.save(stream, vectors)
    new.replace(path)


if __name__ == "__main__":
    main()
