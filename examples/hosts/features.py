"""The model's inputs, computed by the same enrichers that compute them in the stream."""

from __future__ import annotations

import numpy as np
from dataset import Telemetry
from numpy.typing import NDArray

from headrace.enrichers.features import FeatureSet
from headrace.enrichers.rows import EntityRows
from headrace.schemas.batch import EventBatch
from headrace.schemas.pipeline import Pipeline

BATCH_ROWS = 50_000
START_MS = 1_795_255_200_000
"""Any moment will do: no feature of the pipeline knows the date."""


def featurize(pipeline: Pipeline, telemetry: Telemetry) -> NDArray[np.float32]:
    """The model's inputs for every row, float32 (N, F); every run starts without history."""
    spec = pipeline.input
    lateness_ms = round(spec.allowed_lateness_s * 1000)
    feature_set = FeatureSet(pipeline.columns(), spec.metric_names, lateness_ms)
    places = {column.name: place for place, column in enumerate(pipeline.columns())}
    inputs = [places[name] for name in pipeline.model_inputs]
    features = np.empty((len(telemetry), len(inputs)), np.float32)
    for run in np.unique(telemetry.run).tolist():
        state = EntityRows(feature_set.layout)
        rows = np.flatnonzero(telemetry.run == run)
        for start in range(0, len(rows), BATCH_ROWS):
            batch = rows[start : start + BATCH_ROWS]
            featured = feature_set.apply(state, events(telemetry, batch))
            state.put(featured.entities.names, featured.places, featured.rows)
            features[batch] = featured.values[:, inputs]
    missing = np.float32(pipeline.model.missing)
    return np.where(np.isnan(features), missing, features)


def events(telemetry: Telemetry, rows: NDArray[np.int64]) -> EventBatch:
    """Rows of telemetry as the decoded events they would be in the stream."""
    times_ms = START_MS + telemetry.time_ms[rows]
    return EventBatch(
        "recorded",
        0,
        offsets=rows,
        log_times_ms=times_ms,
        event_times_ms=times_ms,
        ids=[str(row) for row in rows.tolist()],
        entities=[str(device) for device in telemetry.device[rows].tolist()],
        metrics=telemetry.metrics[rows],
    )
