"""The measured app and the code that runs in its workers. Imports `workloads`, `wire` and `strategies`."""
