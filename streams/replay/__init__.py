"""The past of a topic, beside everything that is live: ranges, reads, tables.

For notebooks: `open_replay` yields Arrow record batches of a topic, or of an export of one.
"""

from headrace.streams.replay.frames import Replayed, open_replay
from headrace.streams.replay.ranges import Missing, Wanted

__all__ = ["Missing", "Replayed", "Wanted", "open_replay"]
