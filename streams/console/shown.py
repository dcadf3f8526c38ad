"""What the console needs of one running pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.schemas.pipeline import Pipeline
from headrace.schemas.settings import StoreSettings
from headrace.streams.observe.readings import Readings
from headrace.streams.observe.site_watch import SiteWatch


@dataclass(frozen=True, slots=True)
class Shown:
    """One pipeline that runs here.

    Attributes:
        pipeline: What its file says.
        watched: Its read model.
        readings: What its workers told.
        bus: Client options of the bus.
        store: Where the online rows are.
    """

    pipeline: Pipeline
    watched: SiteWatch
    readings: Readings
    bus: Mapping[str, Any]
    store: StoreSettings
