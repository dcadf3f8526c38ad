"""What a past stretch was made by: pipeline files, registries and models, by their digests."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from headrace.schemas.errors import ModelError
from headrace.schemas.numerics import numerics_fingerprint
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.topics import PipelineTopics
from headrace.serving.model import Model
from headrace.serving.repository import Repository, Served
from headrace.serving.scorer import OnnxScorer
from headrace.streams.agents.enrich import EnrichAgent, agent_of
from headrace.streams.agents.registry_file import registry_text


@dataclass(slots=True)
class Definition:
    """What features are made by.

    Attributes:
        key: The same for whatever gives the same features.
        agent: The enrich stage by it.
    """

    key: str
    agent: EnrichAgent


@dataclass(slots=True)
class Candidate:
    """A pipeline that served a model, and the model.

    Attributes:
        pipeline: The pipeline file.
        scorer: Without cache: every row goes through the model.
        digest: Digest of the file when it served.
    """

    pipeline: Pipeline
    scorer: OnnxScorer
    digest: str

    @property
    def tolerance(self) -> float:
        """Largest difference of a score between batches that it was allowed."""
        return self.pipeline.model.batch_tolerance


@dataclass(slots=True)
class Definitions:
    """The given pipeline file, and those that are kept of what was served before.

    Attributes:
        pipeline: The given file.
        topics: Its topics: those that are replayed, whatever an older file called them.
        folder: Where its model and registry are.
        repository: What is kept; None where nothing is.
        models: Further ONNX files to look among.
    """

    pipeline: Pipeline
    topics: PipelineTopics
    folder: Path
    repository: Repository | None = None
    models: Sequence[Path] = ()
    _served: list[Served] | None = None
    _numerics: dict[str, set[str]] = field(default_factory=dict)
    _contents: dict[str, bytes] = field(default_factory=dict)
    _by_digest: dict[str, Definition] = field(default_factory=dict)
    _by_key: dict[str, Definition] = field(default_factory=dict)
    _candidates: dict[str, list[Candidate]] = field(default_factory=dict)

    async def served(self) -> list[Served]:
        """The given pipeline first, then those kept, the newest first; each once.

        Raises:
            StoreUnavailableError: retryable; StoreRefusedError, PipelineFileError: fatal.
        """
        if self._served is None:
            own = await asyncio.to_thread(self._given)
            kept = (
                [] if self.repository is None else await asyncio.to_thread(self.repository.served)
            )
            self._served = [own, *(one for one in kept if not _same(one, own))]
            for one in kept:
                self._numerics.setdefault(one.model_digest, set()).add(one.numerics)
        return self._served

    async def definition(self, pipeline_digest: str) -> tuple[Definition, bool]:
        """What the features of a block were made by, and whether that is known.

        Where no file of that digest is kept, it is the given one.
        """
        known = pipeline_digest in {one.digest for one in await self.served()}
        found = self._by_digest.get(pipeline_digest)
        if found is None:
            found = self._by_digest[pipeline_digest] = await self._defined(pipeline_digest)
        return found, known

    async def candidates(self, model_digest: str, pipeline_digest: str) -> list[Candidate]:
        """Every pipeline known to have served that model, the likeliest first; empty for none.

        Raises:
            ModelError: the file does not fit its pipeline. Fatal.
        """
        if model_digest not in self._candidates:
            self._candidates[model_digest] = await self._loaded(model_digest)
        found = self._candidates[model_digest]
        return sorted(found, key=lambda one: one.digest != pipeline_digest)

    async def numerics(self, model_digest: str) -> set[str]:
        """Numerics fingerprints that a model was served under, as far as that is kept."""
        await self.served()
        return self._numerics.get(model_digest, set()) - {""}

    async def close(self) -> None:
        """End every model's thread."""
        for found in self._candidates.values():
            for one in found:
                await one.scorer.close()

    async def _defined(self, digest: str) -> Definition:
        every = await self.served()
        one = next((one for one in every if one.digest == digest), every[0])
        key = features_key(one.pipeline, one.registry)
        if key not in self._by_key:
            agent = agent_of(one.pipeline, self.topics, one.registry, numerics_fingerprint())
            self._by_key[key] = Definition(key, agent)
        return self._by_key[key]

    async def _loaded(self, digest: str) -> list[Candidate]:
        served = [one for one in await self.served() if one.model_digest == digest]
        content = self._contents.get(digest)
        if content is None and self.repository is not None:
            content = await asyncio.to_thread(self.repository.model, digest)
        if content is None:
            return []
        pipelines = {one.digest: one.pipeline for one in served} or {"": self.pipeline}
        return [candidate(content, one, digest) for digest, one in pipelines.items()]

    def _given(self) -> Served:
        for file in (self.folder / self.pipeline.model.file, *self.models):
            content = read_onnx(file)
            self._contents.setdefault(_digest(content), content)
        return Served(
            pipeline=self.pipeline,
            digest=self.pipeline.digest,
            model_digest=next(iter(self._contents)),
            registry=registry_text(self.pipeline, self.folder),
            created_ms=0,
        )


def candidate(content: bytes, pipeline: Pipeline, digest: str = "") -> Candidate:
    """A pipeline and a model, ready to score.

    Raises:
        ModelError: they do not fit. Fatal.
    """
    serving = msgspec.structs.replace(pipeline.serving, cache="off", max_queue_delay_ms=0.0)
    uncached = msgspec.structs.replace(pipeline, serving=serving)
    return Candidate(pipeline, OnnxScorer(Model(content, uncached), uncached), digest)


def read_onnx(file: Path) -> bytes:
    """The bytes of a model file.

    Raises:
        ModelError: it cannot be read. Fatal.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise ModelError(
            f"reading model file {str(file)!r} failed: {error.strerror}; name an ONNX file"
        ) from error


def features_key(pipeline: Pipeline, registry: str | None) -> str:
    """The same for pipelines that make the same features of the same records."""
    facts = msgspec.json.encode(
        (pipeline.input, pipeline.devices, pipeline.views, pipeline.summary.metrics, registry),
        order="sorted",
    )
    return hashlib.blake2b(facts, digest_size=8).hexdigest()


def _same(one: Served, other: Served) -> bool:
    ours = one.digest, one.model_digest, one.registry
    return ours == (other.digest, other.model_digest, other.registry)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()[:8]
