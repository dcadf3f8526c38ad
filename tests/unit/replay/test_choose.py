"""Rows of one prediction are found by its id, and what has no such rows says so."""

from __future__ import annotations

import numpy as np
import pytest
from fakes.replay_log import small_pipeline

from headrace.schemas.errors import SettingsError
from headrace.schemas.ids import prediction_ids
from headrace.schemas.topics import topics_of
from headrace.streams.replay.choose import check_columns, narrow, source_of
from headrace.streams.replay.forms import Facts
from headrace.streams.replay.ranges import Wanted

PIPELINE = small_pipeline()
TOPIC = topics_of(PIPELINE).enriched.name


def wanted(partition: int, offset: int) -> Wanted:
    [made] = prediction_ids(PIPELINE.name, TOPIC, partition, np.array([offset]))
    return Wanted(prediction=made.decode())


def test_an_id_is_one_offset_of_telemetry_and_one_partition_of_the_rest() -> None:
    """Telemetry is read at that offset only; of other topics that partition is searched."""
    asked = wanted(1, 77)
    telemetry = narrow(asked, "telemetry", PIPELINE)
    features = narrow(asked, "features", PIPELINE)

    assert telemetry.offsets == {1: (77, 78)}
    assert features.offsets == {1: (None, None)}
    assert source_of(features, PIPELINE) == 77
    assert narrow(Wanted(), "telemetry", PIPELINE) == Wanted()


def test_ids_that_cannot_be_are_refused() -> None:
    """An id of another pipeline, a role without predictions, and no pipeline at all."""
    [other] = prediction_ids("other", TOPIC, 0, np.array([5]))
    with pytest.raises(SettingsError, match="no prediction id of pipeline 'p'"):
        narrow(Wanted(prediction=other.decode()), "telemetry", PIPELINE)
    with pytest.raises(SettingsError, match="belong to no single prediction"):
        narrow(wanted(0, 5), "summaries", PIPELINE)
    with pytest.raises(SettingsError, match="by its pipeline"):
        narrow(wanted(0, 5), "telemetry", None)


def test_rows_without_a_time_or_device_are_not_chosen_by_one() -> None:
    """Plain records have neither; the broker's time they have."""
    facts = Facts(role="records")
    with pytest.raises(SettingsError, match="no event time and no device"):
        check_columns(Wanted(start_ms=1, devices=("d",)), facts)
    check_columns(Wanted(start_ms=1, by="broker"), facts)
