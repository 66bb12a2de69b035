"""A workload of your own. It runs as it is; replace the model by yours, function by function.

    execbench run --workload FILE.py

load and predict are needed, io and payloads can go. Every process of a run imports this file, the command
line and the load generator too: what takes long (import torch, reading weights) goes into load.
"""

import asyncio
import itertools
import math
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

# Written into the run's record. Runs are compared only when version and file are the same.
__version__ = "1"


class Match(NamedTuple):
    """A result may be of any class that can be pickled: to another process and back."""

    sentence: str
    similarity: float


def load() -> Any:
    """Make the model ready, once in each worker. Whatever it returns is given to predict.

    Yours may be:   from transformers import pipeline
                    return pipeline("text-classification", "path/of/your/model")
    """
    sentences = map(" ".join, itertools.product(_WHO, _DOES, _WHAT, _WHEN))
    return {sentence: _vector(sentence) for sentence in sentences}


def predict(model: Any, items: list[str]) -> list[Match]:
    """Run the model on one or many texts, and wait for it; one result for each, in their order.

    A strategy that makes batches gives many at once. Yours may be:   return model(items)
    """
    return [_nearest(model, item) for item in items]


async def io(result: Match) -> dict[str, Any]:
    """What the request awaits once the model is done; what it returns is the answer's body (JSON).

    Here a database that takes 5 ms. Yours may be a query, or a call of another service. Without this function
    a flag says what is awaited (--io sleep:5ms), and without such a flag nothing is.
    """
    await asyncio.sleep(0.005)
    return {"nearest": result.sentence, "similarity": round(result.similarity, 3)}


def payloads(seed: int) -> Iterator[str]:
    """Texts to ask, without end; the same seed must give the same. Make them as your users write.

    Without this function it asks questions of its own; with --payloads FILE, the texts of that file.
    """
    draw = random.Random(seed)
    while True:
        yield f"{draw.choice(_WHO)} {draw.choice(_DOES)} {draw.choice(_WHAT)}, {draw.choice(_WHEN)}"


# -- The stand-in for a model: which of 3,072 sentences is most like the one asked? It computes in pure
#    Python, so it holds the interpreter lock. Delete what is below once nothing above needs it.

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
    """How often each three letters in a row occur, as a vector of length 1."""
    counts: _Vector = {}
    for start in range(len(text) - 2):
        letters = text[start : start + 3]
        counts[letters] = counts.get(letters, 0.0) + 1.0
    length = math.sqrt(sum(count * count for count in counts.values())) or 1.0
    return {letters: count / length for letters, count in counts.items()}


def _nearest(model: dict[str, _Vector], text: str) -> Match:
    asked = _vector(text)
    return max((Match(sentence, _dot(asked, known)) for sentence, known in model.items()), key=_similarity)


def _dot(one: _Vector, other: _Vector) -> float:
    return sum(weight * other.get(letters, 0.0) for letters, weight in one.items())


def _similarity(match: Match) -> float:
    return match.similarity
