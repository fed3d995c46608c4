"""Train the policy by PPO, from a network that was pre-trained on the planner's labels.

    python -m rl.train --config rl/configs/default.toml [--scenario S | --pool my-pool.toml] [--steps N] [--seed K]
        [--resume]

`rl.ppo` does the learning, in `PrefectCluster-v0`. This module makes its worlds, sets the learning rates, averages the
weights, chooses the checkpoint on validation days and records the run. A run directory holds everything: `config.json`,
`progress.jsonl`, `checkpoint.pt` (written after every update; `--resume` goes on from it to the same result), and in
`best/` the bundle of the best checkpoint.

With `--scenario` or `--pool` the shipped policy is fine-tuned on days of that scenario or pool alone, at its prices.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from stable_baselines3.common.logger import Logger, configure
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

from prefect_intelligent.errors import InvalidInputError, PrefectIntelligentError, UnknownNameError
from prefect_intelligent.policy.bundle import SHIPPED, Bundle, read_bundle, write_bundle
from prefect_intelligent.policy.rule_policy import RulePolicy
from rl.network import LeverPolicy
from rl.ppo import DayPPO, TwoRateAdam, WinsorizedRolloutBuffer
from rl.provenance import commit
from rl.tracking import add_tracking, keep_results, tracked
from rl.validate import Validation
from rl.worlds import Days, Workload, training
from simulations.envs.vector import PrefectClusterVecEnv
from simulations.scenario import to_train_on


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Every setting that decides a training run.

    Attributes:
        start: Folder of the bundle to start from.
        out: Run directory.
        seed: Of the days, the actions and the minibatches.
        steps: Decisions in all, over all worlds.
        envs: Days that are played at once, a roll-out.
        hold: Decisions for which an action is held while training: the effect of a correction of a minute is small
            against the noise.
        batches: Roll-outs for which days are made; then the same days are played again.
        epochs: Passes over a roll-out.
        minibatch: Decisions per gradient step.
        learning_rate: Peak rate of the actor; decays by a cosine to a tenth.
        critic_learning_rate: The same for the critic, which starts untrained.
        critic_updates: First updates, in which only the critic learns.
        gamma: Discount per action.
        gae_lambda: Lambda of generalised advantage estimation.
        clip: PPO's clip range.
        winsor: Share of the advantages that is clipped at either end: a few lost days would otherwise set the scale of
            all others.
        target_kl: An update stops early at this divergence from the policy that it started from.
        entropy: Weight of the entropy bonus.
        averaging: Weight of the past in the moving average of the actor over updates. The average is what is validated
            and kept, because single updates fluctuate.
        temperature: Saving (hours of mean cost) that makes a level of the pool e times as likely; small, because the
            start is near a local optimum.
        queue_temperature: The same for the levels of queues.
        validation_days: Days on which checkpoints are compared.
        validate_every: Updates between two validations.
    """

    start: str = "runs/pretrained"
    out: str = "runs/ppo"
    seed: int = 0
    steps: int = 5_000_000
    envs: int = 128
    hold: int = 12
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


CONFIGS: Final = Path(__file__).parent / "configs"
"""`default.toml` is the training of the shipped policy, `fine_tune.toml` that on a single pool."""
_SHOWN: Final = ("saved_percent", "approx_kl", "validation_ratio", "steps_per_s")
"""Figures of the progress bar."""


def make_env(config: TrainConfig, workload: Days, base: RulePolicy) -> PrefectClusterVecEnv:
    """The environment of a run; the same configuration gives the same days.

    Args:
        config: Every setting.
        workload: Where days are drawn from.
        base: The rule that actions correct.
    """
    return PrefectClusterVecEnv(
        config.envs,
        scenario=workload,
        deck=config.envs * config.batches,
        deck_seed=config.seed,
        regime=workload.regime,
        base=base,
        hold=config.hold,
    )


