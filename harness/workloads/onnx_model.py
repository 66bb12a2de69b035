"""ONNX Runtime in place of the transformer of `embed`; tokenizer and pooling stay the model's own.

A separate process exports the model, once per machine: the exporter leaves hundreds of megabytes in its
process, which would otherwise be one worker and not the others. Exporting needs no network.
`embed` imports this module only when it loads a model, as it needs torch and the extra `onnx`.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import onnxruntime
import torch
from filelock import FileLock

from harness.errors import HarnessError, from_child
from harness.system import children
from harness.wire.options import WorkloadOptions
from harness.workloads import local_setup

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


_INTRA, _INTER = "session.intra_op.allow_spinning", "session.inter_op.allow_spinning"
_MADE_BY = ("torch", "transformers", "sentence-transformers", "onnx", "onnxscript", "onnxruntime")


class Entry(NamedTuple):
    """A complete exported transformer in the cache."""

    path: Path
    sha256: str
    max_abs_difference: float  # between its embeddings and torch's, measured at the export


class Transformer(torch.nn.Module):
    """The exported transformer, with the inputs and outputs of torch's. Blocking and thread-safe."""

    def __init__(self, config: Any, path: Path, threads: int) -> None:
        super().__init__()
        self.config = config
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        for spins in (_INTRA, _INTER):  # spinning would keep cores busy after a call, while others need them
            options.add_session_config_entry(spins, "0")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.facts: dict[str, str | int | float | bool] = {}
        self._inputs = [node.name for node in self.session.get_inputs()]

    def forward(self, **features: Any) -> dict[str, torch.Tensor]:
        (tokens,) = self.session.run(None, {name: features[name].numpy() for name in self._inputs})
        return {"last_hidden_state": torch.from_numpy(tokens)}


def take_over(model: SentenceTransformer, options: WorkloadOptions, weights: str) -> None:
    """Replace the transformer in `model` by its export, and free its torch weights, which have this hash.

    Without `onnx_threads` the session has as many threads as torch.
    """
    entry = _entry(_path(model, weights), options)
    replace_transformer(model, entry.path, options.onnx_threads or torch.get_num_threads())
    module_of(model).model.facts = {
        "weights_sha256": weights,
        "onnx_sha256": entry.sha256,
        "onnx_max_abs_difference": entry.max_abs_difference,
    }


def about(model: SentenceTransformer) -> dict[str, str | int | float | bool | None]:
    """Facts for the run's record, as the session reports them."""
    transformer: Transformer = module_of(model).model
    session = transformer.session
    chosen = session.get_session_options()
    spins = [chosen.get_session_config_entry(key) != "0" for key in (_INTRA, _INTER)]
    return {
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "onnx_providers": ", ".join(session.get_providers()),
        "onnx_intra_op_threads": chosen.intra_op_num_threads,
        "onnx_inter_op_threads": chosen.inter_op_num_threads,
        "onnx_spinning": any(spins),
        **transformer.facts,
    }


def replace_transformer(model: SentenceTransformer, path: Path, threads: int) -> None:
    """Replace the transformer in `model` by the export at `path`."""
    module = module_of(model)
    config = module.model.config
    module.model = torch.nn.Identity()  # free torch's weights before loading the others
    module.model = Transformer(config, path, threads)


def module_of(model: SentenceTransformer) -> Any:
    """The model's first module: the tokenizer and, as `model`, the transformer."""
    return model[0]


# -- the cache -----------------------------------------------------------------------------------------


def _path(model: SentenceTransformer, weights: str) -> Path:
    """The cache path for these weights, this architecture and these package versions."""
    config = module_of(model).model.config.to_dict()
    config.pop("_name_or_path", None)
    recipe = [config, repr(model), [(package, version(package)) for package in _MADE_BY]]
    key = hashlib.sha256(json.dumps(recipe, sort_keys=True, default=str).encode()).hexdigest()[:12]
    return local_setup.cache_folder("onnx") / f"{weights}-{key}.onnx"


def _entry(path: Path, options: WorkloadOptions) -> Entry:
    """The cache's entry; if there is none, export the model. A lock lets only one process export it."""
    entry = cached(path)
    if entry is not None:
        return entry
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            return cached(path) or _exported(path, options)
    except OSError as error:
        raise HarnessError(
            f"The exported model cannot be saved in {path.parent}: {error}",
            stage="model",
            hint=f"Set another cache folder with {local_setup.CACHE_VARIABLE}=FOLDER.",
        ) from error


def cached(path: Path) -> Entry | None:
    """The complete entry at `path`; None if it is missing or damaged."""
    try:
        facts = json.loads(path.with_suffix(".json").read_text())
        entry = Entry(path, facts["sha256"], facts["max_abs_difference"])
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return entry if sha256 == entry.sha256 else None


def _exported(path: Path, options: WorkloadOptions) -> Entry:
    done = subprocess.run(
        children.python("harness.workloads.onnx_export", str(path)),
        input=options.model_copy(update={"backend": "torch", "onnx_threads": None}).model_dump_json(),
        capture_output=True,  # the exporter's warnings matter only if it fails
        text=True,
    )
    entry = cached(path)
    if entry is not None:
        return entry
    last = done.stdout.strip().rpartition("\n")[2]
    if last.startswith('{"what"'):  # the error that the child reports
        raise from_child(json.loads(last))
    raise cannot_export(f"exit code {done.returncode}: {done.stderr.strip()[-500:]}")


def cannot_export(reason: str) -> HarnessError:
    """The error for a model that cannot be exported."""
    return HarnessError(
        f"The model cannot be exported to ONNX: {reason}", stage="model", hint="Use --backend torch."
    )
