"""all-MiniLM-L6-v2 behind LitServe: POST /predict {"text": "..."} answers {"answer": "ok"}.

No --io-ms: LitServe batches only in synchronous workers (its async workers take one item at a time), so an
I/O after the model would hold the whole batch.
"""

import argparse
import os

import litserve
from sentence_transformers import SentenceTransformer


class Embed(litserve.LitAPI):
    """Runs in processes of its own; LitServe gives it what has arrived in the meantime, as one batch."""

    def setup(self, device):
        self.model = SentenceTransformer(os.environ["MODEL"], device=device)
        self.model.encode(["warm up"])

    def decode_request(self, request):
        return request["text"], request.get("full", False)

    def predict(self, items):
        vectors = self.model.encode([text for text, _ in items], show_progress_bar=False)
        return [vector if full else None for vector, (_, full) in zip(vectors, items, strict=True)]

    def encode_response(self, vector):
        return {"answer": "ok" if vector is None else vector.tolist()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2, help="of torch, in each worker")
    parser.add_argument("--max-batch", type=int, default=32, help="2 or more")
    parser.add_argument("--wait-ms", type=float, default=1.0, help="collect a batch for this long")
    parser.add_argument("--restart-workers", action="store_true", help="by default the server ends with one")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": str(options.threads), "TOKENIZERS_PARALLELISM": "false"}
    api = Embed(max_batch_size=options.max_batch, batch_timeout=options.wait_ms / 1e3, api_path="/predict")
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=options.workers,
        fast_queue=True,  # for more than 100 requests/s, as the manual says
        restart_workers=options.restart_workers,
    )
    server.run(
        host="127.0.0.1",
        port=options.port,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
