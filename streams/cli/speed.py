"""How many times as fast as it happened, as an option."""

from __future__ import annotations

from typing import Any

import click


class Speed(click.ParamType):
    """``10x``, ``0.5x`` or ``max``."""

    name = "speed"

    def convert(self, value: Any, param: Any, ctx: Any) -> float | None:
        """Times as fast as it happened; None is as fast as it goes."""
        if value == "max" or value is None:
            return None
        try:
            speed = float(str(value).removesuffix("x"))
        except ValueError:
            speed = 0.0
        if not 0 < speed < float("inf"):
            self.fail(f"{value!r} is no speed, expected one like 1x, 10x or max", param, ctx)
        return speed
