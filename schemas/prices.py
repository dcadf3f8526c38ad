"""What things cost, as whoever runs a site states it: a file of its own."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from headrace.schemas.errors import SettingsError
from headrace.schemas.strict import convert

Price = Annotated[float, Meta(ge=0)]


class Prices(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Prices, and what a core draws where the machine cannot tell.

    Attributes:
        currency: Of all prices.
        cpu_hour: An hour of one core here: machine, room and power.
        egress_gb: A GB (10^9 bytes) that leaves the site.
        cloud_1000: 1000 inferences at a cloud service, without what sending their input costs.
        watts_per_core: What a busy core draws, for an estimate where the machine has no meter
            (RAPL) that can be read; None: no energy is told there.
    """

    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")] = "EUR"
    cpu_hour: Price
    egress_gb: Price
    cloud_1000: Price
    watts_per_core: Annotated[float, Meta(gt=0)] | None = None


def load_prices(file: Path) -> Prices:
    """Read and check a file of prices.

    Raises:
        SettingsError: it cannot be read, lacks a price or has an unknown key. Fatal.
    """
    try:
        return convert(tomllib.loads(file.read_text("utf-8")), Prices)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(
            f"reading prices from {str(file)!r} failed: {error}; name a readable TOML file"
        ) from error
    except ValueError as error:
        raise SettingsError(f"prices in {str(file)!r} are not valid: {error}") from error
