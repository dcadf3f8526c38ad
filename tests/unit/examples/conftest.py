"""The scripts of `examples/hosts` import each other by name, as scripts do."""

import sys
from pathlib import Path

HOSTS = Path(__file__).parents[3] / "examples" / "hosts"
sys.path.insert(0, str(HOSTS))
