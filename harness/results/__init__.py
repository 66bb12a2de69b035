"""A run's folder: write its rows and run.json safely, and check them when they are read. Imports `wire`."""
