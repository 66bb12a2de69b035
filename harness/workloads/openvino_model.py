"""OpenVINO in place of the transformer of `embed`, in float32 or bfloat16, from the export of `onnx`.

`embed` imports this module only when it loads a model, as it needs torch and the extra `openvino`.
"""

from __future__ import annotations

import functools
import json
import sys
import threading
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch

from harness.errors import HarnessError
from harness.wire.options import WorkloadOptions
from harness.workloads import exported, local_setup

# importing OpenVINO would report this to its makers; without this package it cannot
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # None: cannot be imported

import openvino  # noqa: E402

if TYPE_CHECKING:
    import numpy as np
    from sentence_transformers import SentenceTransformer


PRECISION: Final = {"openvino": "f32", "openvino-bf16": "bf16"}  # of a backend, as OpenVINO calls it
MAX_COSINE_DIFFERENCE = 0.005  # between the cosine similarities of two texts in bfloat16 and in torch

_DEVICE = "CPU"
_CAPABILITY = {"f32": "FP32", "bf16": "BF16"}  # what a processor must have for a precision


@functools.cache
def core() -> openvino.Core:
    """The one instance of OpenVINO in this process.

    Each instance replaces the stack on which this thread handles signals. After the end of the first of two,
    the thread may be left with a stack that is freed, and the next signal would kill the process.
    """
    return openvino.Core()


class Difference(NamedTuple):
    """How much the embeddings of one precision differ from torch's."""

    max_abs_difference: float  # of any number of an embedding
    max_cosine_difference: float  # of the cosine similarity of any two texts


class Transformer(exported.Transformer):
    """The exported transformer in OpenVINO. Threads that call it at once take turns."""

    def __init__(self, config: Any, path: Path, precision: str, threads: int) -> None:
        compiled = core().compile_model(
            path,
            _DEVICE,
            {
                "INFERENCE_NUM_THREADS": threads,
                "INFERENCE_PRECISION_HINT": precision,  # the default depends on the processor
                "NUM_STREAMS": 1,
                "ENABLE_CPU_PINNING": False,  # it would pin the threads of all workers to the same core
            },
        )
        super().__init__(config, [port.any_name for port in compiled.inputs])
        self.compiled = compiled
        self._of_thread = threading.local()  # a request serves one thread at a time

    def compute(self, features: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self.compiled.create_infer_request()
        outputs = self._of_thread.request.infer(features, share_outputs=False)  # copies: the next call writes
        tokens: np.ndarray[Any, Any] = outputs[0]
        return tokens

    def settings(self) -> exported.Facts:
        chosen = self.compiled.get_property
        return {
            "runtime": f"openvino {version('openvino')}",
            "openvino_precision": chosen("INFERENCE_PRECISION_HINT").to_string(),
            "openvino_threads": chosen("INFERENCE_NUM_THREADS"),
            "openvino_streams": chosen("NUM_STREAMS"),
            "openvino_pinning": chosen("ENABLE_CPU_PINNING"),
        }


def take_over(model: SentenceTransformer, options: WorkloadOptions, weights: str) -> None:
    """Replace the transformer in `model` by its export, and free its torch weights, which have this hash.

    It has as many threads as torch. Raises HarnessError if this processor lacks the precision, or if the
    embeddings differ too much from torch's.
    """
    refuse_unsupported(options, capabilities())
    precision, threads = PRECISION[options.backend], torch.get_num_threads()
    entry = exported.entry(model, options, weights)
    found = _differences(entry, options)[precision]
    refuse_different(found, options)
    loaded = exported.replace_transformer(
        model, lambda config: Transformer(config, entry.path, precision, threads)
    )
    loaded.origin = {
        "weights_sha256": weights,
        "onnx_sha256": entry.sha256,
        **{f"openvino_{name}": value for name, value in found._asdict().items()},
    }


# -- the processor -------------------------------------------------------------------------------------


def capabilities() -> list[str]:
    """What this processor can do, in OpenVINO's words, such as "BF16"."""
    return sorted(core().get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES"))


def precisions(capable_of: Collection[str]) -> list[str]:
    """The precisions that a processor with these capabilities computes in."""
    return [precision for precision, needed in _CAPABILITY.items() if needed in capable_of]


def refuse_unsupported(options: WorkloadOptions, capable_of: Collection[str]) -> None:
    """Raise HarnessError if a processor with these capabilities lacks the backend's precision."""
    if PRECISION[options.backend] not in precisions(capable_of):
        raise HarnessError(
            f"This processor does not compute in bfloat16, which the backend {options.backend} needs.",
            stage="model",
            hint="Use --backend openvino, or leave this arm out.",
        )


# -- how exact it is -----------------------------------------------------------------------------------


def refuse_different(found: Difference, options: WorkloadOptions) -> None:
    """Raise HarnessError if the backend's embeddings differ from torch's by more than its bound.

    In float32 the numbers are compared, in bfloat16 the cosine similarities of pairs of texts.
    """
    if PRECISION[options.backend] == "f32":
        what, largest, bound = "embeddings", found.max_abs_difference, exported.LARGEST_DIFFERENCE
        hint = "Use --backend torch."
    else:
        what, largest = "cosine similarities", found.max_cosine_difference
        bound = options.max_cosine_difference or MAX_COSINE_DIFFERENCE
        hint = "Use --backend openvino, or set a larger max_cosine_difference."
    if not largest <= bound:  # NaN fails too
        raise HarnessError(
            f"The {what} of the backend {options.backend} differ from torch's by {largest:.2g}, "
            f"more than {bound:g}.",
            stage="model",
            hint=hint,
        )


def _differences(entry: exported.Entry, options: WorkloadOptions) -> dict[str, Difference]:
    """By precision, as measured once on this processor; a separate process measures them if necessary."""
    return exported.made(
        note_path(entry),
        noted,
        "harness.workloads.openvino_check",
        str(entry.path),
        options=options.model_copy(update={"torch_threads": 1}),  # the worker's would wait for busy cores
        failed=cannot_check,
    )


def note_path(entry: exported.Entry) -> Path:
    """Where the differences of this export, this version of OpenVINO and this processor are kept."""
    name = core().get_property(_DEVICE, "FULL_DEVICE_NAME")
    key = exported.key_of([entry.sha256, version("openvino"), name, capabilities()])
    return local_setup.cache_folder("openvino") / f"{entry.path.stem}-{key}.json"


def noted(path: Path) -> dict[str, Difference] | None:
    """The differences at `path` by precision; None if they are missing or damaged."""
    try:
        note = json.loads(path.read_text())
        found = {one: Difference(**note[one]) for one in precisions(capabilities())}
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return found if all(isinstance(number, float) for one in found.values() for number in one) else None


def cannot_check(reason: str) -> HarnessError:
    """The error for embeddings that cannot be compared with torch's."""
    return HarnessError(
        f"The embeddings of OpenVINO cannot be compared with torch's: {reason}",
        stage="model",
        hint="Use --backend torch.",
    )
