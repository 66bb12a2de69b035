"""How much the embeddings of another runtime differ from torch's, over fixed texts."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch

from harness.wire.options import ARTICLE_SENTENCE
from harness.workloads import payload_texts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_ALONE = [ARTICLE_SENTENCE]
_MIXED = [" ".join(["word", "by", "word"] * 22)[: 5 + 10 * number] for number in range(32)]
FEW = [_ALONE, _MIXED]  # one text alone, and 32 of very different lengths in one batch
MANY = [*FEW, sorted(set(itertools.islice(payload_texts.questions(seed=1), 256)))]  # all questions there are


def embeddings(model: SentenceTransformer, batches: list[list[str]]) -> torch.Tensor:
    """One row in float64 for each text of the batches."""
    found = [model.encode(texts, show_progress_bar=False) for texts in batches]
    return torch.cat([torch.as_tensor(batch, dtype=torch.float64) for batch in found])


def max_abs_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference of any number of an embedding."""
    return float((one - other).abs().max())


def max_cosine_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference of the cosine similarity of any two texts."""
    return max_abs_difference(_cosines(one), _cosines(other))


def _cosines(rows: torch.Tensor) -> torch.Tensor:
    units = torch.nn.functional.normalize(rows)
    return units @ units.T
