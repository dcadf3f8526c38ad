"""What was served, kept: the ONNX file by its digest, and the pipeline it was served by.

A prediction names its model by digest. Whoever asks long after what that model said of other
features, or whether it says the same again, finds it here, though the file beside the pipeline is
another one by now.

``<pipeline>/models/<digest>.onnx``                               the file
``<pipeline>/served/<pipeline digest>-<digest>-<created>.json``   a `Served`
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from headrace.schemas.pipeline import Pipeline
from headrace.schemas.protocols import SnapshotPlace

MOST_SERVED = 100
"""Pipelines that are remembered; a model goes with the last of them that served it."""


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline and the model it served.

    Attributes:
        pipeline: The pipeline file.
        digest: Its digest then; a later version of Headrace may give it another one.
        model_digest: First 8 hex digits of the digest of the ONNX file, as on predictions.
        registry: Text of the device registry; None where there is none.
        numerics: Numerics fingerprint of the worker that served; empty where that is not known.
        created_ms: When a worker began to serve it, milliseconds since 1970.
    """

    pipeline: Pipeline
    digest: str
    model_digest: str
    registry: str | None
    numerics: str = ""
    created_ms: int


class Repository:
    """One pipeline's models and files in one place. Calls block: not for the event loop.

    Args:
        place: Where they are, beside the pipeline's snapshots.
        pipeline: Pipeline name, which begins every name.
        now: Wall clock, seconds since 1970.
    """

    def __init__(self, place: SnapshotPlace, pipeline: str, now: Callable[[], float]) -> None:
        self._place = place
        self._pipeline = pipeline
        self._now = now

    def keep(
        self, pipeline: Pipeline, model: bytes, registry: str | None, *, numerics: str = ""
    ) -> Served:
        """Remember what is served from now on; the same again changes nothing but its time.

        Raises:
            StoreUnavailableError: retryable; StoreRefusedError: fatal.
        """
        digest = hashlib.blake2b(model, digest_size=16).hexdigest()[:8]
        if digest not in self._models():
            self._place.put(self._model(digest), [model])
        served = Served(
            pipeline=pipeline,
            digest=pipeline.digest,
            model_digest=digest,
            registry=registry,
            numerics=numerics,
            created_ms=round(self._now() * 1000),
        )
        head = f"{self._pipeline}/served/{pipeline.digest}-{digest}-"
        before = [found.name for found in self._place.objects(f"{self._pipeline}/served/")]
        self._place.put(f"{head}{served.created_ms:015d}.json", [msgspec.json.encode(served)])
        for name in before:
            if name.startswith(head) and self.read(name) == _at(served, name):
                self._place.delete(name)
        self._prune()
        return served

    def served(self) -> list[Served]:
        """Everything that was served, the newest first; one that cannot be read is passed over.

        Raises:
            StoreUnavailableError: retryable; StoreRefusedError: fatal.
        """
        found = [self.read(one.name) for one in self._place.objects(f"{self._pipeline}/served/")]
        known = [one for one in found if one is not None]
        return sorted(known, key=lambda one: one.created_ms, reverse=True)

    def read(self, name: str) -> Served | None:
        """One of them by the name of its object; None where it is gone or of another version."""
        try:
            return msgspec.json.decode(b"".join(self._place.get(name)), type=Served)
        except msgspec.DecodeError:
            return None

    def model(self, digest: str) -> bytes | None:
        """The ONNX file of this digest; None where it is gone, or not what its name says.

        Raises:
            StoreUnavailableError: retryable; StoreRefusedError: fatal.
        """
        content = b"".join(self._place.get(self._model(digest)))
        found = hashlib.blake2b(content, digest_size=16).hexdigest()[:8]
        return content if found == digest else None

    def _model(self, digest: str) -> str:
        return f"{self._pipeline}/models/{digest}.onnx"

    def _models(self) -> set[str]:
        found = self._place.objects(f"{self._pipeline}/models/")
        return {one.name.rpartition("/")[2].removesuffix(".onnx") for one in found}

    def _prune(self) -> None:
        """Forget the oldest pipelines beyond the bound, and models that none of the rest served."""
        names = [one.name for one in self._place.objects(f"{self._pipeline}/served/")]
        names.sort(key=lambda name: name.rpartition("-")[2], reverse=True)
        for name in names[MOST_SERVED:]:
            self._place.delete(name)
        if names[MOST_SERVED:]:
            kept = {name.rpartition("/")[2].split("-")[1] for name in names[:MOST_SERVED]}
            for digest in self._models() - kept:
                self._place.delete(self._model(digest))


def _at(served: Served, name: str) -> Served:
    """The same, as if it had been kept under that name."""
    created = name.rpartition("-")[2].removesuffix(".json")
    return msgspec.structs.replace(served, created_ms=int(created))
