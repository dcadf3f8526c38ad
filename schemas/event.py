"""The event in its default form, as producers write it when they have no form of their own."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One telemetry event.

    Attributes:
        id: Unique per event; repeats are recognised by it.
        device_id: The entity; also the record's key.
        time: Device time, RFC 3339.
        seq: Counter per device.
        metrics: Name to number.
        payload: Raw content of any kind. It stays at the site: nothing downstream decodes it.
    """

    id: Annotated[str, Meta(min_length=1, max_length=256)]
    device_id: Annotated[str, Meta(min_length=1, max_length=256)]
    time: str
    seq: int | None = None
    metrics: dict[str, float]
    payload: Any = None
