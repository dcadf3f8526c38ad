"""A process that makes parts of an export; told over standard input, ends with it.

    python -m headrace.streams.replay.worker

First line: an `Order`. Then a line for each part to make, ``[partition, start, stop]``; for each it
answers lines of `Answer`. It ends when its standard input does, so it never outlives who began it
by more than a part.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from pathlib import Path

import msgspec

from headrace.schemas.errors import HeadraceError, RetryableError
from headrace.streams.replay.ask import Ask, open_source
from headrace.streams.replay.choose import source_of
from headrace.streams.replay.export import Exporter
from headrace.streams.replay.folder import Folder, Mark
from headrace.streams.replay.ranges import Span
from headrace.streams.replay.throttle import Throttle

NICE = 10
"""Added to the niceness of a gentle replay: what is live goes first."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is to do.

    Attributes:
        ask: What it reads.
        folder: Where the export is; it holds the sheet.
        bytes_per_s: Most bytes to read a second; None for any.
        rows_per_s: Most records, likewise.
    """

    ask: Ask
    folder: str
    bytes_per_s: float | None = None
    rows_per_s: float | None = None

    @property
    def is_gentle(self) -> bool:
        """It reads no faster than told."""
        return self.bytes_per_s is not None or self.rows_per_s is not None

    def shared_by(self, workers: int) -> Order:
        """What each of so many workers is to do, so that all of them keep the rates."""
        return msgspec.structs.replace(
            self,
            bytes_per_s=self.bytes_per_s and self.bytes_per_s / workers,
            rows_per_s=self.rows_per_s and self.rows_per_s / workers,
        )


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker says.

    Attributes:
        passed: Offsets passed since the last answer.
        mark: The part is done.
        error: It failed, in one line.
        code: Of the error.
        is_retryable: It may succeed later.
    """

    passed: int = 0
    mark: Mark | None = None
    error: str | None = None
    code: str = ""
    is_retryable: bool = False


def say(answer: Answer) -> None:
    """One line on standard output."""
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


async def _work() -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    first = await reader.readline()
    if not first:
        return  # started ahead of need, and not needed
    order = msgspec.json.decode(first, type=Order)
    if order.is_gentle:
        os.nice(NICE)
    folder = Folder(Path(order.folder))
    sheet = folder.sheet()
    if sheet is None:
        return
    throttle = Throttle(order.bytes_per_s, order.rows_per_s)
    prediction = source_of(sheet.plan.wanted, order.ask.load())
    async with open_source(order.ask) as source:
        # What lives from here on is columns: looking for cycles among them costs and finds none.
        gc.freeze()
        exporter = Exporter(
            source,
            folder,
            sheet,
            prediction=prediction,
            throttle=throttle,
            told=lambda passed: say(Answer(passed=passed)),
        )
        while line := await reader.readline():
            say(Answer(mark=await exporter.part(msgspec.json.decode(line, type=Span))))


def main() -> None:
    """Work until standard input ends; a failure is the last answer."""
    try:
        asyncio.run(_work())
    except HeadraceError as error:
        say(
            Answer(
                error=str(error), code=error.code, is_retryable=isinstance(error, RetryableError)
            )
        )
        sys.exit(1)
    except OSError as error:
        say(
            Answer(
                error=f"writing a part failed: {error.strerror}; make room, then go on", code="os"
            )
        )
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(1)


if __name__ == "__main__":
    main()
