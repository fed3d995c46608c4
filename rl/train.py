"""Train the policy by PPO from a start that was regressed on the planner's labels.

    python -m rl.train --config rl/configs/default.toml [--scenario S | --pool my-pool.toml] [--steps N] [--seed K]
        [--resume]

stable-baselines3 does the learning; here are the days it learns on, the warm start, the warm-up of the critic, the
schedules, the validation that chooses the checkpoint, and the record of the run. A run directory holds everything:
`config.json`, `progress.jsonl`, `checkpoint.pt` (after every update; `--resume` goes on from it to the same result),
and the bundle of the best checkpoint in `best/`.

With `--scenario` or `--pool` the shipped policy is fine-tuned on days of that scenario or pool alone, at its prices.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger, configure
from tqdm import tqdm

from prefect_intelligent.errors import InvalidInputError, PrefectIntelligentError, UnknownNameError
from prefect_intelligent.policy.bundle import SHIPPED, Bundle, read_bundle, write_bundle
from prefect_intelligent.policy.encoding import Array32
from prefect_intelligent.policy.rule_policy import RulePolicy
from rl.days import DayBatch, TrainingEnv
from rl.network import LeverPolicy
from rl.provenance import commit
from rl.tracking import add_tracking, keep_results, tracked
from rl.validate import Validation
from rl.worlds import Workload, training
from simulations.scenario import load_scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Everything that decides a training run, besides the code.

    Attributes:
        start: Folder of the bundle to start from.
        out: Run directory.
        seed: Of the days, of the actions and of the minibatches.
        steps: Decisions in all, over all worlds.
        envs: Worlds per batch.
        day_steps: Decisions per day and roll-out; 0 takes as many as a day of the workload has.
        hold: Decisions for which an action is held while training; see `rl.days`.
        batches: Batches of days that are made once and gone through again and again.
        epochs: Passes over a roll-out.
        minibatch: Decisions per gradient step.
        learning_rate: Peak; decays by a cosine to a tenth.
        critic_learning_rate: Of the critic, which starts from nothing.
        critic_updates: Roll-outs at the beginning in which only the critic learns.
        gamma: Discount per action.
        gae_lambda: Of generalised advantage estimation.
        clip: PPO's clip range.
        winsor: Share of the advantages at either end that are drawn in to the rest: a few lost days would set the scale
            in which all others count for nothing.
        target_kl: An update stops when the policy has moved so far.
        entropy: Weight of the entropy bonus.
        averaging: Weight of what was before in the moving average of the actor over updates; it is the average that is
            validated and kept, since single updates wander.
        temperature: Saving (hours of mean cost) that makes a level of the pool e times as likely; exploration is
            small because the start is near a local optimum.
        queue_temperature: The same for the levels of queues.
        validation_days: Days on which checkpoints are compared.
        validate_every: Updates between two validations.
    """

    start: str = "runs/regressed"
    out: str = "runs/ppo"
    seed: int = 0
    steps: int = 5_000_000
    envs: int = 128
    day_steps: int = 0
    hold: int = 6
    batches: int = 8
    epochs: int = 3
    minibatch: int = 4_096
    learning_rate: float = 1e-4
    critic_learning_rate: float = 1e-3
    critic_updates: int = 3
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.1
    winsor: float = 0.005
    target_kl: float = 0.02
    entropy: float = 0.0
    averaging: float = 0.85
    temperature: float = 0.02
    queue_temperature: float = 0.006
    validation_days: int = 96
    validate_every: int = 4

    def __post_init__(self) -> None:
        for name in ("steps", "envs", "hold", "batches", "epochs", "minibatch", "validate_every"):
            if getattr(self, name) < 1:
                raise InvalidInputError(name, getattr(self, name), "must be 1 or more")

    @property
    def actions(self) -> int:
        """Actions per day and roll-out."""
        return math.ceil(self.day_steps / self.hold)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrainConfig:
        """The configuration of a TOML table."""
        known = {field.name: str(field.type) for field in fields(cls)}
        for key, value in data.items():
            if key not in known:
                raise UnknownNameError("training setting", key, known)
            wanted: tuple[type, ...] = {"int": (int,), "float": (int, float), "str": (str,)}[known[key]]
            if isinstance(value, bool) or not isinstance(value, wanted):
                raise InvalidInputError(key, value, f"must be of type {known[key]}")
        return cls(**data)


FINE_TUNE_STEPS: Final = 1_000_000
"""Decisions of a fine-tuning, unless told otherwise."""
_SHOWN: Final = ("saved_percent", "approx_kl", "validation_ratio", "steps_per_s")
"""Figures of the progress bar."""


