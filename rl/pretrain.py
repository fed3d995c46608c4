"""Pre-train the network by regression on the labels of `rl.label`; PPO starts from the result.

python -m rl.pretrain --base tuned.json --labels runs/labels --out bundles/pretrained
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
        knee: Saving (hours of mean cost) up to which labels count linearly, beyond it as a logarithm, so that lost days
            do not dominate. A larger one makes a policy that is safer in single cases and gains less.
        held_out: Share of the states that is held out to choose the pass.
    """

    width: int = 64
    epochs: int = 10
    batch: int = 512
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-3
    knee: float = 0.7
    held_out: float = 0.1


def squash(saved: Tensor, knee: float) -> Tensor:
    """Linear for values that are small against the knee, logarithmic beyond."""
    return torch.sign(saved) * torch.log1p(saved.abs() / knee) * knee


def fit(labels: Labels, config: PretrainConfig, seed: int = 0) -> tuple[Actor, list[dict[str, float]]]:
    """Fit a network to labels; returns it with its losses per pass.

    Args:
        labels: Labelled states; the last `held_out` share of them (other worlds) is held out.
        config: How.
        seed: Of the initial weights and the order of states.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    actor = Actor(config.width)
    set_statistics(actor, labels)
    seen = {name: torch.from_numpy(np.asarray(getattr(labels, name))) for name in ("queues", "pool", "mask")}
    where = torch.from_numpy(flat_index(labels))
    target = squash(torch.from_numpy(labels.saved.astype(np.float32)), config.knee)
    count = len(labels.pool)
    fitted = count - int(count * config.held_out)
    optimizer = torch.optim.AdamW(actor.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    steps = config.epochs * (fitted // config.batch + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=steps, pct_start=0.1)
    curve: list[dict[str, float]] = []
    least, best = np.inf, actor.export()
    for epoch in range(config.epochs):
        total = 0.0
        order = rng.permutation(fitted)
        for first in range(0, fitted, config.batch):
            rows = torch.from_numpy(order[first : first + config.batch])
            loss = _loss(actor, seen, where, target, rows)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(actor.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(rows)
        if fitted < count:
            with torch.no_grad():
                held = torch.arange(fitted, count)
                held_out_loss = float(_loss(actor, seen, where, target, held))
                saved = _greedy_saving(actor, seen, where, torch.from_numpy(labels.saved), held)
            curve.append(
                {"epoch": epoch, "loss": total / fitted, "held_out_loss": held_out_loss, "held_out_saved": saved}
            )
            if held_out_loss < least:
                least, best = held_out_loss, actor.export()
    if curve:
        actor.load(best)
    return actor, curve


def set_statistics(actor: Actor, labels: Labels) -> None:
    """Set centre and scale of every feature from the labelled states, over the queues that exist."""
    present = labels.mask.astype(bool)
    for part, values in ((actor.body.queues, labels.queues[present]), (actor.body.pool, labels.pool)):
        part.mean.copy_(torch.from_numpy(values.mean(0)))
        part.std.copy_(torch.from_numpy(np.maximum(values.std(0), 0.05)))


def flat_index(labels: Labels) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Index of each candidate's prediction in the joined heads, shape (m, k)."""
    n = labels.mask.shape[1]
    place = len(CAPACITY_FACTORS) + labels.queue * len(PLACES) + labels.level
    share = len(CAPACITY_FACTORS) + n * len(PLACES) + labels.queue * len(SHARES) + labels.level
    flat = np.where(labels.lever == POOL, labels.level, np.where(labels.lever == PLACE, place, share))
    return flat.astype(np.int64)


def _predicted(actor: Actor, seen: Observations, where: Tensor, rows: Tensor) -> Tensor:
    """Predicted savings of the candidates of some states, shape (b, k)."""
    heads = actor({name: values[rows] for name, values in seen.items()})
    joined = torch.cat([head.reshape(len(rows), -1) for head in heads], 1)
    return joined.gather(1, where[rows])


def _loss(actor: Actor, seen: Observations, where: Tensor, target: Tensor, rows: Tensor) -> Tensor:
    """Mean squared error of savings in tenths of an hour, so that it is of order one."""
    return torch.nn.functional.mse_loss(_predicted(actor, seen, where, rows) * 10.0, target[rows] * 10.0)


def _greedy_saving(actor: Actor, seen: Observations, where: Tensor, saved: Tensor, rows: Tensor) -> float:
    """Mean true saving of the candidate with the largest predicted saving; 0 where none is predicted to save."""
    predicted = _predicted(actor, seen, where, rows)
    best = predicted.argmax(1, keepdim=True)
    chosen = (predicted.gather(1, best) > 0).float()
    return float((saved[rows].gather(1, best) * chosen).mean())


def main(argv: list[str] | None = None) -> int:
    """Entry point of `python -m rl.pretrain`."""
    parser = argparse.ArgumentParser(prog="python -m rl.pretrain", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--base", type=Path, required=True, help="JSON file of rl.tune: the rule to be corrected")
    parser.add_argument("--labels", type=Path, nargs="+", required=True, help="folders written by rl.label")
    parser.add_argument(
        "--margin", type=float, default=0.03, help="predicted saving below which the rule is not corrected"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="bundle folder to write")
    args = parser.parse_args(argv)
    try:
        files: list[Path] = []
        for folder in args.labels:
            found = sorted(folder.glob("*.npz"))
            if not found:
                raise InvalidInputError("--labels", str(folder), "holds no .npz file; run rl.label first")
            files += found
        torch.set_num_threads(1)
        labels = Labels.load(*map(str, files))
        config = PretrainConfig()
        actor, curve = fit(labels, config, args.seed)
        made = {"by": "rl.pretrain", "states": len(labels.pool), "seed": args.seed, "config": asdict(config)}
        bundle = Bundle(
            name="pretrained",
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
