"""Self-checks of the instrument: each measures something whose truth is known."""
