"""Options that several commands share, and how their settings are read."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.settings import Loaded, load_settings


def add_config(parser: argparse.ArgumentParser) -> None:
    """`--config FILE`."""
    parser.add_argument("--config", metavar="FILE", help="settings file to read instead of looking for one")


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def add_pool(parser: argparse.ArgumentParser) -> None:
    """`--pool NAME`."""
    parser.add_argument("--pool", metavar="NAME", help="work pool; without it the setting `pool`")


def add_seed(parser: argparse.ArgumentParser, what: str) -> None:
    """`--seed N` of what is drawn."""
    parser.add_argument("--seed", type=int, default=0, help=f"of {what} (default: 0)")


def chosen_seed(args: argparse.Namespace) -> int:
    """The seed.

    Raises:
        InvalidInputError: It is negative or too large for the twin.
    """
    seed: int = args.seed
    if not 0 <= seed < 2**63:
        raise InvalidInputError("--seed", seed, "must be 0 or more, and less than 2**63")
    return seed


def read_settings(args: argparse.Namespace, flags: Sequence[str] = ()) -> Loaded:
    """The settings, with those of `flags` (names of settings) that were given on the command line."""
    return load_settings({name: getattr(args, name) for name in flags}, config=args.config)


def chosen_pool(loaded: Loaded) -> str:
    """The work pool that the command is about.

    Raises:
        InvalidInputError: None was named.
    """
    if loaded.settings.pool is None:
        raise InvalidInputError("--pool", None, "name a work pool with --pool or the setting `pool`")
    return loaded.settings.pool


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    print(json.dumps(value, indent=2, default=str, allow_nan=False))


def tell_finished(title: str | None) -> None:
    """Say on standard error what was finished of a command that had died."""
    if title is not None:
        print(f"finished what an earlier command had begun: {title}", file=sys.stderr)
