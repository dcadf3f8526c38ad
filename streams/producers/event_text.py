"""Events of a pipeline's own form, written column by column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from headrace.enrichers.cloudevents import ENVELOPE, VERSION, place
from headrace.schemas.input import Input
from headrace.streams.producers.chance import F64, I64

_PER_MS = {"ms": 1, "us": 1_000, "ns": 1_000_000}
_NUMPY = orjson.OPT_SERIALIZE_NUMPY
_UTC = _NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


def texts(column: np.ndarray[Any, Any]) -> list[bytes]:
    """Every number or time of a column as JSON, at about 50 ns each.

    Example:
        >>> texts(np.array([1.5, 2.0])), texts(np.array([0], "datetime64[ms]"))
        ([b'1.5', b'2.0'], [b'"1970-01-01T00:00:00Z"'])
    """
    if not len(column):
        return []
    return orjson.dumps(np.ascontiguousarray(column), option=_UTC)[1:-1].split(b",")


class EventText:
    """Writes what an ``[input]`` describes, with all its raw and personal fields.

    The form is made once, as a template with a hole for every column; values that are text come
    escaped already.

    Args:
        spec: The pipeline's.
        source: CloudEvents only: their source.
    """

    def __init__(self, spec: Input, source: str) -> None:
        self._spec = spec
        wrapped = spec.format == "cloudevents"
        at = place if wrapped else str
        in_envelope = wrapped and place(spec.time) in ENVELOPE
        self.time_unit = "iso" if in_envelope else spec.time_unit
        holes: dict[str, str] = {"device": at(spec.entity), "time": at(spec.time)}
        if wrapped or spec.id is not None:
            holes["id"] = "id" if spec.id is None else at(spec.id)
        if spec.sequence is not None:
            holes["seq"] = at(spec.sequence)
        holes |= {f"label {n}": at(spec.attribute_path(n)) for n in spec.attributes}
        holes |= {f"metric {n}": at(spec.metric_path(n)) for n in spec.metrics}
        # The entity itself may be declared personal: then it is what stands there.
        taken = {path.partition(".")[0] for path in (spec.entity, spec.time, spec.id or "")}
        holes |= {f"raw {n}": at(n) for n in spec.raw if n not in taken}
        holes |= {f"personal {n}": at(n) for n in spec.personal if n not in taken}
        tree: dict[str, Any] = {}
        if wrapped:
            tree = {VERSION: "1.0", "type": "headrace.fleet", "source": source}
            if spec.id is not None and at(spec.id) != "id":
                holes["envelope id"] = "id"
        for name, path in holes.items():
            _put(tree, path, f"\0{name}\0")
        self._template, self._order = _compiled(orjson.dumps(tree))

    def write(
        self,
        *,
        ids: Sequence[bytes],
        devices: Sequence[bytes],
        times_ms: I64,
        seqs: I64,
        labels: Sequence[Sequence[bytes]],
        metrics: F64,
        raw: Sequence[bytes],
        personal: Sequence[bytes],
    ) -> list[bytes]:
        """The value of each record.

        Args:
            ids: N event ids, and so on: all text in quotation marks, escaped.
            devices: N entity keys.
            times_ms: int64 (N,), event times, milliseconds since 1970.
            seqs: int64 (N,), each device's own counter.
            labels: One column of N for each attribute.
            metrics: float64 (N, M).
            raw: N contents, the same in every raw field.
            personal: N contents, the same in every personal field.
        """
        spec = self._spec
        columns: dict[str, Sequence[bytes]] = {
            "id": ids, "envelope id": ids, "device": devices, "time": self._times(times_ms),
        }  # fmt: skip
        if spec.sequence is not None:
            columns["seq"] = texts(seqs)
        columns |= {f"label {n}": c for n, c in zip(spec.attributes, labels, strict=True)}
        columns |= {f"metric {n}": texts(metrics[:, m]) for m, n in enumerate(spec.metrics)}
        columns |= {f"raw {n}": raw for n in spec.raw}
        columns |= {f"personal {n}": personal for n in spec.personal}
        template = self._template
        return [
            template % row for row in zip(*(columns[name] for name in self._order), strict=True)
        ]

    def _times(self, times_ms: I64) -> list[bytes]:
        if self.time_unit == "iso":
            return texts(times_ms.astype("datetime64[ms]"))
        if self.time_unit == "s":
            return texts(times_ms / 1000)
        return texts(times_ms * _PER_MS[self.time_unit])


def _put(tree: dict[str, Any], path: str, leaf: str) -> None:
    *above, last = path.split(".")
    for name in above:
        tree = tree.setdefault(name, {})
    tree[last] = leaf


def _compiled(form: bytes) -> tuple[bytes, list[str]]:
    r"""A template for ``%``, and the names of its holes in their order.

    Example:
        >>> _compiled(rb'{"a %":"\u0000id\u0000"}')
        (b'{"a %%":%b}', ['id'])
    """
    pieces = form.replace(b"%", b"%%").replace(rb'"\u0000', b"\0").replace(rb'\u0000"', b"\0")
    parts = pieces.split(b"\0")
    return b"%b".join(parts[::2]), [name.decode() for name in parts[1::2]]
