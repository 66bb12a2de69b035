"""`python -m harness.workloads.openvino_check NOTE EXPORT`: compare OpenVINO with torch, in a process."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from harness.workloads import exactness, exported, torch_child
from harness.workloads.openvino_model import Difference, Transformer, cannot_check, capabilities, precisions

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def main() -> int:
    """Compare with the options from stdin; write an error to stdout as JSON."""
    note, export = map(Path, sys.argv[1:])
    return torch_child.report(lambda model: make(model, note, export), cannot_check)


def make(model: SentenceTransformer, note: Path, export: Path) -> None:
    """Write to `note` how much each precision of this processor differs from torch, as a whole or not at all.

    `model` uses the last one afterwards.
    """
    expected = exactness.embeddings(model, exactness.MANY)
    found: dict[str, dict[str, float]] = {}
    for precision in precisions(capabilities()):
        _load(model, export, precision)
        got = exactness.embeddings(model, exactness.MANY)
        difference = Difference(
            exactness.max_abs_difference(got, expected), exactness.max_cosine_difference(got, expected)
        )
        found[precision] = difference._asdict()
    with tempfile.TemporaryDirectory(dir=note.parent, prefix="unfinished-") as folder:
        new = Path(folder) / note.name
        new.write_text(json.dumps(found))
        new.replace(note)


def _load(model: SentenceTransformer, export: Path, precision: str) -> None:
    threads = torch.get_num_threads()
    exported.replace_transformer(model, lambda config: Transformer(config, export, precision, threads))


if __name__ == "__main__":
    sys.exit(main())
