"""The exported transformer of `embed`, for runtimes other than torch: the cache, and what replaces torch's.

A separate process exports the model, once per machine: the exporter leaves hundreds of megabytes in its
process, which would otherwise be one worker and not the others. Exporting needs no network.
`embed` imports this module only when it loads a model, as it needs torch and the extra `onnx`.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from abc import abstractmethod
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from filelock import FileLock

from harness.errors import HarnessError, from_child
from harness.system import children
from harness.wire.options import WorkloadOptions
from harness.workloads import local_setup

if TYPE_CHECKING:
    import numpy as np
    from sentence_transformers import SentenceTransformer

LARGEST_DIFFERENCE = 1e-5  # between any number of an embedding in float32 and torch's

_MADE_BY = ("torch", "transformers", "sentence-transformers", "onnx", "onnxscript", "onnxruntime")
_IN_TORCH = {"backend": "torch", "onnx_threads": None, "max_cosine_difference": None}

Made = TypeVar("Made")
Facts = dict[str, str | int | float | bool | None]


class Entry(NamedTuple):
    """A complete exported transformer in the cache."""

    path: Path
    sha256: str
    max_abs_difference: float  # between its embeddings in ONNX Runtime and torch's, measured at the export


class Transformer(torch.nn.Module):
    """An exported transformer in some runtime, with the inputs and outputs of torch's."""

    def __init__(self, config: Any, inputs: Sequence[str]) -> None:
        super().__init__()
        self.config = config
        self.origin: Facts = {}  # what `settings` cannot know: where the file comes from, and how exact it is
        self._inputs = inputs

    def forward(self, **features: Any) -> dict[str, torch.Tensor]:
        tokens = self.compute({name: features[name].numpy() for name in self._inputs})
        return {"last_hidden_state": torch.from_numpy(tokens)}

    @abstractmethod
    def compute(self, features: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """One vector for each token, in memory that no later call changes. Blocking and thread-safe."""

    @abstractmethod
    def settings(self) -> Facts:
        """The runtime and its settings, as it reports them."""


def about(model: SentenceTransformer) -> Facts:
    """Facts for the run's record."""
    transformer: Transformer = module_of(model).model
    return {**transformer.settings(), **transformer.origin}


def replace_transformer(model: SentenceTransformer, load: Callable[[Any], Transformer]) -> Transformer:
    """Replace the transformer in `model` by what `load` returns for its configuration."""
    module = module_of(model)
    config = module.model.config
    module.model = torch.nn.Identity()  # free torch's weights before loading the others
    module.model = load(config)
    loaded: Transformer = module.model
    return loaded


def module_of(model: SentenceTransformer) -> Any:
    """The model's first module: the tokenizer and, as `model`, the transformer."""
    return model[0]


# -- the cache -----------------------------------------------------------------------------------------


def entry(model: SentenceTransformer, options: WorkloadOptions, weights: str) -> Entry:
    """The cache's entry for `model`, whose weights have this hash; if there is none, export it."""
    return made(
        _path(model, weights),
        cached,
        "harness.workloads.onnx_export",
        options=options,
        failed=cannot_export,
    )


def _path(model: SentenceTransformer, weights: str) -> Path:
    """The cache path for these weights, this architecture and these package versions."""
    config = module_of(model).model.config.to_dict()
    config.pop("_name_or_path", None)
    recipe = [config, repr(model), [(package, version(package)) for package in _MADE_BY]]
    return local_setup.cache_folder("onnx") / f"{weights}-{key_of(recipe)}.onnx"


def key_of(recipe: Any) -> str:
    """Twelve hex digits that depend on all of `recipe`."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True, default=str).encode()).hexdigest()[:12]


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


def cannot_export(reason: str) -> HarnessError:
    """The error for a model that cannot be exported."""
    return HarnessError(
        f"The model cannot be exported to ONNX: {reason}", stage="model", hint="Use --backend torch."
    )


# -- processes that fill it ----------------------------------------------------------------------------


def made(
    path: Path,
    find: Callable[[Path], Made | None],
    module: str,
    *arguments: str,
    options: WorkloadOptions,
    failed: Callable[[str], HarnessError],
) -> Made:
    """What `find` finds at `path`. If there is nothing, `python -m module path …` makes it.

    A lock lets only one process make it. The child gets the options of the same model in torch from stdin,
    and runs `torch_child.report`. `failed` makes the error of a child that dies without one.
    """
    found = find(path)
    if found is not None:
        return found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            found = find(path)
            if found is not None:
                return found
            done = subprocess.run(
                children.python(module, str(path), *arguments),
                input=options.model_copy(update=_IN_TORCH).model_dump_json(),
                capture_output=True,  # the child's warnings matter only if it fails
                text=True,
            )
            found = find(path)
    except OSError as error:
        raise HarnessError(
            f"{path.name} cannot be made in the cache {path.parent}: {error}",
            stage="model",
            hint=f"Set another cache folder with {local_setup.CACHE_VARIABLE}=FOLDER.",
        ) from error
    if found is not None:
        return found
    last = done.stdout.strip().rpartition("\n")[2]
    if last.startswith('{"what"'):  # the error that the child reports
        raise from_child(json.loads(last))
    raise failed(f"exit code {done.returncode}: {done.stderr.strip()[-500:]}")
