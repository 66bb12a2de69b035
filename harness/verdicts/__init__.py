"""Verdicts: which statements the figures support. Imports `analysis` and `results`."""
