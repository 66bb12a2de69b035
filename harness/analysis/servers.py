"""How long the arms' servers took to start, and how much memory they held over the run.

Pure functions: they take the rows of `trials.csv` and the dict of `run.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

MEMORY_COLUMNS = ["arm", "load", "block", "trial", "started_at", "server_rss_mb"]


def ready_s(record: Mapping[str, Any]) -> dict[str, float]:
    """Arm → seconds from starting its server until all workers were warm, without arms of unknown time.

    For a command: until its first good answer, as some say too early that they are ready. Resident servers
    start together and slow each other down: compare arms only within a run.
    """
    arms = (record.get("arms") or {}).items()
    times = ((arm, about.get("first_answer_s") or about.get("ready_s")) for arm, about in arms)
    return {arm: float(seconds) for arm, seconds in times if seconds is not None}


def memory_over_time(trials: pd.DataFrame) -> pd.DataFrame:
    """The memory of an arm's server at the end of each trial, in order of the trials; see `Noise`.

    Includes the pilot and trials that are not ok, as a server keeps what it allocated there. Leaves out
    trials without a reading: all of them in a run of an older layout, or of servers that could not be read.
    """
    memory = trials[MEMORY_COLUMNS].assign(server_rss_mb=pd.to_numeric(trials["server_rss_mb"]))
    return memory.dropna(subset="server_rss_mb").sort_values("trial", ignore_index=True)
