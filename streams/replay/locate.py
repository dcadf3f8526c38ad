"""Where on the bus the rows of a replay are: no group, no commit, no store is touched."""

from __future__ import annotations

from headrace.schemas.errors import StateError
from headrace.streams.bus.admin import describe_topics
from headrace.streams.bus.connection import Options
from headrace.streams.bus.lone_reader import LoneReader
from headrace.streams.replay.ranges import Edges, Plan, Wanted, lay_out

_APPENDED = "LogAppendTime"


async def locate(
    options: Options, reader: LoneReader, wanted: Wanted, *, now_ms: int, skew_ms: int = 0
) -> Plan:
    """Offsets to read for what is wanted, and what of it is not to be had.

    By broker time on a topic whose times the broker sets, that is a stretch of each partition. By
    event time an event may come at any time after it happened, so reading begins where its broker
    time could be and ends with the log. Where producers set the times, so does broker time.

    Args:
        options: Client options.
        reader: Of the topic.
        wanted: What is asked for.
        now_ms: The present, milliseconds since 1970.
        skew_ms: How far an event's time may be ahead of the broker's, milliseconds.

    Raises:
        SettingsError: a range that is reversed or empty, or a partition that is not there. Fatal.
        BusUnavailableError: retryable. BusRefusedError: fatal.
    """
    wanted.check()
    ranges = await reader.edges()
    begins = {partition: begin for partition, (begin, _) in ranges.items()}
    ends = {partition: end for partition, (_, end) in ranges.items()}
    firsts: dict[int, int | None] = {}
    if wanted.start_ms is not None:
        early_ms = wanted.start_ms - (skew_ms if wanted.by == "event" else 0)
        begins |= await reader.at_time(max(early_ms, 0))
        for partition, (begin, end) in ranges.items():
            firsts[partition] = await _first_ms(reader, partition, begin, end)
    if wanted.stop_ms is not None and wanted.by == "broker" and wanted.stop_ms <= now_ms:
        found = await describe_topics(options, [reader.topic])
        if found and found[reader.topic].configs.get("message.timestamp.type") == _APPENDED:
            ends |= await reader.at_time(max(wanted.stop_ms, 0))
    edges = {
        partition: Edges(begin, end, begins[partition], ends[partition], firsts.get(partition))
        for partition, (begin, end) in ranges.items()
    }
    return lay_out(reader.topic, wanted, edges, now_ms=now_ms)


async def _first_ms(reader: LoneReader, partition: int, begin: int, end: int) -> int | None:
    """Broker time of the first record of a log of which some has expired, milliseconds; or None."""
    if not 0 < begin < end:
        return None
    try:
        async for batch in reader.read(partition, begin, end, fetch_bytes=1 << 16):
            return int(batch.log_times_ms[0])
    except StateError:  # retention goes on while we look
        return None
    return None
