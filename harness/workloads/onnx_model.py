"""ONNX Runtime in the place of the transformer of `embed`; tokenizer and pooling stay the model's own.

The model is exported once per machine, by a process of its own: the exporter leaves hundreds of megabytes
in whoever runs it, and would in one worker but not in the others. Nobody is asked on the network.
Imported by `embed` when that loads a model, as this module needs torch and the extra `onnx`.
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
from harness.workloads import here

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


_INTRA, _INTER = "session.intra_op.allow_spinning", "session.inter_op.allow_spinning"
_MADE_BY = ("torch", "transformers", "sentence-transformers", "onnx", "onnxscript", "onnxruntime")


class Entry(NamedTuple):
    """An exported transformer in the cache, whole."""

    path: Path
    sha256: str
    max_abs_difference: float  # of the embeddings, from torch's; seen when it was exported


class Transformer(torch.nn.Module):
    """Takes what the transformer took and returns what it returned; blocking, and for several threads."""

    def __init__(self, config: Any, path: Path, threads: int) -> None:
        super().__init__()
        self.config = config
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        for spins in (_INTRA, _INTER):  # keeps cores busy after a call, when other arms or requests need them
            options.add_session_config_entry(spins, "0")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.facts: dict[str, str | int | float | bool] = {}
        self._inputs = [node.name for node in self.session.get_inputs()]

    def forward(self, **given: Any) -> dict[str, torch.Tensor]:
        (tokens,) = self.session.run(None, {name: given[name].numpy() for name in self._inputs})
        return {"last_hidden_state": torch.from_numpy(tokens)}


def take_over(model: SentenceTransformer, options: WorkloadOptions, weights: str) -> None:
    """Replace the transformer in `model`, whose torch weights, of this hash, are then gone from memory.

    Without `onnx_threads` the session has as many threads as torch has here.
    """
    entry = _entry(_path(model, weights), options)
    replace_transformer(model, entry.path, options.onnx_threads or torch.get_num_threads())
    module_of(model).model.facts = {
        "weights_sha256": weights,
        "onnx_sha256": entry.sha256,
        "onnx_max_abs_difference": entry.max_abs_difference,
    }


def about(model: SentenceTransformer) -> dict[str, str | int | float | bool | None]:
    """Facts for the run's record, as the session tells them."""
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
    """Put the exported transformer at `path` in the place of the one in `model`."""
    module = module_of(model)
    config = module.model.config
    module.model = torch.nn.Identity()  # torch's weights go before the others come
    module.model = Transformer(config, path, threads)


def module_of(model: SentenceTransformer) -> Any:
    """The first of its modules: tokenizer and, as `model`, the transformer."""
    return model[0]


# -- the cache -----------------------------------------------------------------------------------------


def _path(model: SentenceTransformer, weights: str) -> Path:
    """Where the export of these weights is, in this architecture and by these versions."""
    config = module_of(model).model.config.to_dict()
    config.pop("_name_or_path", None)
    recipe = [config, repr(model), [(package, version(package)) for package in _MADE_BY]]
    key = hashlib.sha256(json.dumps(recipe, sort_keys=True, default=str).encode()).hexdigest()[:12]
    return here.cache_folder("onnx") / f"{weights}-{key}.onnx"


def _entry(path: Path, options: WorkloadOptions) -> Entry:
    """What is in the cache, else what an exporting process puts there: one process, whoever else waits."""
    found = kept(path)
    if found is not None:
        return found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            return kept(path) or _exported(path, options)
    except OSError as error:
        raise HarnessError(
            f"The exported model cannot be kept in {path.parent}: {error}",
            stage="model",
            hint=f"Name another folder with {here.CACHE_VARIABLE}=FOLDER.",
        ) from error


def kept(path: Path) -> Entry | None:
    """The entry, if it is all there: a damaged one is none, and is made again."""
    try:
        told = json.loads(path.with_suffix(".json").read_text())
        entry = Entry(path, told["sha256"], told["max_abs_difference"])
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return entry if found == entry.sha256 else None


def _exported(path: Path, options: WorkloadOptions) -> Entry:
    done = subprocess.run(
        children.python("harness.workloads.onnx_export", str(path)),
        input=options.model_copy(update={"backend": "torch", "onnx_threads": None}).model_dump_json(),
        capture_output=True,  # the exporter's warnings are nobody's concern unless it fails
        text=True,
    )
    made = kept(path)
    if made is not None:
        return made
    last = done.stdout.strip().rpartition("\n")[2]
    if last.startswith('{"what"'):  # the error that it reports
        raise from_child(json.loads(last))
    raise cannot_export(f"exit code {done.returncode}: {done.stderr.strip()[-500:]}")


def cannot_export(reason: str) -> HarnessError:
    """The error that a user meets."""
    return HarnessError(
        f"The model cannot be exported to ONNX: {reason}", stage="model", hint="It runs with --backend torch."
    )
