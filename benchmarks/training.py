"""How fast training is, and how fast the trained policy decides.

    python -m benchmarks.training --json

`train_steps_per_s` counts decisions of the default training, roll-out and update together. `decision_p99_ms` is the
time of one decision of the bundle at 32 queues (rule, encoding, network, actions; no guard, no Prefect) in a new
process without torch that has loaded the twin, as in a controller; `decision_interpreted_p99_ms` is the same without
the twin, as in a hook.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def decision_ms(bundle: Path, how: str) -> dict[str, float]:
    """Median and 99 % quantile of one decision, "interpreted" or "compiled", in a process of its own."""
    command = [sys.executable, "-c", _DECIDE, str(bundle), how]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path.cwd())
    found: dict[str, float] = json.loads(done.stdout)
    return found


def training_speed(updates: int, folder: Path) -> dict[str, float]:
    """Decisions per second over some updates of the default training, the first (which warms up) left out."""
    import tomllib

    from prefect_intelligent.policy.bundle import SHIPPED
    from rl.train import TrainConfig, train
    from rl.worlds import Workload

    path = Path(__file__).parent.parent / "rl" / "configs" / "default.toml"
    settings = tomllib.loads(path.read_text(encoding="utf-8"))["train"]
    steps = settings["envs"] * settings["day_steps"] * updates
    changed = {"start": str(SHIPPED), "out": str(folder), "steps": steps, "batches": 2}
    config = TrainConfig.from_dict(settings | changed | {"validation_days": 4, "validate_every": updates})
    progress = [entry for entry in train(config, Workload())["progress"] if "steps_per_s" in entry][1:]
    taken = sum(entry["collect_s"] + entry["update_s"] for entry in progress)
    decisions = len(progress) * config.envs * config.day_steps
    return {
        "steps_per_s": decisions / taken,
        "collect_s": sum(entry["collect_s"] for entry in progress),
        "all_s": taken,
    }


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    from prefect_intelligent.policy.bundle import SHIPPED

    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--updates", type=int, default=4, help="updates of PPO to time (default: 4)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    began = time.perf_counter()
    decide, interpreted = (decision_ms(SHIPPED, how) for how in ("compiled", "interpreted"))
    with tempfile.TemporaryDirectory() as folder:
        speed = training_speed(args.updates, Path(folder))
    report = {
        "figures": {
            "train_steps_per_s": speed["steps_per_s"],
            "decision_p99_ms": decide["p99"],
            "decision_p50_ms": decide["p50"],
            "decision_interpreted_p99_ms": interpreted["p99"],
            "decision_interpreted_p50_ms": interpreted["p50"],
            "five_million_steps_min": 5e6 / speed["steps_per_s"] / 60.0,
        },
        "context": {
            "torch_in_serving_process": bool(decide["torch"] or interpreted["torch"]),
            "rollout_share": speed["collect_s"] / speed["all_s"],
            "updates": args.updates,
            "seconds": round(time.perf_counter() - began, 1),
        },
    }
    if args.json:
        print(json.dumps(report))
    else:
        for name, value in report["figures"].items():
            print(f"{name:24s} {value:12.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
