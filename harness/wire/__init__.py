"""What processes tell each other: options, rows, arrivals, clocks. Imports `system` and `strategies`."""
