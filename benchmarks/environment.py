"""What a minute of stable-baselines3 learns in the environment, with the lines of docs/reference/environment.md.

    python -m benchmarks.environment --json

The page's own lines are run. `trained_saved` is what the trained policy saves on the days that they hold out, in per
cent of log cost against the base rule; `untrained_saved` and `random_saved` are the same before it has learned and for
random actions.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "environment.md"


class _Random:
    """Draws actions; has the `predict` of a policy."""

    def __init__(self, env: Any) -> None:
        self._env = env
        env.action_space.seed(0)

    def predict(self, observation: Any, *_: Any, **__: Any) -> tuple[Any, None]:
        """Random actions, whatever is seen."""
        return np.stack([self._env.action_space.sample() for _ in range(self._env.num_envs)]), None


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.environment", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    began = time.perf_counter()
    exec(code.replace("verbose=1", "verbose=0"), names)  # the page is the program
    took_s = time.perf_counter() - began
    env = names["VecMonitor"](names["PrefectClusterVecEnv"](64, split="validation", **names["days"]))
    untrained = names["PPO"](names["LeverPolicy"], names["env"], seed=0)
    saved = {
        "trained_saved": names["saved"],
        "untrained_saved": names["evaluate_policy"](untrained, env, 64),
        "random_saved": names["evaluate_policy"](_Random(env), env, 64),
    }
    report = {
        "figures": {name: float(mean) for name, (mean, _) in saved.items()} | {"learning_s": took_s},
        "context": {"days": 64, "settings": {name: str(value) for name, value in names["days"].items()}},
    }
    if args.json:
        print(json.dumps(report))
    else:
        for name, value in report["figures"].items():
            print(f"{name:16s} {value:8.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
