"""Print where the Python threads of a server spend their active time, from the stacks of py-spy."""

import gzip
import re
import sys
from collections import Counter
from pathlib import Path

# the first pattern that matches a frame, from the innermost outwards, names the part
PARTS = (
    ("model: forward", r"forward \(|encoder|modeling_|functional\.py|torch/nn"),
    ("model: tokenizer and padding", r"tokeniz|_batch_encode|pad \("),
    ("model: rest", r"harness/workloads|sentence_transformers|session\.run|onnxruntime"),
    ("pickling and pipes", r"pickle|multiprocessing/(connection|queues|reduction)|strategies/supervised"),
    ("batching and hand-over", r"strategies/|concurrent/futures|asyncio/(futures|locks|queues)"),
    ("FastAPI, Starlette and pydantic", r"fastapi|starlette|pydantic"),
    ("our handler and Server-Timing", r"harness/server"),
    ("uvicorn and HTTP parser", r"uvicorn|httptools|h11"),
    ("event loop", r"asyncio/|selectors|uvloop"),
)
for name in sys.argv[1:]:
    counts: Counter[str] = Counter()
    data = Path(name).read_bytes()
    for line in (gzip.decompress(data) if name.endswith(".gz") else data).decode().splitlines():
        stack, _, times = line.rpartition(" ")
        frames = stack.split(";")[::-1]
        part = next((part for frame in frames for part, found in PARTS if re.search(found, frame)), "other")
        counts[part] += int(times)
    total = counts.total()
    sys.stdout.write(f"{name} {total}\n")
    for part, times in counts.most_common():
        sys.stdout.write(f"  {times / total:6.1%} {part}\n")
