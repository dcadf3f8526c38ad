"""The scripts of the examples import each other by name, as scripts do."""

import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[3] / "examples"
sys.path[:0] = [str(EXAMPLES / "hosts"), str(EXAMPLES / "training")]
