"""What the page shows of one pipeline, made once a second while somebody looks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from typing import Any

import msgspec

from headrace.schemas.batch import RecordBatch
from headrace.schemas.errors import HeadraceError
from headrace.schemas.observed import Percentiles
from headrace.schemas.prediction import Prediction
from headrace.schemas.topics import topics_of
from headrace.streams.bus.newest import newest
from headrace.streams.client.clock import wall_clock
from headrace.streams.client.deadletter_tally import Tally
from headrace.streams.client.deadletters import DeadLetter, DeadLetters
from headrace.streams.console.devices import DeviceBoard
from headrace.streams.console.shown import Shown

log = logging.getLogger("headrace.console")

Trend = Sequence[tuple[float, Sequence[Percentiles]]]
"""What `Readings.trend` answers."""

EVERY_S = 1.0
LINGER_S = 30.0
"""Kept up for this long without a viewer: a page that is loaded anew finds its devices again."""

AGAIN_S = 2.0
PREDICTIONS = 2000
"""Predictions looked at in a second, at most: what they cost is bounded, whatever the rate."""

LETTERS_EVERY_S = 5.0
LETTERS = 500
LETTERS_SHOWN = 20
DEVICES_SHOWN = 100


class Feed:
    """Snapshots of one pipeline for any number of viewers; nothing runs while nobody looks.

    Args:
        shown: The pipeline.
        now: Wall clock, seconds since 1970.
    """

    def __init__(self, shown: Shown, *, now: Callable[[], float] = wall_clock) -> None:
        self._shown, self._now = shown, now
        pipeline = shown.pipeline
        self._topics = topics_of(pipeline)
        self._committed = pipeline.delivery.mode == "exactly-once"
        self.board = DeviceBoard(pipeline.model.outputs.label)
        self._letters = Tally(LETTERS_SHOWN, {})
        self._put_back: dict[str, str | None] = {}
        self._decode = msgspec.json.Decoder(Prediction).decode
        self._trouble: dict[str, str] = {}
        self._viewers = 0
        self._running: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending: asyncio.TimerHandle | None = None
        self._made: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._newest: bytes | None = None
        self._found_devices = asyncio.Event()

    async def snapshots(self) -> AsyncGenerator[bytes, None]:
        """JSON of everything, about once a second; a slow viewer misses some, and holds none up.

        The first one is there at once where somebody else looks, or did until a moment ago.
        """
        self._begin()
        try:
            if self._newest is not None:
                yield self._newest
            while True:
                # Not awaited itself: a viewer that leaves must not cancel what others wait for.
                made = self._made
                await asyncio.wait({made})
                if made.cancelled():
                    return
                yield made.result()
        finally:
            self._leave()

    def expect(self) -> None:
        """Begin to look: who has asked for the page asks for snapshots in a moment."""
        self._begin()
        self._leave()

    async def stop(self) -> None:
        """Stop looking; harmless when it does not."""
        if self._ending is not None:
            self._ending.cancel()
        self._end()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self) -> None:
        self._viewers += 1
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        if self._running is None:
            self._newest = None  # what ended last may have told once more as it was ended
            self._running = asyncio.create_task(self._run())
            self._tasks.add(self._running)
            self._running.add_done_callback(self._ended)

    def _leave(self) -> None:
        self._viewers -= 1
        if not self._viewers and self._running is not None:
            loop = asyncio.get_running_loop()
            self._ending = loop.call_later(LINGER_S, self._end)

    def _end(self) -> None:
        # Forgotten at once: who comes while it ends begins another.
        if self._running is not None:
            self._running.cancel()
        self._running = self._newest = None

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Let viewers know where it failed: they come again, which begins another."""
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.error("the console's snapshots of %s failed", self._shown.pipeline.name, exc_info=error)
        self._running = self._newest = None
        made, self._made = self._made, asyncio.get_running_loop().create_future()
        made.cancel()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._again("predictions", self._follow))
            group.create_task(self._again("dead letters", self._follow_letters))
            group.create_task(self._tell())

    async def _tell(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._found_devices.clear()
            self._newest = msgspec.json.encode(self.facts())
            made, self._made = self._made, loop.create_future()
            made.set_result(self._newest)
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._found_devices.wait()

    async def _again(self, what: str, follow: Callable[[], Awaitable[None]]) -> None:
        """Follow a topic; where that fails, say so on the page and try again."""
        while True:
            try:
                await follow()
            except HeadraceError as error:
                self._trouble[what] = str(error)
            except Exception as error:  # task boundary: the page stays up without its devices
                log.exception("following the %s for the console failed", what)
                self._trouble[what] = f"failed with {type(error).__name__}; see the log"
            await asyncio.sleep(AGAIN_S)

    async def _follow(self) -> None:
        name = self._topics.predictions.name
        looks = newest(
            self._shown.bus, name, rows=PREDICTIONS, every_s=EVERY_S,
            read_committed=self._committed,
        )  # fmt: skip
        async with aclosing(looks):
            async for batches in looks:
                self._trouble.pop("predictions", None)
                is_first = not self.board
                for batch in batches:
                    self.board.take(self._predictions(batch))
                if is_first and self.board:
                    self._found_devices.set()  # who has just come waits for these

    def _predictions(self, batch: RecordBatch) -> list[Prediction]:
        found = []
        for value in batch.values:
            try:
                found.append(self._decode(value or b""))
            except (msgspec.DecodeError, RecursionError):
                continue  # somebody else writes to this topic, too
        return found

    async def _follow_letters(self) -> None:
        name = self._topics.deadletter.name
        looks = newest(
            self._shown.bus, name, rows=LETTERS, every_s=LETTERS_EVERY_S,
            read_committed=self._committed,
        )  # fmt: skip
        ours, content = f"{self._shown.pipeline.name}@", DeadLetters()
        self._letters = Tally(LETTERS_SHOWN, {})
        async with aclosing(looks):
            async for batches in looks:
                self._trouble.pop("dead letters", None)
                for batch in batches:
                    read = [letter for letter in content.read(batch) if letter]
                    self._remember(letter for letter in read if letter.is_mark)
                    self._letters.add(
                        letter
                        for letter in read
                        if not letter.is_mark and letter.pipeline.startswith(ours)
                    )

    def _remember(self, marks: Iterable[DeadLetter]) -> None:
        """Where dead letters were put back to; of the newest, so memory stays bounded."""
        self._put_back |= {mark.source: mark.redriven_to for mark in marks}
        for at in list(self._put_back)[:-LETTERS]:
            del self._put_back[at]

    def _dead(self, now_s: float) -> dict[str, Any]:
        """The tally; its newest are marked here, as a mark comes after what it marks."""
        found = self._letters.facts(now_s)
        for letter in found["letters"]:
            letter["redriven"] = letter["at"] in self._put_back
        return found

    def facts(self) -> dict[str, Any]:
        """Everything that the page shows, ready to become JSON."""
        now_s, readings = self._now(), self._shown.readings
        ranked = self.board.ranked(DEVICES_SHOWN, now_ms=now_s * 1000)
        return {
            "at_ms": round(now_s * 1000),
            "view": self._shown.watched.view().facts(),
            "trend": _by_class(readings.trend("device_to_prediction")),
            "devices": {"known": len(self.board), "ranked": ranked},
            "model": self._model(),
            "letters": self._dead(now_s),
            "bytes": {
                "raw": self._sum("headrace_raw_bytes_total", stage="enrich"),
                "upstream": self._sum("headrace_upstream_bytes_total"),
            },
            "trouble": [f"{what}: {why}" for what, why in sorted(self._trouble.items())],
        }

    def _model(self) -> dict[str, Any]:
        model, newest_one = self._shown.pipeline.model, self.board.model
        return {
            "name": model.name,
            "version": model.version,
            "digest": newest_one.model.digest if newest_one else None,
            "inputs": list(self._shown.pipeline.model_inputs),
            "threshold": model.outputs.threshold,
            "tiers": dict(self.board.tiers),
            "rows": self._sum("headrace_serving_rows_total"),
            "cached": self._sum("headrace_serving_cache_hits_total"),
            "calls": self._sum("headrace_serving_calls_total"),
        }

    def _sum(self, metric: str, *, stage: str | None = None) -> int:
        """A metric of one stage, or of all together."""
        samples = self._shown.readings.samples()
        return int(
            sum(
                value
                for (name, labels), value in samples.items()
                if name == metric and stage in (None, labels[1])
            )
        )


def _by_class(trend: Trend) -> dict[str, list[tuple[float, float, float]]]:
    """Of each device class: how long ago in seconds, p50 and p99 in milliseconds; oldest first."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for age_s, classes in trend:
        for one in classes:
            found.setdefault(one.device_class, []).append((age_s, one.p50_ms, one.p99_ms))
    return found
