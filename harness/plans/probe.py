"""`python -m harness.plans.probe NAME…`: say as JSON what this Python has, before a server starts in it.

The names are those of distributions. `versions` has the version of each (null: not installed), `refusals` why
each strategy cannot work here (null: it can); `refusals` is empty if packages of the strategies are missing.
Imports only the standard library before these are known.
"""

import json
import sys

from harness.system.interpreter import version_of

versions = {name: version_of(name) for name in sys.argv[1:]}
refusals: dict[str, str | None] = {}
try:
    import strategies
except ImportError:  # pydantic is missing or too old: its version says which
    pass
else:
    refusals = {name: strategies.get(name).why_not() for name in strategies.NAMES}

sys.stdout.write(f"{json.dumps({'versions': versions, 'refusals': refusals})}\n")
