"""The package `harness` of this installation, for another Python that has this folder on its path."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_spec = spec_from_file_location(__name__, Path(__file__).parents[3] / __name__ / "__init__.py")
assert _spec is not None, "this installation has the package"
assert _spec.loader is not None, "an __init__.py is a source file"
_package = module_from_spec(_spec)
sys.modules[__name__] = _package  # what `import harness` returns
_spec.loader.exec_module(_package)
