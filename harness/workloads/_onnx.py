"""ONNX Runtime in the place of the transformer of `embed`; tokenizer and pooling stay the model's own.

The model is exported once per machine, by a process of its own: the exporter leaves hundreds of megabytes
in whoever runs it, and would in one worker but not in the others. Nobody is asked on the network.
Imported by `embed` when that loads a model, as this module needs torch and the extra `onnx`.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import onnxruntime
import torch
from filelock import FileLock

from harness import cache, children
from harness.errors import HarnessError, from_child, to_parent
from harness.options import ARTICLE_SENTENCE, WorkloadOptions
from harness.workloads import embed

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

LARGEST_DIFFERENCE = 1e-5  # between any number of an embedding here and with torch

_ALONE = [ARTICLE_SENTENCE]
_MIXED = [" ".join(["word", "by", "word"] * 22)[: 5 + 10 * number] for number in range(32)]
_INTRA, _INTER = "session.intra_op.allow_spinning", "session.inter_op.allow_spinning"
_MADE_BY = ("torch", "transformers", "sentence-transformers", "onnx", "onnxscript", "onnxruntime")

Exporter = Callable[["SentenceTransformer", Path], None]


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
        self.session = _session(path, threads)
        self.facts: dict[str, str | int | float | bool] = {}
        self._inputs = [node.name for node in self.session.get_inputs()]

    def forward(self, **given: Any) -> dict[str, torch.Tensor]:
        (tokens,) = self.session.run(None, {name: given[name].numpy() for name in self._inputs})
        return {"last_hidden_state": torch.from_numpy(tokens)}


def take_over(model: SentenceTransformer, options: WorkloadOptions) -> None:
    """Replace the transformer in `model`, whose torch weights are then gone from memory.

    Without `onnx_threads` the session has as many threads as torch has here.
    """
    weights = embed.weights_sha256(model)
    entry = _entry(_path(model, weights), options)
    _replace(model, entry.path, options.onnx_threads or torch.get_num_threads())
    _module(model).model.facts = {
        "weights_sha256": weights,
        "onnx_sha256": entry.sha256,
        "onnx_max_abs_difference": entry.max_abs_difference,
    }


def about(model: SentenceTransformer) -> dict[str, str | int | float | bool | None]:
    """Facts for the run's record, as the session tells them."""
    transformer: Transformer = _module(model).model
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


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """Spinning keeps cores busy after a call, when other arms or requests need them: it is off."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry(_INTRA, "0")
    options.add_session_config_entry(_INTER, "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _replace(model: SentenceTransformer, path: Path, threads: int) -> None:
    module = _module(model)
    config = module.model.config
    module.model = torch.nn.Identity()  # torch's weights go before the others come
    module.model = Transformer(config, path, threads)


def _module(model: SentenceTransformer) -> Any:
    """The first of its modules: tokenizer and, as `model`, the transformer."""
    return model[0]


# -- the cache -----------------------------------------------------------------------------------------


def _path(model: SentenceTransformer, weights: str) -> Path:
    """Where the export of these weights is, in this architecture and by these versions."""
    config = _module(model).model.config.to_dict()
    config.pop("_name_or_path", None)
    recipe = [config, repr(model), [(package, version(package)) for package in _MADE_BY]]
    key = hashlib.sha256(json.dumps(recipe, sort_keys=True, default=str).encode()).hexdigest()[:12]
    return cache.folder("onnx") / f"{weights}-{key}.onnx"


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
            hint=f"Name another folder with {cache.CACHE_VARIABLE}=FOLDER.",
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
        children.python("harness.workloads._onnx", str(path)),
        input=options.model_copy(update={"backend": "torch", "onnx_threads": None}).model_dump_json(),
        capture_output=True,  # the exporter's warnings are nobody's concern unless it fails
        text=True,
    )
    made = kept(path)
    if made is not None:
        return made
    raise _said(done.stdout) or _cannot_export(f"exit code {done.returncode}: {done.stderr.strip()[-500:]}")


def _said(output: str) -> HarnessError | None:
    """The error that the exporting process reports, in the last line that it wrote."""
    last = output.strip().rpartition("\n")[2]
    return from_child(json.loads(last)) if last.startswith('{"what"') else None


def _cannot_export(reason: str) -> HarnessError:
    return HarnessError(
        f"The model cannot be exported to ONNX: {reason}", stage="model", hint="It runs with --backend torch."
    )


# -- the exporting process -----------------------------------------------------------------------------


def main() -> int:
    """`python -m harness.workloads._onnx FILE`, options on stdin; an error leaves as JSON on stdout."""
    options = WorkloadOptions.model_validate_json(sys.stdin.read())
    try:
        make(embed.Workload(options).load(), Path(sys.argv[1]))
    except HarnessError as error:
        sys.stdout.write(json.dumps(to_parent(error)))
    except Exception as error:  # noqa: BLE001 - whatever an exporter raises, the user gets a sentence
        sys.stdout.write(json.dumps(to_parent(_cannot_export(_reason(error)))))
    else:
        return 0
    return 1


def make(model: SentenceTransformer, path: Path, export: Exporter | None = None) -> None:
    """Put the exported transformer of `model` at `path`, and beside it what was seen: whole, or not at all.

    HarnessError when embeddings are not torch's within `LARGEST_DIFFERENCE`. `model` runs the export then.
    """
    expected = _embeddings(model)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="unfinished-") as folder:
        new, note = Path(folder) / path.name, Path(folder) / "note.json"
        (export or to_onnx)(model, new)
        _replace(model, new, torch.get_num_threads())
        difference = float((_embeddings(model) - expected).abs().max())
        if not difference <= LARGEST_DIFFERENCE:  # nor when it is not a number
            raise _cannot_export(
                f"its embeddings differ from torch's by {difference:.2g}, more than {LARGEST_DIFFERENCE:g}"
            )
        sha256 = hashlib.sha256(new.read_bytes()).hexdigest()
        note.write_text(json.dumps({"sha256": sha256, "max_abs_difference": difference}))
        new.replace(path)
        note.replace(path.with_suffix(".json"))


def to_onnx(model: SentenceTransformer, path: Path) -> None:
    """Export the transformer with the inputs that it is really given; batch and length stay open."""
    inputs = _inputs(model)
    torch.onnx.export(
        _TokensOnly(_module(model).model).eval(),
        f=path,
        kwargs={"given": inputs},
        input_names=list(inputs),
        output_names=["last_hidden_state"],
        dynamic_shapes={"given": {name: dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC) for name in inputs}},
        dynamo=True,
        external_data=False,  # one file: it is replaced at once or not at all
        verbose=False,
    )


class _TokensOnly(torch.nn.Module):
    """An output that the exporter knows: one tensor."""

    def __init__(self, transformer: torch.nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, given: dict[str, torch.Tensor]) -> Any:
        return self.transformer(**given).last_hidden_state


def _inputs(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    """What the transformer is given for two texts of several tokens (sizes 0 and 1 are special)."""
    module = _module(model)
    features = module.preprocess([ARTICLE_SENTENCE, "London"])
    return {
        name: features[name]
        for name in inspect.signature(module.model.forward).parameters
        if name in features
    }


def _embeddings(model: SentenceTransformer) -> torch.Tensor:
    """Of one text alone, and of 32 of very different lengths in one batch."""
    batches = [model.encode(texts, show_progress_bar=False) for texts in (_ALONE, _MIXED)]
    return torch.cat([torch.as_tensor(batch, dtype=torch.float64) for batch in batches])


def _reason(error: BaseException) -> str:
    """The first line of what began it: the exporter wraps that in advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).strip().split(chr(10), 1)[0]}"


if __name__ == "__main__":
    sys.exit(main())
