"""All that is shown of a run. Imports `verdicts`, `analysis`, `results` and all below; never `run`."""
