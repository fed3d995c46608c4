"""The regime of a command line: `--interval` and `--bounds`; a controller's default where neither is given."""

from __future__ import annotations

import argparse
import math

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.policy.regime import Regime


def add_regime(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    interval_s = Regime().interval_s
    parser.add_argument(
        "--interval", type=float, default=interval_s, help=f"seconds between decisions (default: {interval_s:g})"
    )
    parser.add_argument(
        "--bounds",
        default="1",
        help="largest pool limit over the given one, or 'none' (default: 1, as a controller without most_slots)",
    )


def read_regime(args: argparse.Namespace) -> Regime:
    """The regime that the options name.

    Raises:
        InvalidInputError: An option cannot be used.
    """
    return Regime(interval_s=args.interval, pool_factor=parse_bound(args.bounds))


def parse_bound(text: str) -> float:
    """A factor of 1 or more; "none" is no bound.

    Raises:
        InvalidInputError: It is neither.
    """
    try:
        return math.inf if text == "none" else float(text)
    except ValueError as error:
        raise InvalidInputError("--bounds", text, "must be a number, 1 or more, or 'none'") from error
