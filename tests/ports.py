"""Ports for servers that a test starts a little later."""

from __future__ import annotations

import random
import socket

# below the ports that the kernel gives to those who ask for any: another test would get such a one meanwhile
RANGE = (10_000, 32_767)


def free_port() -> int:
    """Return a port on which nothing listens, and which no socket gets that was bound to port 0."""
    while True:
        port = random.SystemRandom().randint(*RANGE)  # not the seed that all pytest workers share
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)):
                return port
