"""The largest numbers that flags, plans and recorded runs may contain. Larger ones are typing errors.

This module imports nothing: the flags use some of the limits, and `execbench --help` must not load pydantic.
"""

A_DAY_S = 86_400.0  # for any window, pause or timeout
A_DAY_MS = 1e3 * A_DAY_S  # for any model call or added delay
USERS = 10_000  # one socket each; a host has about 28,000 ports for connections to one address
PER_S = 20_000.0  # requests per second; a load generator of one process sends a few thousand
REQUESTS = 100_000_000  # of one trial: a day at 1,000 per second, some 10 GB on disk
BLOCKS = 10_000
FIRST_LOOK = 8  # blocks; a run never stops earlier
TRIALS = 100_000  # of one run: arms x loads x blocks
SEED = 10**12  # of a run; each of its blocks has its own seed, a million times as large
BLOCK_SEED = 10**18 + 10**6
PROCESSES = 256  # uvicorn's workers
GENERATORS = 999  # processes that send load
THREADS = 1_024  # of torch, ONNX Runtime or OpenVINO
DIMENSIONS = 100_000
PID = 2**22  # the highest pid_max that Linux accepts
