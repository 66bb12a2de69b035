"""The I/O that a request awaits after the model, a module per kind. Imports `system`, `wire`, `workloads`."""
