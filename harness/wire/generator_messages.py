"""The names of the messages between the run and a load generator, beside rows, progress and outcome."""

LOAD = "load"  # to it: the JSON of a trial's LoadOptions
CLOCK = "clock_ms"  # to it, between trials; and its answer: when that arrived, on its monotonic clock

# During a trial whose load several generators share. Times count from the trial's start.
WARM = "warm_ms"  # from it: its warm-up is complete
BEGIN = "begin_ms"  # to it: all are warm, so the window begins at this time
DONE = "done_ms"  # from it: its measured requests are answered
STOP = "stop"  # to it: all are done, so the load may end
