"""What a request awaits after the model, one file a kind. Imports `system`, `wire` and `workloads`."""
