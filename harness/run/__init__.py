"""A run: servers up, trials, rows saved. Imports `plans`, `analysis` and all below."""
