"""The largest numbers that flags, plans and recorded runs may hold. What is larger is a typing error.

Without imports: the flags read some of these, and `execbench --help` must not load pydantic.
"""

A_DAY_S = 86_400.0  # any window, pause or time-out
A_DAY_MS = 1e3 * A_DAY_S  # any model call, any delay that is added
USERS = 10_000  # a socket each; of ports towards one address a host has some 28,000
PER_S = 20_000.0  # requests a second; a load generator of one process sends some thousands
REQUESTS = 10_000_000  # of one trial: they are kept in memory until it ends
BLOCKS = 10_000
TRIALS = 100_000  # of a run: arms times loads times blocks
SEED = 10**12  # a run's; each of its blocks has a seed of its own, a million times as large
BLOCK_SEED = 10**18 + 10**6
PROCESSES = 256  # uvicorn's workers
THREADS = 1_024  # of torch, or of ONNX Runtime
DIMENSIONS = 100_000
PID = 2**22  # the most that a kernel can be set to
