"""Choose the best of many settings in a given time: `execbench sweep --slo`."""