class DayPPO(PPO):
    """PPO whose every roll-out is one batch of whole days, with random numbers that depend on its number alone."""

    policy: LeverPolicy
    updates: int = 0
    winsor: float = 0.0
    average: dict[str, Array32]
    """The actor, averaged over updates, as `Actor.export` has it."""

    def _update_learning_rate(self, optimizers: Any) -> None:
        """Nothing: actor and critic have rates of their own, see `set_rates`."""

    def collect_rollouts(self, env: Any, *args: Any, **kwargs: Any) -> bool:
        """Begin the days of this update, then collect as ever."""
        torch.manual_seed(self.seed * 100_003 + self.updates if self.seed is not None else self.updates)
        np.random.seed(self.updates % 2**31)  # noqa: NPY002 - the roll-out buffer shuffles with it
        env.number = self.updates
        self._last_obs = env.reset()
        self._last_episode_starts = np.ones((env.num_envs,), dtype=bool)
        collected = super().collect_rollouts(env, *args, **kwargs)
        found = self.rollout_buffer.advantages
        np.clip(found, *np.quantile(found, [self.winsor, 1.0 - self.winsor]), out=found)
        return collected


def make_model(config: TrainConfig, env: TrainingEnv, start: Bundle) -> DayPPO:
    """The learner, its actor at the start bundle."""
    model = DayPPO(
        LeverPolicy,
        env,
        learning_rate=config.learning_rate,
        n_steps=config.actions,
        batch_size=config.minibatch,
        n_epochs=config.epochs,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip,
        target_kl=config.target_kl,
        ent_coef=config.entropy,
        max_grad_norm=0.5,
        seed=config.seed,
        device="cpu",
        policy_kwargs={
            "width": len(start.weights["encoder_1.bias"]),
            "temperature": config.temperature,
            "queue_temperature": config.queue_temperature,
            "neutral_bonus": start.margin,
        },
    )
    model.winsor = config.winsor
    model.policy.actor.load(start.weights)
    model.average = model.policy.actor.export()
    for name in ("queues", "pool"):
        mine, theirs = getattr(model.policy.critic.body, name), getattr(model.policy.actor.body, name)
        mine.load_state_dict(theirs.state_dict())
    model.policy.optimizer = torch.optim.Adam(
        [
            {"params": model.policy.actor.parameters(), "lr": config.learning_rate},
            {"params": model.policy.critic.parameters(), "lr": config.critic_learning_rate},
        ],
        eps=1e-5,
    )
    model.set_logger(configure(None, []))
    return model


def set_rates(model: DayPPO, config: TrainConfig, updates: int) -> None:
    """Learning rates of this update: cosine for both, the actor's zero while the critic warms up."""
    left = 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, model.updates / max(1, updates))))
    warm = model.updates < config.critic_updates
    actor, critic = model.policy.optimizer.param_groups
    actor["lr"] = 0.0 if warm else config.learning_rate * left
    critic["lr"] = config.critic_learning_rate * left
    model.target_kl = None if warm else config.target_kl


def take_average(model: DayPPO, config: TrainConfig) -> None:
    """Let the actor of this update into the average."""
    now = model.policy.actor.export()
    old = np.float32(config.averaging)
    model.average = {name: old * model.average[name] + (1 - old) * array for name, array in now.items()}


def make_days(config: TrainConfig, workload: Workload, base: RulePolicy) -> list[DayBatch]:
    """The batches of days of a run; the same configuration gives the same days."""
    rng = np.random.default_rng([config.seed, 5])
    days = []
    for _ in range(config.batches):
        chosen = [
            (int(c), int(d))
            for c, d in zip(rng.integers(0, 1_000_000, config.envs), rng.integers(0, 8, config.envs), strict=True)
        ]
        days.append(DayBatch(workload.batch(chosen), base, config.day_steps))
    return days


