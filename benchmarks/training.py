"""How fast training is, and how fast the trained policy decides.

    python -m benchmarks.training --json

`train_steps_per_s` counts decisions of the default training (`rl/configs/default.toml`), roll-out and update together;
`env_steps_per_s` those of the same environment alone, stepped with random actions, with as many worlds and one thread;
`train_steps_per_env_step` is the ratio. `..._unheld` is the same with a step for every decision: what training costs
where actions are not held, and the harder figure.

`decision_p99_ms` is the time of one decision of the bundle at 32 queues (rule, encoding, network, actions; no guard, no
Prefect) in a new process without torch that has loaded the twin, as in a controller; `decision_interpreted_p99_ms` is
the same without the twin, as in a hook. `sb3_predict_p99_ms` is stable-baselines3's `predict` of the same network in a
process of its own: one observation of 32 queues, already encoded, one thread.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

UNHELD_ENVS: Final = 64
"""Fewer worlds where every decision is a step, so that a roll-out fits into memory."""

_DECIDE = """
import json, sys, time
from pathlib import Path
import numpy as np
if sys.argv[2] == "compiled":
    from prefect_intelligent.twin.engine import jit_policies
from prefect_intelligent.policy import Census, P, Q
from prefect_intelligent.policy.bundle import read_bundle
policy = read_bundle(Path(sys.argv[1])).policy()
rng = np.random.default_rng(0)
took = []
for number in range(2200):
    queues, pool = rng.uniform(0, 5, (32, len(Q))), rng.uniform(1, 8, len(P))
    queues[:, Q.PRESENT], queues[:, Q.RANK] = 1, np.arange(32)
    census = Census(queues, pool)
    began = time.perf_counter()
    policy.propose(census)
    took.append(time.perf_counter() - began)
took = np.array(took[200:]) * 1e3
print(json.dumps({"p50": float(np.median(took)), "p99": float(np.quantile(took, 0.99)),
                  "torch": "torch" in sys.modules}))
"""

_PREDICT = """
import json, sys, time
from pathlib import Path
import numpy as np
import torch
from prefect_intelligent.policy.bundle import read_bundle
from rl.network import LeverPolicy
from simulations.envs.spaces import action_space, observation_space
torch.set_num_threads(1)
bundle, space = read_bundle(Path(sys.argv[1])), observation_space(32)
width = len(bundle.weights["encoder_1.bias"])
policy = LeverPolicy(space, action_space(32), lambda _: 0.0, width=width, neutral_bonus=bundle.margin)
policy.actor.load(bundle.weights)
rng = np.random.default_rng(0)
took = []
for number in range(2200):
    seen = {name: rng.uniform(0, 5, part.shape).astype(np.float32) for name, part in space.items()}
    seen["mask"][:] = 1
    began = time.perf_counter()
    policy.predict(seen, deterministic=True)
    took.append(time.perf_counter() - began)
took = np.array(took[200:]) * 1e3
print(json.dumps({"p50": float(np.median(took)), "p99": float(np.quantile(took, 0.99))}))
"""


def decision_ms(bundle: Path, how: str) -> dict[str, float]:
    """Median and 99 % quantile of one decision, "interpreted" or "compiled", in a process of its own."""
    return _timed(_DECIDE, str(bundle), how)


def predict_ms(bundle: Path) -> dict[str, float]:
    """Median and 99 % quantile of stable-baselines3's `predict`, in a process of its own."""
    return _timed(_PREDICT, str(bundle))


def _timed(code: str, *arguments: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def training_speed(updates: int, folder: Path, **changed: Any) -> dict[str, float]:
    """Decisions per second of training and of its environment alone, in one run.

    Args:
        updates: Updates of the default training; the first, which warms up, is left out.
        folder: For its files.
        changed: Settings other than the default training's.
    """
    import torch

    from prefect_intelligent.policy.bundle import SHIPPED, read_bundle
    from rl.train import TrainConfig, make_env, make_model, schedule, update_average
    from rl.worlds import training

    torch.set_num_threads(1)
    path = Path(__file__).parent.parent / "rl" / "configs" / "default.toml"
    settings = tomllib.loads(path.read_text(encoding="utf-8"))["train"]
    config = TrainConfig.from_dict(settings | {"start": str(SHIPPED), "out": str(folder), "batches": 1} | changed)
    start = read_bundle(SHIPPED)
    env = make_env(config, training(), start.base)
    model = make_model(config, env, env.steps_per_day, start)
    rng, levels = np.random.default_rng(0), env.action_space.nvec
    bare_s = collect_s = update_s = 0.0
    for number in range(updates):
        actions = rng.integers(0, levels, (env.steps_per_day, env.num_envs, len(levels)))
        began = time.perf_counter()
        env.reset()
        for action in actions:
            env.step(action)
        bare = time.perf_counter() - began
        schedule(model, config, 10 * updates)
        model.update()
        update_average(model, config)
        if number > 0:
            bare_s, collect_s, update_s = bare_s + bare, collect_s + model.collect_s, update_s + model.train_s
    decisions = (updates - 1) * env.num_envs * env.steps_per_day * config.hold
    return {
        "train": decisions / (collect_s + update_s),
        "env": decisions / bare_s,
        "rollout_share": collect_s / (collect_s + update_s),
        "worlds": float(env.num_envs),
        "hold": float(config.hold),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    from prefect_intelligent.policy.bundle import SHIPPED

    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--updates", type=int, default=4, help="updates of PPO to time (default: 4)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    began = time.perf_counter()
    decide, interpreted = (decision_ms(SHIPPED, how) for how in ("compiled", "interpreted"))
    predict = predict_ms(SHIPPED)
    with tempfile.TemporaryDirectory() as folder:
        speed = training_speed(args.updates, Path(folder))
        unheld = training_speed(args.updates, Path(folder), hold=1, envs=UNHELD_ENVS)
    report = {
        "figures": {
            "train_steps_per_s": speed["train"],
            "env_steps_per_s": speed["env"],
            "train_steps_per_env_step": speed["train"] / speed["env"],
            "train_steps_per_env_step_unheld": unheld["train"] / unheld["env"],
            "decision_p99_ms": decide["p99"],
            "decision_p50_ms": decide["p50"],
            "decision_interpreted_p99_ms": interpreted["p99"],
            "decision_interpreted_p50_ms": interpreted["p50"],
            "sb3_predict_p99_ms": predict["p99"],
            "sb3_predict_p50_ms": predict["p50"],
            "five_million_steps_min": 5e6 / speed["train"] / 60.0,
        },
        "context": {
            "torch_in_serving_process": bool(decide["torch"] or interpreted["torch"]),
            "held": speed,
            "unheld": unheld,
            "updates": args.updates,
            "seconds": round(time.perf_counter() - began, 1),
        },
    }
    if args.json:
        print(json.dumps(report))
    else:
        for name, value in report["figures"].items():
            print(f"{name:32s} {value:12.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
