"""Regress the network on labels from `rl.label`: the start from which PPO goes on.

python -m rl.pretrain --base tuned.json --lessons runs/lessons --out bundles/regressed
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from prefect_intelligent.errors import InvalidInputError, PrefectIntelligentError
from prefect_intelligent.policy.actions import CAPACITY_FACTORS, PLACES, SHARES
from prefect_intelligent.policy.bundle import Bundle, write_bundle
from rl.label import PLACE, POOL, Labels
from rl.network import Actor, Observations
from rl.provenance import commit
from rl.tune import read_rule


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """How the network is fitted.

    Attributes:
        width: Units per layer.
        epochs: Passes over the labels; the network of the pass with the least error on the held-out states is kept.
        batch: States per gradient step.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: Of AdamW.
        knee: Saving (hours of mean cost) up to which labels count linearly, beyond it as a logarithm: lost days must be
            seen but not drown the rest. A larger one makes a policy that is safer in single cases and gains less.
        held_out: Share of the states that only measures.
    """

    width: int = 64
    epochs: int = 10
    batch: int = 512
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-3
    knee: float = 0.7
    held_out: float = 0.1


def squash(saved: Tensor, knee: float) -> Tensor:
    """Linear for what is small against the knee, logarithmic beyond."""
    return torch.sign(saved) * torch.log1p(saved.abs() / knee) * knee


def fit(lessons: Labels, config: PretrainConfig, seed: int = 0) -> tuple[Actor, list[dict[str, float]]]:
    """A network fitted to the labels, and its curve.

    Args:
        lessons: Labelled states; the last `held_out` share of them (other worlds) is not learned from.
        config: How.
        seed: Of the initial weights and the order of states.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    actor = Actor(config.width)
    set_statistics(actor, lessons)
    seen = {name: torch.from_numpy(np.asarray(getattr(lessons, name))) for name in ("queues", "pool", "mask")}
    where = torch.from_numpy(flat_index(lessons))
    target = squash(torch.from_numpy(lessons.saved.astype(np.float32)), config.knee)
    count = len(lessons.pool)
    learned = count - int(count * config.held_out)
    optimizer = torch.optim.AdamW(actor.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    steps = config.epochs * (learned // config.batch + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=steps, pct_start=0.1)
    curve: list[dict[str, float]] = []
    best, kept = np.inf, actor.export()
    for epoch in range(config.epochs):
        total = 0.0
        order = rng.permutation(learned)
        for first in range(0, learned, config.batch):
            rows = torch.from_numpy(order[first : first + config.batch])
            loss = _loss(actor, seen, where, target, rows)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(actor.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(rows)
        if learned < count:
            with torch.no_grad():
                held = torch.arange(learned, count)
                left = float(_loss(actor, seen, where, target, held))
                chosen = _taken(actor, seen, where, torch.from_numpy(lessons.saved), held)
            curve.append({"epoch": epoch, "loss": total / learned, "held_out_loss": left, "held_out_saved": chosen})
            if left < best:
                best, kept = left, actor.export()
    if curve:
        actor.load(kept)
    return actor, curve


def set_statistics(actor: Actor, lessons: Labels) -> None:
    """Centre and scale of every feature, over the queues that exist."""
    there = lessons.mask.astype(bool)
    for part, values in ((actor.body.queues, lessons.queues[there]), (actor.body.pool, lessons.pool)):
        part.mean.copy_(torch.from_numpy(values.mean(0)))
        part.std.copy_(torch.from_numpy(np.maximum(values.std(0), 0.05)))


def flat_index(lessons: Labels) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Where the prediction for each candidate lies in the joined heads, shape (m, k)."""
    n = lessons.mask.shape[1]
    place = len(CAPACITY_FACTORS) + lessons.queue * len(PLACES) + lessons.level
    share = len(CAPACITY_FACTORS) + n * len(PLACES) + lessons.queue * len(SHARES) + lessons.level
    flat = np.where(lessons.lever == POOL, lessons.level, np.where(lessons.lever == PLACE, place, share))
    return flat.astype(np.int64)


def _predicted(actor: Actor, seen: Observations, where: Tensor, rows: Tensor) -> Tensor:
    """Predicted savings of the candidates of some states, shape (b, k)."""
    heads = actor({name: values[rows] for name, values in seen.items()})
    joined = torch.cat([head.reshape(len(rows), -1) for head in heads], 1)
    return joined.gather(1, where[rows])


def _loss(actor: Actor, seen: Observations, where: Tensor, target: Tensor, rows: Tensor) -> Tensor:
    """Mean squared error, in units in which it is of order one."""
    return torch.nn.functional.mse_loss(_predicted(actor, seen, where, rows) * 10.0, target[rows] * 10.0)


def _taken(actor: Actor, seen: Observations, where: Tensor, saved: Tensor, rows: Tensor) -> float:
    """Mean true saving of the tried candidate that is predicted to save most (0 if none is predicted to save)."""
    predicted = _predicted(actor, seen, where, rows)
    best = predicted.argmax(1, keepdim=True)
    worth = (predicted.gather(1, best) > 0).float()
    return float((saved[rows].gather(1, best) * worth).mean())


def main(argv: list[str] | None = None) -> int:
    """Entry point of `python -m rl.pretrain`."""
    parser = argparse.ArgumentParser(prog="python -m rl.pretrain", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--base", type=Path, required=True, help="JSON file of rl.tune: the rule to be corrected")
    parser.add_argument("--lessons", type=Path, nargs="+", required=True, help="folders written by rl.label")
    parser.add_argument("--margin", type=float, default=0.03, help="saving below which the rule is left alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="bundle folder to write")
    args = parser.parse_args(argv)
    try:
        files: list[Path] = []
        for folder in args.lessons:
            found = sorted(folder.glob("*.npz"))
            if not found:
                raise InvalidInputError("--lessons", str(folder), "holds no .npz file; run rl.label first")
            files += found
        torch.set_num_threads(1)
        lessons = Labels.load(*map(str, files))
        config = PretrainConfig()
        actor, curve = fit(lessons, config, args.seed)
        made = {"by": "rl.pretrain", "states": len(lessons.pool), "seed": args.seed, "config": asdict(config)}
        bundle = Bundle(
            name="regressed",
            base=read_rule(args.base),
            weights=actor.export(),
            margin=args.margin,
            provenance=made | {"commit": commit(), "curve": curve},
        )
        write_bundle(bundle, args.out)
    except PrefectIntelligentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
