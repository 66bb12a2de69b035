"""What to run: plans from files and flags, checked. Imports `workloads`, `results` and all below."""
