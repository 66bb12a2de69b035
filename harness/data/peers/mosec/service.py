"""all-MiniLM-L6-v2 behind mosec: POST /predict {"text": "..."} answers {"answer": "ok"}.

No --io-ms: a stage of mosec is a synchronous function, so an I/O after the model would hold the whole batch.
"""

import argparse
import os

from mosec import Server, Worker
from sentence_transformers import SentenceTransformer


class Embed(Worker):
    """Runs in processes of its own; a server in Rust forms the batches."""

    def __init__(self):
        super().__init__()
        self.model = SentenceTransformer(os.environ["MODEL"], device="cpu")
        self.model.encode(["warm up"])

    def forward(self, data):
        vectors = self.model.encode([item["text"] for item in data], show_progress_bar=False)
        return [
            {"answer": vector.tolist() if item.get("full") else "ok"}
            for vector, item in zip(vectors, data, strict=True)
        ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--port", required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2, help="of torch, in each worker")
    parser.add_argument("--max-batch", type=int, default=32, help="2 or more")
    parser.add_argument("--wait-ms", type=int, default=1, help="collect a batch for this long; 1 or more")
    options, _ = parser.parse_known_args()  # mosec reads its own flags, such as --port, --capacity, --timeout
    os.environ |= {"MOSEC_ADDRESS": "127.0.0.1", "MOSEC_LOG_LEVEL": "warning"}
    os.environ |= {"OMP_NUM_THREADS": str(options.threads), "TOKENIZERS_PARALLELISM": "false"}
    server = Server()
    server.append_worker(
        Embed,
        num=options.workers,
        max_batch_size=options.max_batch,
        max_wait_time=options.wait_ms,
        route="/predict",
    )
    server.run()
