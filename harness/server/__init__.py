"""The measured app and its worker side. Imports `workloads`, `wire` and `strategies`."""
