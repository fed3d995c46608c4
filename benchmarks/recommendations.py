"""Whether recommendations find planted faults, and how well the promised saving agrees with the simulated one.

    python -m benchmarks.recommendations --json [--worlds 100]

Each seeded world is a pool with one planted fault: a pool limit far above need, a valuable queue served last, a heavy
deployment scheduled together with urgent ones, a queue limit that is too tight, an urgent deployment in a crowded
queue, slots divided among queues, retries that never help, a heavy deployment that nobody reads, or a deadline shorter
than the work. A week of it is simulated and handed to `recommend` as history. Found means: among the first three. The
promise is compared with the next week (other arrivals, other durations), simulated as it was and with the recommended
change.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace

import numpy as np
import pandas as pd

from prefect_intelligent.domain import PoolSetting, Prices, QueueSetting
from prefect_intelligent.history.runs_frame import as_runs
from prefect_intelligent.recommendations.evaluate import changed_world, recommend, replay_daily_cost, replayable_runs
from prefect_intelligent.recommendations.model import ReplayInput
from prefect_intelligent.twin.simulator import Twin

FAULTS = (
    "oversized pool",
    "starving queue",
    "colliding schedule",
    "tight queue limit",
    "crowded queue",
    "divided slots",
    "futile retries",
    "unread deployment",
    "impossible deadline",
)
WEEK_S = 7 * 86400.0
EXPECTED = {
    "oversized pool": ("pool-limit", "main"),
    "starving queue": ("order", "gold"),
    "colliding schedule": ("schedule", "heavy/nightly"),
    "tight queue limit": ("queue-limit", "gold"),
    "crowded queue": ("split", "gold/report"),
    "divided slots": ("merge", "gold and silver"),
    "futile retries": ("retries", "gold/flaky"),
    "unread deployment": ("unread", "gold/legacy"),
    "impossible deadline": ("deadline", "gold/report"),
}


def plant(fault: str, seed: int) -> tuple[PoolSetting, tuple[QueueSetting, ...], Prices]:
    """Settings of a world with one fault."""
    rng = np.random.default_rng(seed)
    limit = {"oversized pool": int(rng.integers(24, 40))}.get(fault, 6)
    gold = 90 if fault == "starving queue" else 10
    queues = (
        QueueSetting(name="bulk", priority=50),
        QueueSetting(name="gold", priority=gold, limit=1 if fault in ("tight queue limit", "divided slots") else None),
        QueueSetting(name="silver", priority=30, limit=3 if fault == "divided slots" else None),
    )
    return PoolSetting(name="main", limit=limit), queues, Prices(slot_usd_per_hour=0.10)


def submissions(fault: str, seed: int, week: int) -> pd.DataFrame:
    """The runs of one week before anything waits: they start when they are due."""
    rng = np.random.default_rng([seed, week])
    rows: list[tuple[str, str, float, float, float, float]] = []
    for day in range(7):
        base = day * 86400.0
        for hour in range(24):
            for number in range(3):
                at = base + hour * 3600.0 + 1200.0 * number + float(rng.uniform(0, 900))
                rows.append(("bulk/load", "bulk", at, float(rng.lognormal(6.6, 0.4)), 7200.0, 0.5))
            at = base + hour * 3600.0 + float(rng.uniform(0, 3600))
            rows.append(("silver/sync", "silver", at, float(rng.lognormal(5.5, 0.3)), 3600.0, 2.0))
        tight = fault in ("tight queue limit", "divided slots")
        home = "bulk" if fault == "crowded queue" else "gold"
        within = 300.0 if fault == "impossible deadline" else 1800.0
        for number in range(18 if tight else 8):
            at = base + 6 * 3600.0 + number * (400.0 if tight else 1800.0)
            rows.append(("gold/report", home, at, float(rng.lognormal(6.4, 0.2)), within, 30.0))
        for number in range(30 if fault in ("futile retries", "unread deployment") else 0):
            at = base + 6 * 3600.0 + number * 400.0
            if fault == "futile retries":  # four tries each, and it fails
                rows.append(("gold/flaky", "gold", at, 4.0 * float(rng.lognormal(6.9, 0.2)), 36000.0, 0.0))
            else:
                rows.append(("gold/legacy", "gold", at, float(rng.lognormal(8.2, 0.2)), 90000.0, 0.0))
        if fault == "crowded queue":
            for number in range(60):
                at = base + 6 * 3600.0 + number * 200.0
                rows.append(("bulk/wave", "bulk", at, float(rng.lognormal(7.4, 0.2)), 36000.0, 0.2))
        if fault == "starving queue":
            for number in range(40):
                at = base + 6 * 3600.0 + number * 200.0
                rows.append(("bulk/wave", "bulk", at, float(rng.lognormal(7.6, 0.2)), 36000.0, 0.2))
        if fault == "colliding schedule":
            for _ in range(8):
                rows.append(("heavy/nightly", "gold", base + 3 * 3600.0, float(rng.lognormal(7.5, 0.1)), 30000.0, 0.2))
            for number in range(5):
                at = base + 3 * 3600.0 + 60.0 + number
                rows.append(("urgent/feed", "gold", at, float(rng.lognormal(5.5, 0.1)), 900.0, 40.0))
    frame = pd.DataFrame(
        rows, columns=["deployment", "queue", "scheduled_s", "work_s", "within_s", "late_usd_per_hour"]
    )
    start = 1.7e9 + week * WEEK_S
    frame["scheduled_s"] += start
    return as_runs(
        frame.assign(
            pool="main",
            submitted_s=frame["scheduled_s"],
            started_s=frame["scheduled_s"],
            ended_s=frame["scheduled_s"] + frame["work_s"],
            due_s=frame["scheduled_s"] + frame["within_s"],
            state=np.where(frame["deployment"] == "gold/flaky", "FAILED", "COMPLETED"),
            attempts=np.where(frame["deployment"] == "gold/flaky", 4.0, 1.0),
        )
    )


def world(fault: str, seed: int, week: int) -> ReplayInput:
    """One week of a world, before anything waits."""
    pool, queues, prices = plant(fault, seed)
    unread = ("gold/legacy",) if fault == "unread deployment" else ()
    return ReplayInput(runs=submissions(fault, seed, week), pool=pool, queues=queues, prices=prices, unread=unread)


def live_through(past: ReplayInput, seed: int) -> ReplayInput:
    """The week as it would have been recorded: with the waits that its settings bring."""
    runs = replayable_runs(past)
    start = float(runs["scheduled_s"].min())
    twin = Twin(changed_world(past, runs, None, start, seed))
    twin.finish()
    state = twin.state.runs[0, : len(runs)]
    seen = runs.copy()
    seen["started_s"] = state["first_claimed_s"]
    seen["ended_s"] = state["first_claimed_s"] + np.maximum(0.1, runs["ended_s"] - runs["started_s"])
    return replace(past, runs=seen)


def measure(worlds: int) -> tuple[dict[str, float], dict[str, object]]:
    """Share of planted faults among the first three, and the error of the promised saving."""
    found: dict[str, list[bool]] = {fault: [] for fault in FAULTS}
    errors: list[float] = []
    by_fault: dict[str, list[float]] = {fault: [] for fault in FAULTS}
    for seed in range(worlds):
        fault = FAULTS[seed % len(FAULTS)]
        proposals = recommend(live_through(world(fault, seed, 0), seed), np.random.default_rng(seed), seed=seed)
        hits = [p for p in proposals[:3] if (p.change.kind, p.change.subject) == EXPECTED[fault]]
        found[fault].append(bool(hits))
        if hits:
            before, after = replay_daily_cost(world(fault, seed, 1), [None, hits[0].change], seed=seed + 1)
            real = float((before - after).mean())
            errors.append(abs(hits[0].saving_usd_per_day - real) / max(abs(real), 1e-9))
            by_fault[fault].append(errors[-1])
    every = [hit for hits in found.values() for hit in hits]
    figures = {
        "planted_in_top3": float(np.mean(every)),
        "saving_error_median": float(np.median(errors)) if errors else float("nan"),
        "worlds": float(worlds),
    }
    figures |= {f"planted_{fault.replace(' ', '_')}": float(np.mean(hits)) for fault, hits in found.items() if hits}
    figures |= {f"error_{fault.replace(' ', '_')}": float(np.median(e)) for fault, e in by_fault.items() if e}
    return figures, {"faults": list(FAULTS), "promise": "replayed week", "truth": "next week, other arrivals"}


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--worlds", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.worlds < 1:
        print(f"error: --worlds: got {args.worlds}; must be 1 or more", file=sys.stderr)
        return 2
    figures, context = measure(args.worlds)
    if args.json:
        print(json.dumps({"figures": figures, "context": context}))
    else:
        for name, value in figures.items():
            print(f"{name:32} {value:8.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