def make_model(config: TrainConfig, env: VecEnv, steps: int, start: Bundle) -> DayPPO:
    """The learner: its actor is that of the start bundle, its critic has the same normalisation.

    Args:
        config: Every setting.
        env: What it learns in.
        steps: Length of a roll-out, in steps.
        start: What it starts from.
    """
    model = DayPPO(
        LeverPolicy,
        env,
        learning_rate=config.learning_rate,
        n_steps=steps,
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
        rollout_buffer_class=WinsorizedRolloutBuffer,
        rollout_buffer_kwargs={"winsor": config.winsor},
        policy_kwargs={
            "width": len(start.weights["encoder_1.bias"]),
            "temperature": config.temperature,
            "queue_temperature": config.queue_temperature,
            "neutral_bonus": start.margin,
        },
    )
    actor, critic = model.policy.actor, model.policy.critic
    actor.load(start.weights)
    model.average = actor.export()
    critic.body.queues.load_state_dict(actor.body.queues.state_dict())
    critic.body.pool.load_state_dict(actor.body.pool.state_dict())
    model.policy.optimizer = TwoRateAdam([{"params": actor.parameters()}, {"params": critic.parameters()}], eps=1e-5)
    model.set_rates(config.learning_rate, config.critic_learning_rate)
    model.set_logger(configure(None, []))
    return model


def schedule(model: DayPPO, config: TrainConfig, updates: int) -> None:
    """Set the learning rates of the next of `updates` updates; the actor's is 0 while the critic warms up."""
    decay = 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, model.updates / max(1, updates))))
    warming_up = model.updates < config.critic_updates
    model.set_rates(0.0 if warming_up else config.learning_rate * decay, config.critic_learning_rate * decay)
    model.target_kl = None if warming_up else config.target_kl


def update_average(model: DayPPO, config: TrainConfig) -> None:
    """Take the actor of this update into the moving average."""
    past = np.float32(config.averaging)
    model.average = {
        name: past * model.average[name] + (1 - past) * array for name, array in model.policy.actor.export().items()
    }


