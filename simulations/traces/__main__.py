"""Summarise a recorded workload: `python -m simulations.traces FILE [--format F] [--problems N] [--json]`."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect_intelligent.errors import PrefectIntelligentError
from simulations.traces import FORMATS, Trace, read_trace


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m simulations.traces", description="Read a recorded workload.")
    parser.add_argument("file", type=Path, help="the trace, plain or gzipped")
    parser.add_argument("--format", metavar="NAME", help=f"{', '.join(FORMATS)}; without it told from the file")
    parser.add_argument("--problems", type=int, default=5, help="how many lines left out are shown (default: 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    try:
        trace = read_trace(args.file, args.format)
    except PrefectIntelligentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    figures = summarise(trace)
    shown = [str(problem) for problem in trace.problems[: max(0, args.problems)]]
    if args.json:
        print(json.dumps({"file": str(trace.source), **figures, "problems": shown}, indent=2, allow_nan=False))
        return 0
    for name, value in figures.items():
        print(f"{name:20} {'-' if value is None else value if isinstance(value, str) else f'{value:g}'}")
    for line in shown:
        print(f"left out: {line}")
    return 0


def summarise(trace: Trace) -> dict[str, Any]:
    """Figures of a trace; None is unknown."""
    runs = trace.runs
    span_s = float(runs["submit_s"].max())
    gaps = runs["submit_s"].diff().dropna()
    return {
        "format": trace.format,
        "runs": len(trace),
        "lines_left_out": len(trace.problems),
        "deployments": int(runs["deployment"].nunique()),
        "queues": int(runs["queue"].nunique()),
        "span_days": _known(span_s / 86400.0),
        "interarrival_cv": _known(float(gaps.std(ddof=0) / gaps.mean())) if len(gaps) and gaps.mean() > 0 else None,
        "duration_p50_s": float(runs["duration_s"].median()),
        "duration_p99_s": float(runs["duration_s"].quantile(0.99)),
        "wait_p50_s": _known(float(runs["wait_s"].median())),
        "failed_share": None if runs["failed"].isna().all() else float(runs["failed"].mean()),
        "links": int(runs["parents"].map(len).sum()),
    }


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


if __name__ == "__main__":
    sys.exit(main())
