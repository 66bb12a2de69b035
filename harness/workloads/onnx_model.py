"""ONNX Runtime in place of the transformer of `embed`; tokenizer and pooling stay the model's own.

`embed` imports this module only when it loads a model, as it needs torch and the extra `onnx`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxruntime
import torch

from harness.wire.options import WorkloadOptions
from harness.workloads import exported

if TYPE_CHECKING:
    import numpy as np
    from sentence_transformers import SentenceTransformer


_INTRA, _INTER = "session.intra_op.allow_spinning", "session.inter_op.allow_spinning"


class Transformer(exported.Transformer):
    """The exported transformer in ONNX Runtime."""

    def __init__(self, config: Any, path: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        for spins in (_INTRA, _INTER):  # spinning would keep cores busy after a call, while others need them
            options.add_session_config_entry(spins, "0")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        super().__init__(config, [node.name for node in session.get_inputs()])
        self.session = session

    def compute(self, features: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        tokens: np.ndarray[Any, Any]
        (tokens,) = self.session.run(None, features)
        return tokens

    def settings(self) -> exported.Facts:
        chosen = self.session.get_session_options()
        spins = [chosen.get_session_config_entry(key) != "0" for key in (_INTRA, _INTER)]
        return {
            "runtime": f"onnxruntime {onnxruntime.__version__}",
            "onnx_providers": ", ".join(self.session.get_providers()),
            "onnx_intra_op_threads": chosen.intra_op_num_threads,
            "onnx_inter_op_threads": chosen.inter_op_num_threads,
            "onnx_spinning": any(spins),
        }


def take_over(model: SentenceTransformer, options: WorkloadOptions, weights: str) -> None:
    """Replace the transformer in `model` by its export, and free its torch weights, which have this hash.

    Without `onnx_threads` the session has as many threads as torch.
    """
    entry = exported.entry(model, options, weights)
    threads = options.onnx_threads or torch.get_num_threads()
    loaded = exported.replace_transformer(model, lambda config: Transformer(config, entry.path, threads))
    loaded.origin = {
        "weights_sha256": weights,
        "onnx_sha256": entry.sha256,
        "onnx_max_abs_difference": entry.max_abs_difference,
    }
