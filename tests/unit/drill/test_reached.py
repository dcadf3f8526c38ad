"""How long a stage gets to be through counts from when a worker was last ended."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from headrace.schemas.errors import FatalError
from headrace.streams.drill.workers import Workers


class Ends(Workers):
    """Workers of which one is ended again and again, `kills` times, before the stage is through."""

    def __init__(self, kills: int) -> None:
        super().__init__(cast("Any", None))
        self.kills = kills

    def look(self) -> None:
        if self.kills:
            self.kills -= 1
            self._ended_s = time.monotonic()
        else:
            self._positions["summarize", 0] = 3


async def test_a_stage_that_is_killed_again_and_again_is_waited_for() -> None:
    """Ten looks, each within the time since the last end; all of them take longer than that."""
    began_s, within_s = time.monotonic(), 0.2
    await Ends(kills=10).reached("summarize", {0: 3}, within_s=within_s)
    assert time.monotonic() - began_s > within_s


async def test_a_stage_that_stands_still_is_told() -> None:
    """Nobody is ended any more, and nothing moves."""
    with pytest.raises(FatalError, match="1 records behind"):
        await Ends(kills=2).reached("summarize", {0: 4}, within_s=0.01)
