"""The numerics fingerprint: under one fingerprint the same input gives the same bits."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib.metadata import version

_PACKAGES = ("numpy", "onnxruntime")


@cache
def numerics_fingerprint() -> str:
    """16 hex digits over package versions, machine type and the CPU's instruction sets.

    Results are bit-equal under one fingerprint; a checkpoint or a recorded prediction of another
    one is comparable only within tolerance.
    """
    facts = [platform.machine(), *(f"{name} {version(name)}" for name in _PACKAGES), *_features()]
    return hashlib.blake2b("\n".join(facts).encode(), digest_size=8).hexdigest()


def _features() -> list[str]:
    """Instruction sets NumPy found at run time; they choose its kernels."""
    import numpy as np

    found: dict[str, dict[str, list[str]]] = np.show_config(mode="dicts")  # type: ignore[assignment]
    return sorted(found.get("SIMD Extensions", {}).get("found", []))
