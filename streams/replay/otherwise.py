"""From what is to be changed to what is tried."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from headrace.schemas.numerics import numerics_fingerprint
from headrace.schemas.pipeline import load_pipeline
from headrace.streams.agents.enrich import agent_of
from headrace.streams.agents.registry_file import registry_text
from headrace.streams.replay.definitions import Definition, candidate, features_key, read_onnx
from headrace.streams.replay.past import Past
from headrace.streams.replay.whatif import Other


class Change(NamedTuple):
    """What is to be changed; None leaves it as it is.

    Attributes:
        model: ONNX file.
        pipeline: Pipeline file; it reads the topics of the one that is replayed.
        threshold: Threshold.
    """

    model: Path | None = None
    pipeline: Path | None = None
    threshold: float | None = None


async def otherwise(past: Past, change: Change) -> tuple[Other, bool]:
    """What is tried, and whether its features are others; the caller closes its scorer.

    Raises:
        PipelineFileError, ModelError: a file is missing, wrong, or does not fit. Fatal.
    """
    definitions = past.definitions
    pipeline, folder = definitions.pipeline, definitions.folder
    if change.pipeline is not None:
        pipeline, folder = load_pipeline(change.pipeline), change.pipeline.parent
    content = read_onnx(change.model or folder / pipeline.model.file)
    if change.threshold is not None:
        outputs = msgspec.structs.replace(pipeline.model.outputs, threshold=change.threshold)
        model = msgspec.structs.replace(pipeline.model, outputs=outputs)
        pipeline = msgspec.structs.replace(pipeline, model=model)
    registry = registry_text(pipeline, folder)
    key = features_key(pipeline, registry)
    now, _ = await definitions.definition(definitions.pipeline.digest)
    if key == now.key:
        definition = now
    else:
        agent = agent_of(pipeline, definitions.topics, registry, numerics_fingerprint())
        definition = Definition(key, agent)
    own = (await definitions.served())[0].model_digest
    beside = await definitions.candidates(own, definitions.pipeline.digest)
    fits = beside and set(beside[0].pipeline.model_inputs) <= set(definition.agent.columns)
    return (
        Other(definition, candidate(content, pipeline), beside[0] if fits else None),
        key != now.key,
    )
