"""One device: what was predicted of it, its features, and which of them stand out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from headrace.feature_store.open import open_store
from headrace.feature_store.store import Store
from headrace.schemas.prediction import Prediction
from headrace.streams.client.clock import wall_clock
from headrace.streams.console.devices import DeviceBoard
from headrace.streams.console.shown import Shown
from headrace.streams.console.why import standing_out
from headrace.streams.online_rows import read_view

PEERS = 200
"""Other devices that one is held beside, those seen last."""


class Drill:
    """Reads features of one device, and of others beside it, from the online store.

    Args:
        shown: The pipeline.
        board: Its devices.
    """

    def __init__(self, shown: Shown, board: DeviceBoard) -> None:
        self._shown, self._board = shown, board
        self._store: Store | None = None

    async def of(self, name: str) -> dict[str, Any] | None:
        """One device, ready to become JSON; None where no prediction of it was seen.

        Raises:
            StoreUnavailableError: retryable. StoreRefusedError, SettingsError: fatal.
        """
        device = self._board.of(name)
        if device is None:
            return None
        if self._store is None:
            self._store = await open_store(self._shown.store, self._shown.pipeline.name)
        features, peers = [], [n for n in self._board.names(PEERS + 1) if n != name][-PEERS:]
        for view in self._shown.pipeline.views:
            features += await self._view(self._store, view, name, peers)
        features.sort(key=lambda row: -abs(row["apart"]) if row["apart"] is not None else 1.0)
        return {
            "name": name,
            "scores": list(device.scores),
            "highest": device.highest,
            "flagged": device.flagged,
            "threshold": self._shown.pipeline.model.outputs.threshold,
            "predictions": [_told(one) for one in reversed(device.newest)],
            "features": features,
            "peers": len(peers),
        }

    async def _view(
        self, store: Store, view: str, name: str, peers: list[str]
    ) -> list[dict[str, Any]]:
        now_ms, inputs = round(wall_clock() * 1000), set(self._shown.pipeline.model_inputs)
        names, answer = await read_view(
            store, self._shown.pipeline, view, [name, *peers], now_ms=now_ms
        )
        if not answer.found[0]:
            return []
        values = answer.values.astype(np.float64)
        usual, apart = standing_out(values[0], values[1:][answer.found[1:]])
        return [
            {
                "view": view,
                "feature": column,
                "input": column in inputs,
                "value": _number(values[0, k]),
                "usual": _number(usual[k]),
                "apart": _number(apart[k]),
                "age_ms": now_ms - int(answer.event_times_ms[0]),
            }
            for k, column in enumerate(names)
        ]

    async def close(self) -> None:
        """Close the store, if it was opened."""
        if self._store is not None:
            await self._store.close()
            self._store = None


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _told(prediction: Prediction) -> dict[str, Any]:
    """What is shown of one prediction."""
    return {
        "id": prediction.id,
        "time": prediction.event_time,
        "score": prediction.score,
        "label": prediction.label,
        "confidence": prediction.confidence,
        "tier": prediction.tier,
        "flags": list(prediction.flags),
        "model": f"{prediction.model.name} v{prediction.model.version}",
        "source": prediction.source,
        "values": prediction.values,
    }
