"""A throttled replay reads no faster than told, and saves nothing up."""

from __future__ import annotations

from headrace.streams.replay.throttle import GENTLE_FETCH_BYTES, Throttle


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds


async def test_bytes_are_spaced() -> None:
    """Ten responses of a tenth of a second's bytes each take as long as nine of them must."""
    clock = Clock()
    throttle = Throttle(1000, clock=clock, sleep=clock.sleep)
    for _ in range(11):
        await throttle.took(100, 1)

    assert round(clock.now_s - 100, 6) == 1.0


async def test_records_are_spaced_where_they_are_dearer() -> None:
    """Of two limits the one that asks for more time counts."""
    clock = Clock()
    throttle = Throttle(1000, 10, clock=clock, sleep=clock.sleep)
    for _ in range(3):
        await throttle.took(100, 5)

    assert round(clock.now_s - 100, 6) == 1.0


async def test_a_pause_is_not_made_up_for() -> None:
    """After an idle minute one response is free, as at first, and no more."""
    clock = Clock()
    throttle = Throttle(1000, clock=clock, sleep=clock.sleep)
    await throttle.took(500, 1)
    clock.now_s += 60
    before = clock.now_s
    await throttle.took(500, 1)
    await throttle.took(500, 1)

    assert round(clock.now_s - before, 6) == 0.5


def test_responses_are_small_where_reading_is_slow() -> None:
    """A twentieth of a second's bytes, at most the gentle size; unlimited where nothing counts."""
    assert Throttle().fetch_bytes is None
    assert Throttle(200_000).fetch_bytes == 10_000
    assert Throttle(1e9).fetch_bytes == GENTLE_FETCH_BYTES
    assert Throttle(None, 5).fetch_bytes == GENTLE_FETCH_BYTES
