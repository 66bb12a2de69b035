"""all-MiniLM-L6-v2 behind Ray Serve: POST /predict {"text": "..."} answers {"answer": "ok"}.

It starts a Ray of its own, on loopback and without a dashboard, and stops it when it ends.
"""

import argparse
import asyncio
import os

# Read at import. Without a cluster, Ray listens on loopback only; the name says Windows, but Linux obeys too.
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}

import ray
from ray import serve
from sentence_transformers import SentenceTransformer
from starlette.requests import Request


@serve.deployment
class Embed:
    def __init__(self, max_batch: int, wait_s: float, io_s: float):
        self.model = SentenceTransformer(os.environ["MODEL"], device="cpu")
        self.model.encode(["warm up"])
        self.io_s = io_s
        self.embed.set_max_batch_size(max_batch)
        self.embed.set_batch_wait_timeout_s(wait_s)

    @serve.batch
    async def embed(self, texts: list[str]):
        return list(await asyncio.to_thread(self.model.encode, texts, show_progress_bar=False))

    async def __call__(self, request: Request):
        item = await request.json()
        vector = await self.embed(item["text"])
        await asyncio.sleep(self.io_s)
        return {"answer": vector.tolist() if item.get("full") else "ok"}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2, help="of torch, in each worker")
    parser.add_argument("--max-batch", type=int, default=32)
    parser.add_argument("--wait-ms", type=float, default=1.0, help="collect a batch for this long")
    parser.add_argument("--io-ms", type=float, default=0.0, help="await this long after the model")
    options = parser.parse_args()
    variables = {"OMP_NUM_THREADS": str(options.threads), "TOKENIZERS_PARALLELISM": "false"}
    ray.init(
        address="local",
        num_cpus=options.workers,
        include_dashboard=False,
        object_store_memory=100 * 1024**2,
        runtime_env={"env_vars": variables},
        log_to_driver=False,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": options.port})
    embed = Embed.options(
        num_replicas=options.workers,
        max_ongoing_requests=4 * options.max_batch,  # by default 5, which would also be the largest batch
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    ).bind(options.max_batch, options.wait_ms / 1e3, options.io_ms / 1e3)
    serve.run(embed, route_prefix="/predict", blocking=True)
