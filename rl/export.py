"""Export a trained policy as a bundle, if NumPy and stable-baselines3 choose the same actions.

    python -m rl.export --from runs/ppo/best --to prefect_intelligent/policy/shipped [--report report.json]

Nothing is written unless the greedy action of the PyTorch policy and the choice of the NumPy policy are the same on at
least 10,000 observations sampled along days of the twin. Levels whose predicted savings differ by less than rounding
errors count as the same.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from prefect_intelligent.errors import InvalidInputError, PrefectIntelligentError
from prefect_intelligent.policy.actions import Levels, unflatten
from prefect_intelligent.policy.bundle import Bundle, read_bundle, write_bundle
from prefect_intelligent.policy.encoding import Observation, encode
from prefect_intelligent.policy.network import Gains, Network, choose
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.twin.closed_loop import ClosedLoop
from prefect_intelligent.twin.model.world import World
from prefect_intelligent.twin.simulator import Twin
from rl.network import Actor, LeverPolicy
from rl.provenance import commit
from rl.worlds import Workload
from simulations.envs.spaces import action_space, as_dict, observation_space
from simulations.family import SPLITS

SAMPLES: Final = 10_000
NOISE: Final = 1e-4
"""Savings that differ by less count as equal: the order of summation differs."""


def sample(bundle: Bundle, world: World, regime: Regime, count: int) -> Observation:
    """Observations along days under the bundle's policy."""
    policy, loop = bundle.policy(), ClosedLoop(Twin(world), regime)
    seen: list[Observation] = []
    while sum(len(part.pool) for part in seen) < count:
        rule = bundle.base.propose(loop.census)
        seen.append(encode(loop.census, rule))
        loop.step(policy.propose(loop.census))
        if not loop.running.any():
            raise InvalidInputError("samples", count, "more than the days have; sample more days")
    return Observation(*(np.concatenate(column) for column in zip(*seen, strict=True)))


def disagreements(bundle: Bundle, seen: Observation) -> int:
    """Observations on which stable-baselines3's greedy action is not what the NumPy policy chooses."""
    n = seen.mask.shape[1]
    policy = LeverPolicy(
        observation_space(n),
        action_space(n),
        lambda _: 0.0,
        width=len(bundle.weights["encoder_1.bias"]),
        neutral_bonus=bundle.margin,
    )
    policy.actor.load(bundle.weights)
    chosen = policy.predict(as_dict(seen, len(seen.pool)), deterministic=True)[0]
    theirs = unflatten(np.asarray(chosen, dtype=np.int64))
    gains = Network(bundle.weights).gains(seen)
    ours = choose(gains, bundle.margin)
    return int(_differ(ours, theirs, gains, bundle.margin, seen).sum())


def _differ(
    ours: Levels, theirs: Levels, gains: Gains, margin: float, seen: Observation
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Observations on which levels differ, and their savings do as well."""
    found = np.zeros(len(seen.pool), dtype=bool)
    for one, other, gain in zip(ours, theirs, gains, strict=True):
        values = np.where(
            np.abs(gain) > 0, gain, margin
        )  # neutral is chosen unless another level saves more than the margin
        our_saving = np.take_along_axis(values, one[..., None], -1)[..., 0]
        their_saving = np.take_along_axis(values, other[..., None], -1)[..., 0]
        differs = (one != other) & (np.abs(our_saving - their_saving) > NOISE)
        found |= differs if differs.ndim == 1 else (differs & seen.mask).any(-1)
    return found


def export(source: Path, target: Path, *, report: Mapping[str, Any] | None = None, samples: int = SAMPLES) -> str:
    """Check a bundle and write it; returns the sha256 of the weights.

    Raises:
        InvalidInputError: The policies disagree, or the source cannot be read; nothing is written.
    """
    bundle = read_bundle(source)
    actor = Actor(len(bundle.weights["encoder_1.bias"]))
    actor.load(bundle.weights)
    bundle = replace(bundle, weights=actor.export())
    first = SPLITS["validation"].start
    days = max(8, samples // 200)
    workload = Workload(factors=(1.0, 2.0, 4.0))
    drawn = workload.batch([(first + 500 + number, 0) for number in range(days)])
    seen = sample(bundle, drawn, workload.regime, samples)
    wrong = disagreements(bundle, seen)
    if wrong:
        raise InvalidInputError(
            "export", f"{wrong} of {len(seen.pool)} decisions differ", "NumPy and PyTorch must agree"
        )
    summary = dict((report or {}).get("figures", {}))
    if report:
        context = report.get("context", {})
        summary |= {"verdict": context.get("verdict"), "suite": context.get("suite"), "commit": context.get("commit")}
    provenance = dict(bundle.provenance) | {"exported_at_commit": commit(), "agreed_on": len(seen.pool)}
    exported = replace(bundle, name=target.name, provenance=provenance, evaluation=summary or bundle.evaluation)
    return write_bundle(exported, target)


def main(argv: list[str] | None = None) -> int:
    """Entry point of `python -m rl.export`."""
    parser = argparse.ArgumentParser(prog="python -m rl.export", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--from", dest="source", type=Path, required=True, help="bundle folder of a training run")
    parser.add_argument("--to", type=Path, required=True, help="bundle folder to write")
    parser.add_argument("--report", type=Path, help="report of rl.evaluate to put into the manifest")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        report = None if args.report is None else json.loads(args.report.read_text(encoding="utf-8"))
        print(export(args.source, args.to, report=report))
    except (PrefectIntelligentError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
