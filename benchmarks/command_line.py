"""How long help pages take to appear: `python -m benchmarks.command_line --json`.

Processes are started in turn, a bare Python among them, so that a busy machine slows all of them; the best of many is
taken. With `--tree FOLDER` the package in another checkout is measured, e.g. that of an earlier commit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def best_ms(commands: dict[str, list[str]], rounds: int, tree: Path) -> dict[str, float]:
    """Name to the shortest time of its command, milliseconds.

    Args:
        commands: Name to the arguments of Python.
        rounds: How often each is started.
        tree: Folder in which they are started and from which they import.
    """
    env = {**os.environ, "PYTHONPATH": str(tree)}
    best = dict.fromkeys(commands, float("inf"))
    for _ in range(rounds):
        for name, arguments in commands.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], env=env, cwd=tree, stdout=subprocess.DEVNULL, check=True)
            best[name] = min(best[name], 1000 * (time.perf_counter() - began))
    return best


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--tree", type=Path, default=ROOT, metavar="FOLDER", help="checkout to measure (default: this)")
    args = parser.parse_args()
    program = ["-m", "prefect_intelligent"]
    commands = {
        "python": ["-c", "pass"],
        "help": [*program, "--help"],
        "version": [*program, "--version"],
        "command_help": [*program, "control", "run", "--help"],
        "light_command": [*program, "config", "--json"],
    }
    found = best_ms(commands, args.rounds, args.tree.resolve())
    figures: dict[str, Any] = {
        "help_start_ms": round(found["help"], 1),
        "help_start_vs_python": round(found["help"] / found["python"], 2),
        "command_help_ms": round(found["command_help"], 1),
        "command_help_vs_python": round(found["command_help"] / found["python"], 2),
    }
    context = {
        "python_ms": round(found["python"], 1),
        "version_ms": round(found["version"], 1),
        "config_ms": round(found["light_command"], 1),
        "command": "control run --help",
        "rounds": args.rounds,
        "cpus": os.cpu_count(),
    }
    if args.json:
        print(json.dumps({"figures": figures, "context": context}))
    else:
        for name, value in (figures | context).items():
            print(f"{name:24} {value}")


if __name__ == "__main__":
    main()
