"""The path of another Python: it finds our two packages here, and none of those that we have installed."""
