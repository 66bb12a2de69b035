"""The words of a page, explained in place; `docs/reference/glossary.md` has all words."""

from __future__ import annotations

from harness.report.page.parts import Term

_MEANINGS = {
    "arm": "a strategy with its options, or a server, that is measured beside others",
    "c": "number of users in a closed loop: each sends its next request after the last answer",
    "latency": "from when a request was due until its answer was complete",
    "p50, p95, p99": "50, 95 or 99 of 100 requests were at most this slow",
    "interval": "a range that contains the true value in 95 of 100 such runs",
    "block": "a part of the run in which every arm runs once under each load, in random order; arms are "
    "compared block by block",
    "ratio": "the arm's figure divided by the reference's",
    "twin": "the reference, run a second time as an arm of its own: it shows what noise does",
    "faster, slower": "the interval lies beyond the difference that matters (5 % of latency, 3 % of "
    "requests/s)",
    "size uncertain": "there is a difference, but it may be smaller than that",
    "equivalent": "the difference is surely smaller than that",
    "inconclusive": "the run cannot tell; more blocks may",
    "queue": "from handing the request to the strategy until a worker starts on it",
    "worker": "the model itself, where it runs",
    "way back": "from the model's end until the route goes on",
    "I/O": "what the route awaits after the model, waits for the event loop included",
    "outside": "network, HTTP parsing, and the load generator",
    "event loop": "the one thread that runs all routes; while it runs a model, every other route waits",
    "ping": "a request to a route without a model, sent beside the load",
    "closed loop": "a fixed number of users, who wait for answers",
    "open loop": "requests at given times, whether or not others are answered, as on the internet",
    "capacity": "the highest rate of independent arrivals at which every objective is kept",
    "promise": "the lower end of the capacity's interval: the rate to plan with",
}


VERDICTS = ("faster, slower", "size uncertain", "equivalent", "inconclusive")


def of(*words: str) -> list[Term]:
    """The meanings of these words, in this order."""
    return [Term(word, _MEANINGS[word]) for word in words]
