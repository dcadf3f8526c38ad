"""The scripts of `examples/hosts` import each other by name, as scripts do."""

import sys

from fakes.examples import EXAMPLES

sys.path.insert(0, str(EXAMPLES / "hosts"))