def train(
    config: TrainConfig, workload: Workload, *, resume: bool = False, logger: Logger | None = None
) -> dict[str, Any]:
    """Run PPO and return what was reached; the best checkpoint lies in `<out>/best`, every update goes to `logger`."""
    torch.set_num_threads(1)
    config = replace(config, day_steps=config.day_steps or workload.steps)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    start = read_bundle(Path(config.start))
    env = TrainingEnv(make_days(config, workload, start.base), start.base, config.day_steps, config.hold)
    model = make_model(config, env, start)
    updates = max(1, config.steps // (config.envs * config.day_steps))
    validation = Validation(workload, start.base, config.validation_days)
    progress: list[dict[str, float]] = []
    if resume:
        progress = _restore(model, out)
    else:
        (out / "config.json").write_text(json.dumps(asdict(config), indent=1) + "\n", encoding="utf-8")
        write_bundle(start, out / "best")
        progress.append({"update": 0, "validation_ratio": validation.ratio(start.policy())})
    if logger is not None:
        model.set_logger(logger)
    model._setup_learn(config.steps, None, True, "run", False)
    callback = model._init_callback(None)
    bar = tqdm(total=updates, initial=model.updates, unit="update", desc="train", disable=None)
    while model.updates < updates:
        began = time.perf_counter()
        set_rates(model, config, updates)
        model.collect_rollouts(env, callback, model.rollout_buffer, config.actions)
        collected = time.perf_counter()
        model.train()
        model.updates += 1
        take_average(model, config)
        record = _record(model, config, collected - began, time.perf_counter() - collected)
        if model.updates % config.validate_every == 0 or model.updates == updates:
            made = {
                "by": "rl.train",
                "updates": model.updates,
                "seed": config.seed,
                "commit": commit(),
                "start": start.provenance,
            }
            bundle = replace(start, weights=model.average, name="candidate", provenance=made)
            record["validation_ratio"] = validation.ratio(bundle.policy())
            best = min(entry["validation_ratio"] for entry in progress if "validation_ratio" in entry)
            if record["validation_ratio"] < best:
                write_bundle(bundle, out / "best")
        progress.append(record)
        for name, value in record.items():
            model.logger.record(f"progress/{name}", value)
        model.logger.dump(model.updates)
        bar.update()
        bar.set_postfix({name: f"{record[name]:.4g}" for name in _SHOWN if name in record})
        _save(model, out, progress)
    bar.close()
    return {"progress": progress, "best": str(out / "best")}


def _record(model: DayPPO, config: TrainConfig, collect_s: float, update_s: float) -> dict[str, float]:
    """What one update was like."""
    steps = config.envs * config.day_steps
    values = model.logger.name_to_value
    buffer = model.rollout_buffer
    return {
        "update": model.updates,
        "steps": model.updates * steps,
        "saved_percent": float(buffer.rewards.sum(0).mean()),
        "explained_variance": float(values.get("train/explained_variance", math.nan)),
        "approx_kl": float(values.get("train/approx_kl", math.nan)),
        "entropy": -float(values.get("train/entropy_loss", math.nan)),
        "collect_s": collect_s,
        "update_s": update_s,
        "steps_per_s": steps / (collect_s + update_s),
    }


def _save(model: DayPPO, out: Path, progress: list[dict[str, float]]) -> None:
    """Write the state after an update, in one step."""
    state = {
        "policy": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict(),
        "updates": model.updates,
        "n_updates": model._n_updates,
        "progress": progress,
        "average": {name: torch.from_numpy(array) for name, array in model.average.items()},
    }
    torch.save(state, out / "checkpoint.tmp")
    (out / "checkpoint.tmp").replace(out / "checkpoint.pt")
    (out / "progress.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in progress), encoding="utf-8")


def _restore(model: DayPPO, out: Path) -> list[dict[str, float]]:
    """Go back to the last state written."""
    try:
        state = torch.load(out / "checkpoint.pt", weights_only=True)
    except OSError as error:
        raise InvalidInputError("--resume", str(out), "holds no checkpoint.pt; start without --resume") from error
    model.policy.load_state_dict(state["policy"])
    model.policy.optimizer.load_state_dict(state["optimizer"])
    model.average = {name: tensor.numpy() for name, tensor in state["average"].items()}
    model.updates, model._n_updates = state["updates"], state["n_updates"]
    progress: list[dict[str, float]] = state["progress"]
    return progress


def main(argv: list[str] | None = None) -> int:
    """Entry point of `python -m rl.train`."""
    parser = argparse.ArgumentParser(prog="python -m rl.train", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--config", type=Path, default=Path(__file__).parent / "configs" / "default.toml")
    parser.add_argument("--scenario", help="fine-tune on this scenario (a name or a TOML file)")
    parser.add_argument("--pool", type=Path, help="fine-tune on the pool that simulations.calibrate has written")
    parser.add_argument("--steps", type=int, help="decisions in all")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--start", help="folder of the bundle to start from")
    parser.add_argument("--out", help="run directory")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint of the run directory")
    add_tracking(parser)
    args = parser.parse_args(argv)
    try:
        data = tomllib.loads(args.config.read_text(encoding="utf-8")).get("train", {})
        workload = training()
        if args.scenario is not None or args.pool is not None:
            if args.scenario is not None and args.pool is not None:
                raise InvalidInputError("--scenario", args.scenario, "give either --scenario or --pool")
            scenario = load_scenario(args.scenario or args.pool)
            workload = Workload.of(scenario)
            data |= {"start": str(SHIPPED), "out": f"runs/{scenario.name}", "steps": FINE_TUNE_STEPS, "day_steps": 0}
        given = {name: getattr(args, name) for name in ("steps", "seed", "start", "out")}
        config = TrainConfig.from_dict(data | {name: value for name, value in given.items() if value is not None})
        with tracked(config, workload, args) as tracker:
            found = train(config, workload, resume=args.resume, logger=None if tracker is None else tracker.logger())
            if tracker is not None:
                keep_results(tracker, found)
    except (PrefectIntelligentError, OSError, tomllib.TOMLDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
