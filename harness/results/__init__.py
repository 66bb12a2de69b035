"""A run's folder: its rows and run.json, written safely and read with suspicion. Imports `wire`."""
