"""Your own workload. It runs as it is; replace its functions one by one with yours.

    execbench run --workload FILE.py

load and predict are required; io and payloads are optional. Every process of a run imports this file, even
the command line and the load generator, so put slow code (import torch, reading weights) into load.
"""

import asyncio
import itertools
import math
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

# Recorded with each run. Two runs can be compared only if both their versions and their files are the same.
__version__ = "1"


class Match(NamedTuple):
    """A result. It may be of any class that can be pickled, so that another process can return it."""

    sentence: str
    similarity: float


def load() -> Any:
    """Load the model, once in each worker. predict gets what this function returns.

    For example:

        from transformers import pipeline
        return pipeline("text-classification", "path/of/your/model")
    """
    sentences = map(" ".join, itertools.product(_WHO, _DOES, _WHAT, _WHEN))
    return {sentence: _vector(sentence) for sentence in sentences}


def predict(model: Any, items: list[str]) -> list[Match]:
    """Run the model on one or more texts and return a list with one result for each, in their order.

    A blocking function. Strategies with batches pass many texts at once. For example:

        return model(items)
    """
    return [_nearest(model, item) for item in items]


async def io(result: Match) -> dict[str, Any]:
    """Await the I/O that follows the model, and return the body of the answer (as JSON).

    Here it is a sleep of 5 ms in place of a database. Yours may query a database or call another service.
    Without this function, requests await the I/O that --io sets (such as --io sleep:5ms), or none.
    """
    await asyncio.sleep(0.005)
    return {"nearest": result.sentence, "similarity": round(result.similarity, 3)}


def payloads(seed: int) -> Iterator[str]:
    """Yield the texts of requests without end, like those that your users write.

    The same seed must give the same texts. Without this function, requests send made-up questions. With
    --payloads FILE, they send the texts of that file.
    """
    draw = random.Random(seed)
    while True:
        yield f"{draw.choice(_WHO)} {draw.choice(_DOES)} {draw.choice(_WHAT)}, {draw.choice(_WHEN)}"


# -- The example's model finds the most similar of 3,072 sentences. It is pure Python, so it holds the
#    interpreter lock. Delete it once your functions no longer use it.

_WHO = (
    "the baker",
    "a night train",
    "my neighbour",
    "the old river",
    "a child",
    "the library",
    "rain",
    "she",
)
_DOES = ("looks for", "leaves", "paints", "remembers", "crosses", "forgets", "repairs", "waits for")
_WHAT = ("the harbour", "a letter", "the bridge", "an answer", "two clocks", "the garden", "home", "a coat")
_WHEN = ("today", "at night", "in winter", "again", "every year", "at last")

_Vector = dict[str, float]


def _vector(text: str) -> _Vector:
    """The number of times each group of three letters occurs in the text, as a vector of length 1."""
    counts: _Vector = {}
    for start in range(len(text) - 2):
        letters = text[start : start + 3]
        counts[letters] = counts.get(letters, 0.0) + 1.0
    length = math.sqrt(sum(count * count for count in counts.values())) or 1.0
    return {letters: count / length for letters, count in counts.items()}


def _nearest(model: dict[str, _Vector], text: str) -> Match:
    vector = _vector(text)
    return max((Match(sentence, _dot(vector, known)) for sentence, known in model.items()), key=_similarity)


def _dot(one: _Vector, other: _Vector) -> float:
    return sum(weight * other.get(letters, 0.0) for letters, weight in one.items())


def _similarity(match: Match) -> float:
    return match.similarity
