"""The texts of the search table, and their vectors by the workload's model.

`python -m harness.workloads.io.embeddings FILE` writes the vectors to FILE. It reads the options as JSON from
stdin, and reports an error as JSON on stdout. If the model reports the hash of its weights, the vectors are
cached for the next run.
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
from harness.workloads import local_setup

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

EMBEDDING_BATCH = 64

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
    """`number` different sentences (at most 1,512,000); the same seed gives the same sentences."""
    total = _YEARS * math.prod(map(len, _PARTS))
    for place in random.Random(seed).sample(range(total), number):  # noqa: S311 - texts, not secrets
        yield _sentence(place)


def _sentence(place: int) -> str:
    """The sentence at this place among all sentences; the place's digits choose the parts."""
    place, year = divmod(place, _YEARS)
    words = []
    for part in _PARTS:
        place, digit = divmod(place, len(part))
        words.append(part[digit])
    return f"{' '.join(words)} in {_FROM_YEAR + year}?"


def main() -> None:
    """Write the vectors, one row per text, to the given file. Exits with code 1 if that fails."""
    answers = streams.reserve_stdout()
    job = json.load(sys.stdin)
    options = WorkloadOptions.model_validate(job["workload"])
    try:
        vectors = _vectors(options, list(texts(job["seed"], options.io_rows)))
    except Exception as error:  # noqa: BLE001 - a model may raise anything
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
    cache = _cache_path(workload.about(model).get("weights_sha256"), items)
    if cache is not None and cache.exists():
        cached: npt.NDArray[np.float32] = np.load(cache)
        return cached
    vectors = _embedded(workload, model, items)
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        _save(cache, vectors)
    return vectors


def _cache_path(weights_sha256: object, items: list[str]) -> Path | None:
    """The cache file for the vectors of these texts by these weights; None if the weights are not known."""
    if not weights_sha256:
        return None
    digest = hashlib.sha256("\n".join(items).encode()).hexdigest()[:16]
    return local_setup.cache_folder("vectors") / f"{weights_sha256}-{digest}.npy"


def _embedded(workload: workloads.Workload, model: Any, items: list[str]) -> npt.NDArray[np.float32]:
    import numpy as np

    batches = [items[at : at + EMBEDDING_BATCH] for at in range(0, len(items), EMBEDDING_BATCH)]
    results = [result for batch in batches for result in workload.predict(model, batch)]
    try:
        vectors = np.asarray(results, dtype=np.float32)
    except (TypeError, ValueError):
        vectors = np.empty(0, dtype=np.float32)
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise HarnessError(
            "The results of the workload are not vectors of one length, so pgvector cannot search by them.",
            stage="io",
            hint="predict must return a list of numbers, or an array, for each item.",
        )
    return vectors


def _save(path: Path, vectors: npt.NDArray[np.float32]) -> None:
    """Replace the file as a whole: another run may read it."""
    import numpy as np

    new = path.with_name(f"{path.name}.{os.getpid()}")
    with new.open("wb") as stream:
        np.save(stream, vectors)
    new.replace(path)


if __name__ == "__main__":
    main()
