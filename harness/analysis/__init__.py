"""Rows to figures: summaries, statistics, noise. Imports `wire`."""
