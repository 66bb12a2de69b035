"""Turn rows into figures: summaries, statistics and noise. Imports `wire`."""