def train(config: TrainConfig, workload: Days, *, resume: bool = False, logger: Logger | None = None) -> dict[str, Any]:
    """Run PPO.

    Args:
        config: Every setting.
        workload: Where days are drawn from.
        resume: Go on from the checkpoint in `config.out`.
        logger: Gets the figures of every update.

    Returns:
        `progress`: figures per update; `best`: folder of the bundle with the least validation cost.

    Raises:
        InvalidInputError: The start bundle cannot be read, or there is no checkpoint to resume from.
    """
    torch.set_num_threads(1)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    start = read_bundle(Path(config.start))
    env = make_env(config, workload, start.base)
    model = make_model(config, env, env.steps_per_day, start)
    decisions = config.envs * env.steps_per_day * config.hold
    updates = max(1, config.steps // decisions)
    validation = Validation(workload, start.base, config.validation_days)
    progress: list[dict[str, float]] = []
    if resume:
        progress = restore_checkpoint(model, out)
    else:
        (out / "config.json").write_text(json.dumps(asdict(config), indent=1) + "\n", encoding="utf-8")
        write_bundle(start, out / "best")
        progress.append({"update": 0, "validation_ratio": validation.ratio(start.policy())})
    if logger is not None:
        model.set_logger(logger)
    bar = tqdm(total=updates, initial=model.updates, unit="update", desc="train", disable=None)
    while model.updates < updates:
        schedule(model, config, updates)
        model.update()
        update_average(model, config)
        record = _record(model, decisions)
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
        save_checkpoint(model, out, progress)
    bar.close()
    return {"progress": progress, "best": str(out / "best")}


def _record(model: DayPPO, steps: int) -> dict[str, float]:
    """Figures of the last update, which took so many decisions."""
    values = model.logger.name_to_value
    return {
        "update": model.updates,
        "steps": model.updates * steps,
        "saved_percent": float(model.rollout_buffer.rewards.sum(0).mean()),
        "explained_variance": float(values.get("train/explained_variance", math.nan)),
        "approx_kl": float(values.get("train/approx_kl", math.nan)),
        "entropy": -float(values.get("train/entropy_loss", math.nan)),
        "collect_s": model.collect_s,
        "update_s": model.train_s,
        "steps_per_s": steps / (model.collect_s + model.train_s),
    }


def save_checkpoint(model: DayPPO, out: Path, progress: list[dict[str, float]]) -> None:
    """Write the state after an update; an interruption leaves the previous one."""
    state = {
        "policy": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict(),
        "updates": model.updates,
        "n_updates": model.epochs,
        "progress": progress,
        "average": {name: torch.from_numpy(array) for name, array in model.average.items()},
    }
    torch.save(state, out / "checkpoint.tmp")
    (out / "checkpoint.tmp").replace(out / "checkpoint.pt")
    (out / "progress.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in progress), encoding="utf-8")


def restore_checkpoint(model: DayPPO, out: Path) -> list[dict[str, float]]:
    """Load the last state written and return its progress.

    Raises:
        InvalidInputError: There is none.
    """
    try:
        state = torch.load(out / "checkpoint.pt", weights_only=True)
    except OSError as error:
        raise InvalidInputError("--resume", str(out), "holds no checkpoint.pt; start without --resume") from error
    model.policy.load_state_dict(state["policy"])
    model.policy.optimizer.load_state_dict(state["optimizer"])
    model.average = {name: tensor.numpy() for name, tensor in state["average"].items()}
    model.updates, model.epochs = state["updates"], state["n_updates"]
    model.resumed_epochs = model.epochs
    progress: list[dict[str, float]] = state["progress"]
    return progress


def main(argv: list[str] | None = None) -> int:
    """Entry point of `python -m rl.train`."""
    parser = argparse.ArgumentParser(prog="python -m rl.train", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--config", type=Path, help="TOML file (default: one of rl/configs)")
    parser.add_argument("--scenario", help="fine-tune on this scenario (a name or a TOML file)")
    parser.add_argument("--pool", type=Path, help="fine-tune on the pool that simulations.calibrate has written")
    parser.add_argument("--steps", type=int, help="decisions in all")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--start", help="folder of the bundle to start from")
    parser.add_argument("--out", help="run directory")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint of the run directory")
    parser.add_argument("--although-unfit", action="store_true", help="also on a scenario marked as unfit")
    add_tracking(parser)
    args = parser.parse_args(argv)
    try:
        tunes = args.scenario is not None or args.pool is not None
        settings = args.config or CONFIGS / ("fine_tune.toml" if tunes else "default.toml")
        data = tomllib.loads(settings.read_text(encoding="utf-8")).get("train", {})
        workload = training()
        if tunes:
            if args.scenario is not None and args.pool is not None:
                raise InvalidInputError("--scenario", args.scenario, "give either --scenario or --pool")
            scenario = to_train_on(args.scenario or args.pool, although_unfit=args.although_unfit)
            workload = Workload.of(scenario)
            data = {"start": str(SHIPPED), "out": f"runs/{scenario.name}"} | data
        given = {name: getattr(args, name) for name in ("steps", "seed", "start", "out")}
        config = TrainConfig.from_dict(data | {name: value for name, value in given.items() if value is not None})
        with tracked(config, workload, args) as tracker:
            found = train(config, workload, resume=args.resume, logger=None if tracker is None else tracker.logger())
            if tracker is not None:
                keep_results(tracker, found)
    except (PrefectIntelligentError, OSError, tomllib.TOMLDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(describe_result(found))
    return 0


def describe_result(found: dict[str, Any]) -> str:
    """What came of the training, in words; `found` is what `train` returns."""
    progress, folder = found["progress"], found["best"]
    ratios = [entry["validation_ratio"] for entry in progress if "validation_ratio" in entry]
    start, best = ratios[0], min(ratios)
    updates = f"{progress[-1]['update']:.0f} updates"
    if best >= start:
        return f"{updates}: none is better than the start, {start:.4f} of the rule's cost; {folder} is the start."
    costs = f"costs {best:.4f} of what the rule costs, the start {start:.4f}"
    return f"{updates}: on the validation days the best bundle {costs}. It is in {folder}."


if __name__ == "__main__":
    sys.exit(main())
