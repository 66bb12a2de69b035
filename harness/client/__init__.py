"""The load generator. Imports `wire`, and of `workloads` the texts that it sends."""
