"""The number of examples of property tests: a few hundred in CI, many when run by hand.

`HYPOTHESIS_PROFILE=by-hand pytest --timeout 0 FILE` tries others each time; that takes minutes. The files:
tests/wire/test_parsers.py and tests/results/test_mutated_runs.py.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

BY_HAND = "by-hand"

_common: dict[str, Any] = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("ci", settings(derandomize=True, **_common))
settings.register_profile(BY_HAND, settings(print_blob=True, **_common))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "hypothesis-of-execbench")


def examples(in_ci: int, by_hand: int) -> settings:
    """Return the Hypothesis settings of one property test."""
    return settings(max_examples=by_hand if os.environ.get("HYPOTHESIS_PROFILE") == BY_HAND else in_ci)
