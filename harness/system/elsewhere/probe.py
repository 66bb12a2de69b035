"""A script for another Python: print as JSON what an arm needs to know before its server starts there.

Its arguments are names of distributions. Prints the version of each (null: not installed) and, unless the
packages of strategies are missing, why a strategy cannot work (null: it can).
"""

import json
import sys
from importlib.metadata import PackageNotFoundError, version

versions: dict[str, str | None] = {}
for name in sys.argv[1:]:
    try:
        versions[name] = version(name)
    except PackageNotFoundError:
        versions[name] = None

refusals: dict[str, str | None] = {}
try:
    import strategies
except ImportError:  # pydantic is missing, or too old; its version is known now
    pass
else:
    refusals = {name: strategies.get(name).why_not() for name in strategies.NAMES}

print(json.dumps({"versions": versions, "refusals": refusals}))  # noqa: T201 - its parent reads it
