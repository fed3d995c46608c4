"""What clouds charge: dated price sheets (`prices/*.toml`), and the price of a slot by them."""

from __future__ import annotations

import math
import tomllib
from importlib.resources import files
from typing import Any

from prefect_intelligent.domain import Prices
from prefect_intelligent.errors import InvalidInputError, UnknownNameError


def sheet_names() -> tuple[str, ...]:
    """Every offer as "sheet/offer", e.g. "aws-us-east-1/fargate"."""
    return tuple(f"{sheet}/{offer}" for sheet, table in sorted(_sheets().items()) for offer in _offers(table))


def slot_prices(name: str, vcpu: float = 1.0, gb: float = 2.0, lateness_weight: float = 1.0) -> Prices:
    """Prices of a slot of a given size.

    Args:
        name: "sheet/offer", see `sheet_names`.
        vcpu: Processors that one run is given.
        gb: Gibibytes of memory that one run is given.
        lateness_weight: Weight of lateness against capacity.

    Raises:
        UnknownNameError: There is no such sheet or offer.
        InvalidInputError: The size is not above zero.
    """
    if not (vcpu > 0 and gb > 0 and math.isfinite(vcpu + gb)):
        raise InvalidInputError("slot size", (vcpu, gb), "processors and gibibytes must be above 0")
    if name not in sheet_names():
        raise UnknownNameError("price", name, sheet_names())
    sheet, offer = name.split("/", 1)
    terms = _sheets()[sheet][offer]
    if "node_usd_per_hour" in terms:  # the share of a node that the run fills in its scarcer dimension
        usd = terms["node_usd_per_hour"] * max(vcpu / terms["node_vcpu"], gb / terms["node_gb"])
    else:
        usd = vcpu * terms["vcpu_usd_per_hour"] + gb * terms["gb_usd_per_hour"]
    return Prices(
        slot_usd_per_hour=usd,
        min_billing_s=terms["min_billing_s"],
        idle_fraction=terms["idle_fraction"],
        lateness_weight=lateness_weight,
    )


def sheet_origin(name: str) -> tuple[str, str]:
    """Source of the prices of an offer ("sheet/offer"), and the day on which it was read.

    Raises:
        UnknownNameError: There is no such sheet or offer.
    """
    if name not in sheet_names():
        raise UnknownNameError("price", name, sheet_names())
    sheet, offer = name.split("/", 1)
    terms = _sheets()[sheet][offer]
    return str(terms["source"]), str(terms["date"])


def _sheets() -> dict[str, dict[str, Any]]:
    """The price sheets by name."""
    folder = files(__package__).joinpath("prices")
    return {
        entry.name.removesuffix(".toml"): tomllib.loads(entry.read_text("utf-8"))
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    }


def _offers(table: dict[str, Any]) -> list[str]:
    """The names of the offers of a sheet; its other entries hold for all of them."""
    return sorted(name for name, value in table.items() if isinstance(value, dict))
