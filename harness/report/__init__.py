"""All that is shown of a run. Imports `verdicts`, `plans` and all below; never `run`."""
