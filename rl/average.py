"""Average the weights of policies that were trained from the same start with different seeds.

    python -m rl.average runs/seed-*/best --out runs/averaged [--days 384]

Networks that are fine-tuned from one start stay so close that the mean of their weights performs like a single one,
without the noise of each run (Wortsman et al., ICML 2022, "model soups"). Prints the cost over that of the base rule on
validation days, for each policy and for the average.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from prefect_intelligent.errors import InvalidInputError, PrefectIntelligentError
from prefect_intelligent.policy.bundle import Bundle, read_bundle, write_bundle
from rl.provenance import commit
from rl.validate import Validation
from rl.worlds import Workload


def average(bundles: Sequence[Bundle]) -> Bundle:
    """A bundle with the mean of the weights; everything else is taken from the first bundle.

    Raises:
        InvalidInputError: There are none, or they differ in base rule, margin, width or normalisation.
    """
    if not bundles:
        raise InvalidInputError("bundles", "none", "name at least one folder")
    first = bundles[0]
    for other in bundles[1:]:
        alike = all(
            np.array_equal(first.weights[name], other.weights[name])
            for name in first.weights
            if name.endswith((".mean", ".std"))
        )
        same_shapes = all(first.weights[name].shape == other.weights[name].shape for name in first.weights)
        if (other.base, other.margin) != (first.base, first.margin) or not same_shapes or not alike:
            raise InvalidInputError("bundles", other.name, "must come from the same start as the first")
    weights = {
        name: np.stack([bundle.weights[name] for bundle in bundles]).mean(axis=0, dtype=np.float64).astype(np.float32)
        for name in first.weights
    }
    seeds = [bundle.provenance.get("seed") for bundle in bundles]
    provenance = dict(first.provenance) | {"averaged_seeds": seeds, "averaged_at_commit": commit()}
    return replace(first, weights=weights, provenance=provenance, evaluation={})


def main(argv: list[str] | None = None) -> int:
    """Entry point of `python -m rl.average`."""
    parser = argparse.ArgumentParser(prog="python -m rl.average", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("bundles", type=Path, nargs="+", help="bundle folders of trainings from one start")
    parser.add_argument("--out", type=Path, required=True, help="bundle folder to write")
    parser.add_argument("--days", type=int, default=384, help="validation days to compare on; 0 compares nothing")
    args = parser.parse_args(argv)
    try:
        found = [read_bundle(folder) for folder in args.bundles]
        mean = average(found)
        write_bundle(mean, args.out)
        if args.days > 0:
            validation = Validation(Workload(), mean.base, args.days)
            for name, bundle in [*zip(map(str, args.bundles), found, strict=True), (str(args.out), mean)]:
                print(f"{name:40s} {validation.ratio(bundle.policy()):.4f}", flush=True)
    except (PrefectIntelligentError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
