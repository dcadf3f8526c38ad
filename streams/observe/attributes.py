"""What telemetry may say: a list of names, each with the form of its values; the rest is dropped.

Everything that leaves for a collector goes through here. Nothing on the list can hold a key, an
entity, a feature or a payload, and text must look like a name of ours besides.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Literal, TypeGuard

from headrace.schemas.errors import HeadraceError
from headrace.schemas.metrics import CATALOGUE

Kind = Literal["name", "number"]
Value = str | int | float

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./ +-]{0,126}")
_PLACE = re.compile(r"[A-Za-z0-9._/-]{1,249}\[\d+\](@\d+)?")

_OUTCOMES = ("in", "out", "dead", "late", "repeated", "unsummarized", "canary")
_HOP_ATTRIBUTES = (
    "device_to_ingest",
    "ingest_to_features",
    "features_to_inference",
    "inference_to_prediction",
)

ALLOWED: dict[str, Kind] = {
    "headrace.pipeline": "name",
    "headrace.stage": "name",
    "headrace.worker": "name",
    "headrace.logger": "name",
    "messaging.system": "name",
    "messaging.destination.name": "name",
    "messaging.destination.partition.id": "name",
    "messaging.kafka.offset": "number",
    "messaging.batch.message_count": "number",
    **{f"headrace.events.{outcome}": "number" for outcome in _OUTCOMES},
    **{f"headrace.ms.{hop}": "number" for hop in _HOP_ATTRIBUTES},
    # Labels of the metric catalogue.
    **{label: "name" for spec in CATALOGUE.values() for label in spec.labels},
}
"""Names and the form of their values."""

HIDDEN = "…"
"""What stands for a dropped argument of a log line."""


class Told(str):
    """A line that our own code made of names, coordinates and numbers alone."""

    __slots__ = ()


def allowed(attributes: Mapping[str, object], dropped: Counter[str]) -> dict[str, Value]:
    """The attributes that are on the list and have its form.

    Args:
        attributes: What somebody wants to say.
        dropped: What was dropped is counted here, under ``name`` or ``value``.

    Example:
        >>> dropped = Counter()
        >>> allowed({"headrace.stage": "serve", "payload": "secret", "hop": "{...}"}, dropped)
        {'headrace.stage': 'serve'}
        >>> dropped
        Counter({'name': 1, 'value': 1})
    """
    kept: dict[str, Value] = {}
    for name, value in attributes.items():
        kind = ALLOWED.get(name)
        if kind is None:
            dropped["name"] += 1
        elif _has_form(value, kind):
            kept[name] = value
        else:
            dropped["value"] += 1
    return kept


def _has_form(value: object, kind: Kind) -> TypeGuard[Value]:
    if kind == "number":
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def log_text(record: logging.LogRecord, dropped: Counter[str]) -> str | None:
    """What may be told of a log line: our own template, and the arguments that have a safe form.

    Args:
        record: A record of any logger; None comes back for those that are not ours.
        dropped: Hidden arguments are counted under ``argument``, foreign lines under ``logger``.

    An error of ours is told by its code, text by its form: coordinates, or made by our own code
    (`Told`); anything else is hidden.
    """
    if record.name.partition(".")[0] != "headrace" or not isinstance(record.msg, str):
        dropped["logger"] += 1
        return None
    args = record.args if isinstance(record.args, tuple) else ()
    told = tuple(_argument(arg, dropped) for arg in args)
    try:
        return record.msg % told if told else record.msg
    except (TypeError, ValueError):
        dropped["argument"] += 1
        return record.msg


def _argument(value: object, dropped: Counter[str]) -> object:
    if isinstance(value, bool | int | float | Told):
        return value
    if isinstance(value, HeadraceError):
        return value.code
    text = str(value)
    if _PLACE.fullmatch(text):
        return text
    dropped["argument"] += 1
    return HIDDEN
