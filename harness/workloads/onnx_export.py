"""`python -m harness.workloads.onnx_export FILE`: export a transformer to ONNX, in its own process."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from harness.wire.options import ARTICLE_SENTENCE
from harness.workloads import exactness, exported, torch_child
from harness.workloads.exported import LARGEST_DIFFERENCE, cannot_export, module_of
from harness.workloads.onnx_model import Transformer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def main() -> int:
    """Export with the options from stdin; write an error to stdout as JSON."""
    path = Path(sys.argv[1])
    return torch_child.report(lambda model: make(model, path), cannot_export)


def to_onnx(model: SentenceTransformer, path: Path) -> None:
    """Export the transformer with the inputs that it really gets; batch size and length stay variable."""
    inputs = _inputs(model)
    torch.onnx.export(
        _TokensOnly(module_of(model).model).eval(),
        f=path,
        kwargs={"given": inputs},
        input_names=list(inputs),
        output_names=["last_hidden_state"],
        dynamic_shapes={"given": {name: dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC) for name in inputs}},
        dynamo=True,
        external_data=False,  # one file, so that it can be replaced as a whole
        verbose=False,
    )


def make(
    model: SentenceTransformer, path: Path, export: Callable[[SentenceTransformer, Path], None] = to_onnx
) -> None:
    """Write the exported transformer of `model` to `path`, with its facts in a JSON file next to it.

    Writes each file as a whole or not at all. `model` uses the exported transformer afterwards. Raises
    HarnessError if its embeddings differ from torch's by more than `LARGEST_DIFFERENCE`.
    """
    expected = exactness.embeddings(model, exactness.FEW)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="unfinished-") as folder:
        new, note = Path(folder) / path.name, Path(folder) / "note.json"
        export(model, new)
        threads = torch.get_num_threads()
        exported.replace_transformer(model, lambda config: Transformer(config, new, threads))
        got = exactness.embeddings(model, exactness.FEW)
        difference = exactness.max_abs_difference(got, expected)
        if not difference <= LARGEST_DIFFERENCE:  # NaN fails too
            raise cannot_export(
                f"its embeddings differ from torch's by {difference:.2g}, more than {LARGEST_DIFFERENCE:g}"
            )
        sha256 = hashlib.sha256(new.read_bytes()).hexdigest()
        note.write_text(json.dumps({"sha256": sha256, "max_abs_difference": difference}))
        new.replace(path)
        note.replace(path.with_suffix(".json"))


class _TokensOnly(torch.nn.Module):
    """The transformer with one tensor as its output, which the exporter can handle."""

    def __init__(self, transformer: torch.nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, given: dict[str, torch.Tensor]) -> Any:
        return self.transformer(**given).last_hidden_state


def _inputs(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    """The transformer's inputs for two texts of several tokens (the sizes 0 and 1 are special)."""
    module = module_of(model)
    features = module.preprocess([ARTICLE_SENTENCE, "London"])
    return {
        name: features[name]
        for name in inspect.signature(module.model.forward).parameters
        if name in features
    }


if __name__ == "__main__":
    sys.exit(main())
