"""The data that processes exchange: options, rows, arrivals, clocks. Imports `system` and `strategies`."""
