"""What the processes have in common that load the model in torch for a worker of another runtime."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.errors import HarnessError, to_parent
from harness.wire import reasons
from harness.wire.options import WorkloadOptions
from harness.workloads import embed

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def report(make: Callable[[SentenceTransformer], None], failed: Callable[[str], HarnessError]) -> int:
    """Call `make` with the model of the options from stdin; write an error to stdout as JSON.

    Returns the exit code. `failed` makes an error of what a library says.
    """
    options = WorkloadOptions.model_validate_json(sys.stdin.read())
    try:
        make(embed.Workload(options).load())
    except HarnessError as error:
        sys.stdout.write(json.dumps(to_parent(error)))
    except Exception as error:  # noqa: BLE001 - whatever a library raises, the user gets a sentence
        # report the root cause: libraries wrap it in advice
        sys.stdout.write(json.dumps(to_parent(failed(embed.first_line(reasons.root(error))))))
    else:
        return 0
    return 1
