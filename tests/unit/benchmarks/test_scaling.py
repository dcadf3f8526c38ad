"""The scaling part varies one thing at a time, and would see a score that is wrong."""

import json
import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def plain_score(job, shape, values, mean):
    """The model's answer to one event, number by number."""
    weights = job.weights_of(shape)
    inputs = [float(np.float32(v)) for v in (*values, *mean)]
    logit = float(weights["b2"][0])
    for k in range(len(weights["b1"])):
        total = float(weights["b1"][k])
        for n, value in enumerate(inputs):
            total += value * float(weights["w1"][n, k])
        logit += max(total, 0.0) * float(weights["w2"][k, 0])
    return 1 / (1 + math.exp(-logit))


def plain_scores(job, shape, count):
    """Every event's score, one event after the other."""
    means, scores = {}, []
    for device, event in job.events(count, shape=shape):
        metrics = json.loads(event)["metrics"]
        values = [metrics[name] for name in shape.names]
        before = means.get(device, values)
        means[device] = [m + job.ALPHA * (v - m) for v, m in zip(values, before, strict=True)]
        scores.append(plain_score(job, shape, values, means[device]))
    return np.array(scores)


def watched(reference, shape, count):
    sample = reference("scaling_check").Sample(shape)
    list(sample.watch(reference("job").events(count, shape=shape)))
    return sample


@given(
    devices=st.integers(1, 130),
    metrics=st.integers(1, 6),
    model_cost=st.sampled_from([1, 2]),
    count=st.integers(1, 150),
)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_sample_is_scored_as_one_event_after_the_other(
    reference, devices, metrics, model_cost, count
):
    """For any shape the vectorised expectation is what a loop over all events says."""
    job = reference("job")
    shape = job.Shape(devices=devices, metrics=metrics, model_cost=model_cost)
    numbers, expected = watched(reference, shape, count).expected()

    every = plain_scores(job, shape, count)
    assert len(numbers)
    assert np.abs(every[numbers] - expected).max() < 1e-9


def test_a_wrong_score_ends_the_run(reference):
    """One sampled event with another score, or any event without one, is no result."""
    job = reference("job")
    shape = job.Shape(metrics=2)
    sample = watched(reference, shape, 3000)
    numbers, expected = sample.expected()
    scores = np.full(3000, 0.5)
    scores[numbers] = expected
    assert sample.check(scores) == 0
    wrong = scores.copy()
    wrong[numbers[-1]] += 1e-3
    with pytest.raises(SystemExit, match="differs from plain numpy"):
        sample.check(wrong)
    scores[int(numbers[0]) + 1] = np.nan
    with pytest.raises(SystemExit, match="no prediction of 1 of 3000"):
        sample.check(scores)


@pytest.mark.parametrize("partitions", [1, 4, 64])
def test_the_sample_reaches_every_partition(reference, partitions):
    """A partition that is scored wrongly cannot hide."""
    job = reference("job")
    shape = job.Shape(partitions=partitions, devices=10_000)
    numbers, _ = watched(reference, shape, 10_000).expected()
    of = reference("telemetry_log").partition_of
    devices = [device for device, _ in job.events(10_000, shape=shape)]

    assert len({of(devices[n], partitions) for n in numbers}) >= min(partitions, 50)


def test_every_point_is_the_reference_but_for_one_value(reference):
    """Each dimension is a field of the shape and goes through the reference point."""
    job, scaling = reference("job"), reference("scaling")
    assert set(scaling.POINTS) == {field.name for field in fields(job.Shape)}
    for dimension, points in scaling.POINTS.items():
        assert list(points) == sorted(points)
        assert job.REFERENCE in [scaling.shape_at(dimension, value) for value in points]
        for value in points:
            changed = scaling.shape_at(dimension, value)
            back = {dimension: getattr(job.REFERENCE, dimension)}
            assert replace(changed, **back) == job.REFERENCE


def test_a_shape_makes_the_events_and_the_model_it_says(reference):
    """Devices, metrics, bytes and multiplications are those of the point, scores still differ."""
    job, scaling = reference("job"), reference("scaling")
    for value in scaling.POINTS["event_bytes"]:
        [(_, event)] = job.events(1, shape=scaling.shape_at("event_bytes", value))
        assert value <= len(event) <= value + 20
    for value in scaling.POINTS["metrics"]:
        shape = scaling.shape_at("metrics", value)
        [(_, event)] = job.events(1, shape=shape)
        assert len(set(json.loads(event)["metrics"])) == value
    shape = job.Shape(devices=300)
    assert len({device for device, _ in job.events(1000, shape=shape)}) == 300
    models = [
        job.weights_of(scaling.shape_at("model_cost", value))
        for value in scaling.POINTS["model_cost"]
    ]
    cost = [model["w1"].size + model["w2"].size for model in models]
    assert cost == [cost[0], 10 * cost[0], 100 * cost[0]]
    for dimension in ("metrics", "model_cost"):
        for value in scaling.POINTS[dimension]:
            _, scores = watched(reference, scaling.shape_at(dimension, value), 2000).expected()
            assert scores.std() > 100 * reference("scaling_check").WORST_SCORE, (dimension, value)


def test_the_pipeline_of_every_point_can_be_read(reference, tmp_path):
    """Headrace accepts the file of each shape, under the names that the runs have."""
    from headrace.schemas.pipeline import load_pipeline

    job, scaling = reference("job"), reference("scaling")
    for dimension, points in scaling.POINTS.items():
        for value in points:
            shape = scaling.shape_at(dimension, value)
            job.write_model(tmp_path / "model.onnx", shape)
            name = scaling.run_of(dimension, value)
            text = job.pipeline_of(shape).format(name=name, lateness_s=5.0)
            (tmp_path / "pipeline.toml").write_text(text, "utf-8")
            assert len(load_pipeline(tmp_path / "pipeline.toml").input.metrics) == shape.metrics
