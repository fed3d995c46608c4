"""Write the default arm of a demo as a recording for `prefect-intelligent replay`.

python -m flows.demo.record demo-output/result.json docs/examples/demo-morning.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from prefect_intelligent.domain import PoolSetting, Prices, QueueSetting
from prefect_intelligent.domain.instants import unix_s
from prefect_intelligent.errors import InvalidInputError, PrefectIntelligentError
from prefect_intelligent.history.runs_frame import as_runs
from prefect_intelligent.wiring.replay import Recording, write_recording

POLL_S = 1.0
"""The demo's worker polls every second."""


def record(result: Mapping[str, Any]) -> Recording:
    """The runs of the default arm, with the settings of the pool.

    Raises:
        InvalidInputError: It is not the result of a demo.
    """
    try:
        arm, prices = result["default"], result["context"]["prices"]
        runs = as_runs(pd.DataFrame([_row(run) for run in arm["runs"]]))
        queues = {name: number for name, number in arm["priorities"][0].items() if name != "at_s"}
        limit = arm["pool_limit"][0]["slots"]
    except (KeyError, IndexError, TypeError) as error:
        raise InvalidInputError("result", str(error), "is not the result.json of a demo") from error
    startup = [unix_s(run["running"]) - unix_s(run["started"]) for run in arm["runs"]]
    return Recording(
        pool=PoolSetting(name="flights", limit=limit),
        queues=tuple(QueueSetting(name=name, priority=number) for name, number in queues.items()),
        prices=Prices(**prices),
        poll_s=POLL_S,
        startup_s=float(pd.Series(startup).median()),
        runs=runs,
    )


def _row(run: Mapping[str, Any]) -> dict[str, Any]:
    scheduled = unix_s(run["scheduled"])
    return {
        "deployment": run["deployment"],
        "queue": run["queue"],
        "state": "FAILED" if run["failed"] else "COMPLETED",
        "scheduled_s": scheduled,
        "submitted_s": scheduled,
        "started_s": unix_s(run["running"]),
        "ended_s": unix_s(run["finished"]),
        "due_s": None if run["due"] is None else unix_s(run["due"]),
        "late_usd_per_hour": run["late_usd_per_hour"],
        "failure_usd": 0.0,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.demo.record", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("result", type=Path, help="result.json of a demo")
    parser.add_argument("recording", type=Path, help="file to write")
    args = parser.parse_args(argv)
    try:
        write_recording(args.recording, record(json.loads(args.result.read_text(encoding="utf-8"))))
    except (PrefectIntelligentError, OSError, json.JSONDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
