"""Which devices were anomalous most often, in as many counters as are kept, over any merging."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from headrace.schemas.summary import DeviceCount, Frequent


def frequent_of(counts: Mapping[str, int], *, counters: int) -> Frequent:
    """The sketch of exact counts by device.

    A device's true count is from its counter to its counter plus `error`; a device that is not
    named was counted `error` times at most; and ``error <= total / (counters + 1)``. This holds
    after any merging of such sketches.

    Args:
        counts: Count by device; those of 0 are left out.
        counters: How many devices to name at most.

    Source: Agarwal et al., "Mergeable summaries" (2012), section 2: Misra-Gries.

    Example:
        >>> sketch = frequent_of({"a": 9, "b": 5, "c": 1}, counters=2)
        >>> sketch.error, [(d.device_id, d.count) for d in sketch.devices]
        (1, [('a', 8), ('b', 4)])
    """
    return _kept(counts, sum(counts.values()), 0, counters)


def merge_frequent(a: Frequent, b: Frequent) -> Frequent:
    """The sketch of both, with the fewer counters of the two; see `frequent_of`.

    Merging in another order gives other counters within the same bounds, and the same total.
    """
    counts = Counter({d.device_id: d.count for d in a.devices})
    counts.update({d.device_id: d.count for d in b.devices})
    return _kept(counts, a.total + b.total, a.error + b.error, min(a.counters, b.counters))


def read_frequent(sketch: Frequent) -> Frequent:
    """The sketch itself.

    Raises:
        ValueError: it is not what `frequent_of` and `merge_frequent` make.
    """
    counts = {device.device_id: device.count for device in sketch.devices}
    counted = sum(counts.values()) + sketch.error * (sketch.counters + 1)
    sound = len(counts) == len(sketch.devices) and counted <= sketch.total
    if not sound or _kept(counts, sketch.total, sketch.error, sketch.counters) != sketch:
        raise ValueError("a sketch of frequent devices is not in its one valid form")
    return sketch


def _kept(counts: Mapping[str, int], total: int, error: int, counters: int) -> Frequent:
    """At most `counters` of them, each less by the largest that has to go."""
    there = ((name, count) for name, count in counts.items() if count)
    ordered = sorted(there, key=lambda item: (-item[1], item[0]))
    less = ordered[counters][1] if len(ordered) > counters else 0
    devices = tuple(DeviceCount(name, n - less) for name, n in ordered if n > less)
    return Frequent(counters, total, error + less, devices)
