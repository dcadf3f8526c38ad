"""Telemetry logs of a few devices, drawn by Hypothesis: in order, late, repeated and broken."""

from __future__ import annotations

from typing import Any

from fakes import enrich_world as world
from hypothesis import strategies as st

from headrace.schemas.batch import RecordBatch

BROKEN = (
    None,
    b"",
    b"{",
    b"[]",
    b"\xff\xfe",
    b'{"id":"x","device_id":"d0","time":"2026-11-21T10:00:00Z","metrics":{"load":NaN}}',
    b'{"id":"x","device_id":"d0","time":"2026-11-21T10:00:00Z","metrics":{"load":1e999}}',
    b'{"id":"x","device_id":"d0","time":"2026-11-21T10:00:00Z","metrics":{"load":true}}',
    b'{"id":"x","device_id":"d0","time":"2026-11-21T10:00:00Z","metrics":{"heat":1}}',
    b'{"id":"x","device_id":"d0","time":"2026-11-21T10:00:00Z","metrics":{"load":2e9}}',
    b'{"id":"x","device_id":"d0","time":"2026-02-30T10:00:00Z","metrics":{"load":1}}',
    b'{"id":"x","device_id":"d0","time":"2036-11-21T10:00:00Z","metrics":{"load":1}}',
    b'{"id":"x","device_id":"","time":"2026-11-21T10:00:00Z","metrics":{"load":1}}',
    b'{"id":"x","device_id":"d0","metrics":{"load":1}}',
)
NUMBERS = st.one_of(
    st.floats(-100, 100), st.sampled_from([0.0, -0.0, 0.1, 1e8 + 0.1, -1e8, 5e-324, 71.25])
)


@st.composite
def logs(draw: st.DrawFn) -> RecordBatch:
    """Records of a few devices, one or two with a clock that is now and then ahead.

    Mostly in order, some late, repeated, missing values or broken.
    """
    values: list[bytes | None] = []
    ids: list[bytes] = []
    logged: list[int] = []
    clock = world.START_MS
    held = 0
    leads = draw(st.sampled_from([(0, 0, 0, 0), (0, 59_000, 4000, 0)]))
    for number in range(draw(st.integers(1, 30))):
        kind = draw(st.integers(0, 19))
        if kind == 0:
            values.append(draw(st.sampled_from(BROKEN)))
        elif kind == 1 and ids:
            values.append(draw(st.sampled_from(ids)))
        else:
            clock += draw(st.sampled_from([0, 1, 37, 400, 1000, 2500, 16_000]))
            back = draw(st.sampled_from([0, 0, 0, 0, 500, 1500, 5000, 5001]))
            name = f"e{draw(st.integers(0, number)) if kind == 2 else number}"
            metrics: dict[str, Any] = {"load": draw(NUMBERS)}
            if kind > 5:
                metrics["heat"] = draw(NUMBERS) if kind > 6 else None
            device = draw(st.integers(0, 3))
            lead = leads[device] if draw(st.integers(0, 3)) else 0
            ids.append(world.event(name, f"d{device}", clock - back + lead, **metrics))
            values.append(ids[-1])
        held += draw(st.sampled_from([0, 0, 0, 0, 0, 0, 400_000, 700_000]))
        logged.append(clock + held + draw(st.sampled_from([0, 3, 90, -700_000])))
    return world.batch(values, draw(st.integers(0, 3)), logged)
