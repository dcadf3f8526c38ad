"""What the online store holds of entities, with the names of the features."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.feature_store.store import Store
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.protocols import OnlineAnswer
from headrace.schemas.views import expand, stored_view


async def read_view(
    store: Store, pipeline: Pipeline, view: str, entities: Sequence[str], *, now_ms: int
) -> tuple[list[str], OnlineAnswer]:
    """Names of the columns of a view, and each entity's row of it.

    Args:
        store: An open store.
        pipeline: Whose view.
        view: Its name.
        entities: Whose rows.
        now_ms: Wall clock, milliseconds since 1970.

    Raises:
        StoreUnavailableError: retryable. StoreRefusedError, FatalError: fatal.

    Delivery: a read.
    """
    spec = pipeline.views[view]
    names = [c.name for c in expand({view: spec}, pipeline.input.metric_names)]
    answer = await store.read_rows(
        stored_view(view, spec.version),
        list(entities),
        width=len(names),
        ttl_s=spec.ttl_s,
        now_ms=now_ms,
    )
    return names, answer
