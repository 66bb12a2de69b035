"""The shortest possible user workload."""

from __future__ import annotations

from collections.abc import Callable


class Model:
    def load(self) -> Callable[[str], str]:
        return str.upper

    def predict(self, model: Callable[[str], str], items: list[str]) -> list[str]:
        return [model(item) for item in items]
