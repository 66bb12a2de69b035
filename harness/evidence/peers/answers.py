"""Check that a peer that runs computes the same embeddings as our own model."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
import numpy as np

from harness.errors import HarnessError
from harness.wire.options import WorkloadOptions
from harness.workloads import embed, payload_texts

PATIENCE_S = 30.0


def some_texts(number: int = 8) -> list[str]:
    """The first texts that a run with seed 0 sends."""
    found = payload_texts.questions(0)
    return [next(found) for _ in range(number)]


def own_embeddings(texts: Sequence[str]) -> np.ndarray:
    """The embeddings of our own model, one row for each text. Loads the model."""
    workload = embed.Workload(WorkloadOptions())
    return np.asarray(workload.predict(workload.load(), list(texts)), dtype=np.float64)


def embeddings_of(url: str, texts: Sequence[str]) -> np.ndarray:
    """The embeddings that the service at `url` answers, one row for each text, asked one by one.

    Raises HarnessError if it does not answer with an embedding.
    """
    return np.asarray([_embedding(url, text) for text in texts], dtype=np.float64)


def largest_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest absolute difference of any number; infinite if the shapes differ."""
    return float(np.max(np.abs(ours - theirs))) if ours.shape == theirs.shape else float("inf")


def _embedding(url: str, text: str) -> list[float]:
    try:
        answer = httpx.post(url, json={"text": text, "full": True}, timeout=PATIENCE_S)
        answer.raise_for_status()
        return [float(number) for number in answer.json()["answer"]]
    except (httpx.HTTPError, ValueError, TypeError, KeyError) as error:
        raise HarnessError(f"{url} answered no embedding: {error}.", stage="peers") from error
