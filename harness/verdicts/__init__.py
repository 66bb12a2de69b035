"""What may be said of the figures. Imports `analysis` and `results`."""
