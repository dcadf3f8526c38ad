"""Whether the bus can keep the delivery mode that a pipeline asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.schemas.errors import BusRefusedError, SettingsError
from headrace.schemas.pipeline import Pipeline
from headrace.streams.transport.transactional_producer import try_transactions

REMEDY = 'set mode = "at-least-once" under [delivery]'


def check_mode(pipeline: Pipeline, *, embedded: bool) -> None:
    """See that the embedded bus is not asked for transactions, which it does not have.

    Raises:
        SettingsError: it is. Fatal.
    """
    if pipeline.delivery.mode == "exactly-once" and embedded:
        raise SettingsError(
            f"delivery.mode 'exactly-once' was asked of the embedded bus, which has no "
            f"transactions; run: headrace kafka --install, or {REMEDY}"
        )


async def check_transactions(pipeline: Pipeline, options: Mapping[str, Any]) -> None:
    """Open and close transactions of an id of the pipeline's own, where its mode needs them.

    Args:
        pipeline: The pipeline.
        options: Client options of the bus.

    Raises:
        SettingsError: the bus has no transactions. Fatal.
        BusRefusedError: we may not use them. Fatal.
        BusUnavailableError: no answer. Retryable.
    """
    if pipeline.delivery.mode != "exactly-once":
        return
    try:
        answered = await try_transactions(options, f"{pipeline.name}.check")
    except BusRefusedError as error:
        raise BusRefusedError(
            f"delivery.mode 'exactly-once' needs transactions, and {error}: allow this user "
            f"transactional ids that begin with {pipeline.name + '.'!r}, or {REMEDY}"
        ) from error
    if answered is not None:
        raise SettingsError(
            f"delivery.mode 'exactly-once' was asked of a bus that has no transactions "
            f"({answered}); use Apache Kafka, or {REMEDY}"
        )
