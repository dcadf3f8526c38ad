"""From a role's or a topic's name to its table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headrace.enrichers.registry import NO_REGISTRY, Registry, parse_registry
from headrace.schemas.errors import SettingsError
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.strict import nearest
from headrace.schemas.topics import PipelineTopics, topics_of
from headrace.streams.agents.registry_file import registry_text
from headrace.streams.replay.form_derived import features_form, predictions_form, summaries_form
from headrace.streams.replay.form_events import events_form
from headrace.streams.replay.form_records import deadletter_form, records_form
from headrace.streams.replay.forms import Form

_EVENTS = ("telemetry", "keyed", "late")


@dataclass(frozen=True, slots=True)
class Role:
    """What a topic is to a pipeline.

    Attributes:
        name: ``telemetry``, ``predictions`` and so on; ``records`` where it is none of them.
        topic: Its name on the bus.
    """

    name: str
    topic: str


def role_of(name: str, topics: PipelineTopics | None) -> Role:
    """The role or topic that a name means.

    Args:
        name: A role (``predictions``), or the name of any topic.
        topics: Of the pipeline; None where there is none, and `name` is then a topic's.

    Raises:
        SettingsError: a name that is close to a role's but none. Fatal.
    """
    specs = {spec.stage: spec.name for spec in topics.all()} if topics else {}
    for stage, topic in specs.items():
        if name in (stage, topic):
            return Role(stage, topic)
    hint = nearest(name, specs)
    if specs and "." not in name and "did you mean" in hint:
        raise SettingsError(f"{name!r} is neither a role nor a topic's full name{hint}")
    return Role("records", name)


def form_of(role: Role, pipeline: Pipeline | None, folder: Path, *, raw: bool = False) -> Form:
    """The table of a role.

    Args:
        role: Which.
        pipeline: Whose; None for plain records.
        folder: Where the pipeline's registry is.
        raw: Add key, value and headers as they were read.

    Raises:
        SettingsError: raw features, each block once for every event of it. Fatal.
        PipelineFileError: the pipeline's registry is missing or wrong. Fatal.
        MissingExtraError: pyarrow is not installed. Fatal.
    """
    form = _form(role, pipeline, folder)
    if raw and form.role == "features":
        raise SettingsError(
            f"a record of {role.topic} is a block of many rows, expected one record a row to read "
            f"it raw or write it again; name the topic {role.topic} itself with -p ''"
        )
    form.raw = form.raw or raw
    return form


def _form(role: Role, pipeline: Pipeline | None, folder: Path) -> Form:
    if pipeline is None:
        return records_form()
    if role.name in _EVENTS:
        return events_form(role.name, pipeline, _registry(pipeline, folder))
    if role.name == "predictions":
        return predictions_form()
    if role.name == "features":
        names = tuple(column.name for column in pipeline.columns())
        return features_form(names, pipeline.attribute_names)
    if role.name == "summaries":
        return summaries_form()
    return deadletter_form() if role.name == "deadletter" else records_form()


def _registry(pipeline: Pipeline, folder: Path) -> Registry:
    text = registry_text(pipeline, folder)
    if text is None or pipeline.devices is None:
        return NO_REGISTRY
    return parse_registry(text, pipeline.devices)


def topics_or_none(pipeline: Pipeline | None) -> PipelineTopics | None:
    """Topics of a pipeline, where there is one."""
    return None if pipeline is None else topics_of(pipeline)
