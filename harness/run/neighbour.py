"""A busy neighbour: a process that never waits, as another container on the same machine may be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.run.supervisor import Supervisor


@contextmanager
def busy(supervisor: Supervisor, cores: int) -> Iterator[None]:
    """Keep this many processes busy. As they are of the run, their CPU is not that of foreign programs."""
    started = [supervisor.spawn("harness.run.neighbour", stderr=None) for _ in range(cores)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def main() -> None:
    while True:
        pass


if __name__ == "__main__":
    main()
