"""all-MiniLM-L6-v2 behind BentoML: POST /predict {"text": "..."} answers {"answer": "ok"}.

    bentoml serve service.py:Predict --host 127.0.0.1 --port 3000 --arg workers=1 --arg max_batch=32

A batchable method takes and returns only lists. So, as the manual says for other inputs, a second service in
front of it receives single texts, in a process of its own.
"""

import asyncio
import os
from typing import Any

import bentoml
import numpy as np
from pydantic import BaseModel


class Options(BaseModel):
    workers: int = 1
    threads: int = 2  # of torch, in each worker
    max_batch: int = 32
    wait_ms: int = 60_000  # BentoML cancels a request that it expects to take longer than this
    io_ms: float = 0.0  # await this long after the model


options = bentoml.use_arguments(Options)
os.environ |= {"OMP_NUM_THREADS": str(options.threads), "TOKENIZERS_PARALLELISM": "false"}
quiet = {"access": {"enabled": False}}
# The default of 100 makes Predict close connections that are in use, and requests fail with 500:
# https://github.com/bentoml/BentoML/issues/5540
lasting = {"max_requests": 10**9, "max_age": 1e9}


@bentoml.service(workers=options.workers, logging=quiet, runner_connection=lasting)
class Embed:
    def __init__(self) -> None:
        from sentence_transformers import SentenceTransformer

        self.model = SentenceTransformer(os.environ["MODEL"], device="cpu")
        self.model.encode(["warm up"])

    @bentoml.api(batchable=True, max_batch_size=options.max_batch, max_latency_ms=options.wait_ms)
    def embed(self, texts: list[str]) -> np.ndarray:
        return self.model.encode(texts, show_progress_bar=False)


@bentoml.service(workers=1, logging=quiet)
class Predict:
    embed = bentoml.depends(Embed)

    @bentoml.api
    async def predict(self, text: str, full: bool = False) -> dict[str, Any]:
        (vector,) = await self.embed.to_async.embed([text])
        await asyncio.sleep(options.io_ms / 1e3)
        return {"answer": vector.tolist() if full else "ok"}
