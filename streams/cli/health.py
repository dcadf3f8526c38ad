"""The doctor's checks, in the order in which they build on one another."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

from headrace.feature_store.open import open_store
from headrace.schemas.errors import HeadraceError
from headrace.schemas.pipeline import Pipeline, load_pipeline
from headrace.schemas.settings import BusSettings, Settings, SnapshotSettings, StoreSettings
from headrace.schemas.topics import PipelineTopics, TopicSpec, topics_of
from headrace.streams.bus.admin import describe_topics
from headrace.streams.bus.connection import check_bus
from headrace.streams.bus.options import client_options
from headrace.streams.bus.topics import TopicFound
from headrace.streams.cli.context import load, pipeline_file
from headrace.streams.cli.findings import (
    Finding,
    failed,
    packages,
    python_version,
    setting_values,
)
from headrace.streams.cli.snapshots import snapshot_finding
from headrace.streams.local.local_kafka import LocalKafka
from headrace.streams.sites.modes import check_mode, check_transactions

LEAST_OUTAGE_H = 1.0
"""An outage that has to be survived: somebody has to notice, come and mend it."""

ANSWER_S = 20.0
"""Longest wait for one service."""


async def examine(name: str) -> list[Finding]:
    """Every finding about this machine, its settings, services and one pipeline."""
    findings = [python_version(), *packages()]
    try:
        settings = load()
    except HeadraceError as error:
        return [*findings, failed("settings", error)]
    findings += setting_values(settings, _settings_file())
    pipeline, found = _pipeline(name, settings.snapshots)
    findings += found
    if pipeline is not None:
        findings.append(
            await asyncio.to_thread(snapshot_finding, settings.snapshots, pipeline.name)
        )
    findings += [finding async for finding in _services(settings, pipeline)]
    return findings


def _settings_file() -> Path | None:
    file = Path(os.environ.get("HEADRACE_SETTINGS") or "headrace.toml")
    return file if file.exists() else None


def _pipeline(name: str, snapshots: SnapshotSettings) -> tuple[Pipeline | None, list[Finding]]:
    """The pipeline and its model."""
    try:
        file = pipeline_file(name)
        pipeline = load_pipeline(file)
    except HeadraceError as error:
        return None, [failed("pipeline", error)]
    columns = len(pipeline.columns())
    found = [Finding("ok", "pipeline", f"{pipeline.name} ({pipeline.digest}), {columns} features")]
    found += retention_findings(topics_of(pipeline), snapshots)
    return pipeline, [*found, _model(pipeline, file.parent)]


def _model(pipeline: Pipeline, folder: Path) -> Finding:
    # Loads onnxruntime, which the checks before it can do without.
    from headrace.serving.checks import check_model
    from headrace.serving.model import read_model

    try:
        model = read_model(pipeline, folder)
        check_model(model, pipeline, folder)
    except HeadraceError as error:
        return failed("model", error)
    identity = model.identity
    return Finding(
        "ok",
        "model",
        f"{identity.name} version {identity.version} ({identity.digest}), signature, golden "
        f"pairs and batch invariance hold",
    )


def retention_findings(topics: PipelineTopics, snapshots: SnapshotSettings) -> Iterator[Finding]:
    """How long an outage may last, and what else retention must hold.

    Telemetry must reach back over the longest outage and, where snapshots are kept, to the newest
    one before it: state is rebuilt from there.

    Args:
        topics: The pipeline's topics, with the retention that its file says.
        snapshots: How often a copy of the checkpoints is kept, if at all.
    """
    kept_h = topics.telemetry.retention_ms / 3_600_000
    outage_h = kept_h - (snapshots.every_s / 3600 if snapshots.url is not None else 0.0)
    if outage_h < LEAST_OUTAGE_H:
        yield Finding(
            "warn",
            "retention",
            f"telemetry is kept {kept_h:g} h, which leaves {max(outage_h, 0.0):g} h for an outage, "
            f"expected {LEAST_OUTAGE_H:g} h or more; raise topics.raw_hours",
        )
    else:
        line = f"an outage of up to {outage_h:.3g} h loses nothing: telemetry is kept {kept_h:g} h"
        yield Finding("ok", "retention", line)


async def _delivery(
    pipeline: Pipeline, *, embedded: bool = False, options: Mapping[str, Any] | None = None
) -> Finding:
    """Whether the bus can keep the delivery mode; one that runs is asked for transactions."""
    try:
        check_mode(pipeline, embedded=embedded)
        if options is not None:
            await check_transactions(pipeline, options)
    except HeadraceError as error:
        return failed("delivery", error)
    return Finding("ok", "delivery", f"the bus can keep {pipeline.delivery.mode!r}")


async def _services(settings: Settings, pipeline: Pipeline | None) -> AsyncIterator[Finding]:
    async for finding in bus_findings(settings.bus, pipeline):
        yield finding
    async for finding in _store(settings.store, pipeline):
        yield finding


async def bus_findings(bus: BusSettings, pipeline: Pipeline | None) -> AsyncIterator[Finding]:
    """The bus, whether it can keep the delivery mode, and each topic of the pipeline."""
    if bus.url == "local":
        durable = bus.kind == "kafka" or (bus.kind == "auto" and LocalKafka.installed())
        which = "a local Kafka" if durable else "the embedded bus, in memory"
        if bus.kind == "kafka" and not LocalKafka.installed():
            yield Finding("fail", "bus", "local Kafka is not installed; headrace kafka --install")
        else:
            yield Finding("ok", "bus", f"local: up and demo start {which}")
        if pipeline is not None:
            yield await _delivery(pipeline, embedded=not durable)
        return
    try:
        async with asyncio.timeout(ANSWER_S):
            options = client_options(bus)
            check = await check_bus(options)
            yield Finding("ok" if check.state == "answers" else "fail", "bus", check.line)
            if check.state == "answers" and pipeline is not None:
                yield await _delivery(pipeline, options=options)
                names = [spec.name for spec in topics_of(pipeline).all()]
                found = await describe_topics(options, names)
                for finding in topic_findings(topics_of(pipeline), found, pipeline.name):
                    yield finding
    except HeadraceError as error:
        yield failed("bus", error)
    except TimeoutError:
        yield Finding("fail", "bus", f"no answer within {ANSWER_S:g} s; check HEADRACE_BUS")


def topic_findings(
    topics: PipelineTopics, found: Mapping[str, TopicFound], pipeline: str
) -> Iterator[Finding]:
    """Each topic of a pipeline against what is on the bus."""
    for spec in topics.all():
        there = found.get(spec.name)
        if there is None:
            remedy = f"headrace topics apply {pipeline}" if spec.ours else "create it on the bus"
            yield Finding("warn", f"topic {spec.name}", f"is not there; {remedy}")
        elif there.partitions != spec.partitions:
            yield Finding(
                "fail",
                f"topic {spec.name}",
                f"has {there.partitions} partitions, expected {spec.partitions}; "
                f"set topics.partitions = {there.partitions} or use another pipeline name",
            )
        else:
            yield _topic(spec, there)
    telemetry, features = (
        _kept_ms(found.get(spec.name)) for spec in (topics.telemetry, topics.features)
    )
    if 0 <= features < telemetry:
        yield Finding(
            "warn",
            f"topic {topics.features.name}",
            f"keeps records {features} ms and telemetry {telemetry}, expected as long: SERVE loses "
            f"what ENRICH still has; raise its retention.ms",
        )


def _kept_ms(there: TopicFound | None) -> int:
    """Retention as the bus tells it, milliseconds; -1 for ever or not told."""
    return int(there.configs.get("retention.ms", -1)) if there is not None else -1


def _topic(spec: TopicSpec, there: TopicFound) -> Finding:
    """Settings of a topic that is there; a bus that does not tell them passes."""
    subject = f"topic {spec.name}"
    stamp = there.configs.get("message.timestamp.type", "LogAppendTime")
    if stamp != "LogAppendTime":
        return Finding(
            "warn",
            subject,
            f"has message.timestamp.type {stamp}: back-filled events may be deleted at once; "
            f"set it to LogAppendTime",
        )
    kept_ms = int(there.configs.get("retention.ms", spec.retention_ms))
    if 0 <= kept_ms < spec.retention_ms:
        return Finding(
            "warn",
            subject,
            f"keeps records {kept_ms} ms, the pipeline file says {spec.retention_ms}; "
            f"raise retention.ms",
        )
    return Finding("ok", subject, f"{there.partitions} partitions")


async def _store(settings: StoreSettings, pipeline: Pipeline | None) -> AsyncIterator[Finding]:
    if settings.url == "local":
        yield Finding("ok", "store", "local: up and demo start the embedded store")
        return
    try:
        async with asyncio.timeout(ANSWER_S):
            store = await open_store(settings, pipeline.name if pipeline else "doctor")
            try:
                info = await store.server_info()
            finally:
                await store.close()
    except HeadraceError as error:
        yield failed("store", error)
    except TimeoutError:
        yield Finding("fail", "store", f"no answer within {ANSWER_S:g} s; check HEADRACE_STORE")
    else:
        yield Finding("ok", "store", info.text)
        for warning in info.warnings:
            yield Finding("warn", "store", warning)
