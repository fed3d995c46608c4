"""A synthetic pool of any size for the dashboard, shared by the benchmark, the browser tests and the pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from prefect_intelligent.dashboard.details import DetailReader
from prefect_intelligent.dashboard.prefect_links import PrefectLinks
from prefect_intelligent.dashboard.state import StateBuilder
from prefect_intelligent.domain import (
    Estimate,
    PoolSetting,
    Prices,
    QueueSetting,
    QueueState,
    Run,
    RunPhase,
    Snapshot,
)
from prefect_intelligent.domain.slot_account import SlotAccount
from prefect_intelligent.history.runs_frame import as_runs
from prefect_intelligent.pipelines.graph import Edge, EdgeEvidence, Graph, build_graph
from prefect_intelligent.testing.history import InMemoryHistory, switched_on

NAMES = ("ingest", "clean", "features", "train", "score", "report", "export", "audit")
EVIL = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"


def snapshot(now_s: float, *, runs: int = 400, deployments: int = 60, queues: int = 6, seed: int = 0) -> Snapshot:
    """A busy pool: a tenth of the runs active, half waiting, the rest upcoming; one deployment has a hostile name."""
    rng = np.random.default_rng(seed)
    states = []
    per_queue = runs // queues
    for q in range(queues):
        found: dict[RunPhase, list[Run]] = {phase: [] for phase in RunPhase}
        for number in range(per_queue):
            share = number / per_queue
            phase = RunPhase.RUNNING if share < 0.1 else RunPhase.WAITING if share < 0.6 else RunPhase.UPCOMING
            d = int(rng.integers(0, deployments))
            scheduled = now_s + (
                float(rng.uniform(30, 5400)) if phase is RunPhase.UPCOMING else -float(rng.exponential(400))
            )
            p50 = float(rng.lognormal(5.0, 0.8))
            found[phase].append(
                Run(
                    id=f"{q}-{number}",
                    deployment=f"{NAMES[d % len(NAMES)]}/{EVIL if d == 7 else f'daily-{d:03d}'}",
                    queue=f"queue-{q}",
                    phase=phase,
                    scheduled_s=scheduled,
                    estimate=Estimate(p50_s=p50, p90_s=2.2 * p50),
                    started_s=now_s - float(rng.uniform(5, p50)) if phase is RunPhase.RUNNING else None,
                    due_s=scheduled + float(rng.uniform(900, 9000)) if number % 2 else None,
                    late_usd_per_hour=float(rng.integers(1, 40)),
                    failure_probability=float(rng.beta(1, 12)),
                )
            )
        states.append(
            QueueState(
                setting=QueueSetting(name=f"queue-{q}", priority=10 * (q + 1), limit=None if q % 3 else 12),
                waiting=tuple(sorted(found[RunPhase.WAITING], key=lambda run: run.scheduled_s)),
                active=tuple(found[RunPhase.RUNNING]),
                upcoming=tuple(sorted(found[RunPhase.UPCOMING], key=lambda run: run.scheduled_s)),
            )
        )
    active = sum(len(state.active) for state in states)
    return Snapshot(
        at_s=now_s,
        pool=PoolSetting(name="warehouse", limit=max(1, int(active * 1.2))),
        queues=tuple(states),
        prices=Prices(slot_usd_per_hour=0.12, lateness_weight=1.0),
    )


def past(now_s: float, *, runs: int = 4000, deployments: int = 60, seed: int = 0) -> pd.DataFrame:
    """A week of ended runs, hourly rhythms, with a bad release and a hostile exception text."""
    rng = np.random.default_rng(seed)
    which = np.arange(runs) % deployments
    submitted = np.sort(now_s - 7 * 86400 + np.arange(runs) / runs * 7 * 86400)
    started = submitted + rng.exponential(40.0, runs)
    failed = rng.random(runs) < np.where(which == 3, 0.1, 0.01)
    bad = (which == 5) & (submitted > now_s - 20 * 3600)
    failed |= bad
    cause = np.where(bad, "KeyError: <text> (clean in etl.py)", f"ValueError: {EVIL}")
    return as_runs(
        pd.DataFrame(
            {
                "deployment": [f"{NAMES[d % len(NAMES)]}/{EVIL if d == 7 else f'daily-{d:03d}'}" for d in which],
                "pool": "warehouse",
                "queue": [f"queue-{d % 6}" for d in which],
                "version": np.where(submitted > now_s - 20 * 3600, "v8", "v7"),
                "host": [f"node-{row % 9}" for row in range(runs)],
                "submitted_s": submitted,
                "scheduled_s": submitted,
                "started_s": started,
                "ended_s": started + rng.lognormal(7.4, 0.35, runs),
                "due_s": submitted + 3600,
                "state": np.where(failed, "FAILED", "COMPLETED"),
                "cause": np.where(failed, cause, None),
                "late_usd_per_hour": 6.0,
                "failure_usd": 0.5,
            }
        )
    )


def records(now_s: float) -> InMemoryHistory:
    """A history with decisions, quality results, a front and recommendations."""
    history = switched_on("warehouse")
    for back in (60.0, 40.0, 20.0, 2.0):
        history.append(
            "decision",
            "warehouse",
            now_s - back,
            {
                "at_s": now_s - back,
                "mode": "auto",
                "policy": "atc+lookahead",
                "outcome": "applied" if back == 20.0 else "unchanged",
                "applied": [["queue-2", "priority", 30, 5], [None, "limit", 44, 52]] if back == 20.0 else [],
                "planned": [],
                "reasons": ["the work waiting needs 8 more slots for 40 min"] if back == 20.0 else [],
                "queues": [{"name": "queue-2", "reasons": ["its first run is due in 6 min and worth $31/h"]}],
                "pool_limit": {"reasons": []},
            },
        )
    verified = (
        ("flights", "passed", [], 0),
        ("flight_weather", "remedied", ["station is known"], 41),
        ("scores", "blocked", ["no missing score", "score between 0 and 1"], 0),
        ("flights_raw", "warned", ["fewer rows than usual"], 0),
    )
    for at, (name, outcome, broken, aside) in enumerate(verified):
        names = [*broken, *(f"check {n}" for n in range(6 - len(broken)))]
        checks = [
            {"name": text, "severity": "major", "outcome": "failed" if text in broken else "passed"} for text in names
        ]
        record = {"dataset": name, "outcome": outcome, "quarantined": aside, "first": {"checks": checks}}
        history.append("quality", name, now_s - 900, record | {"at_s": now_s - 900.0 * (at + 1)})
    dials = [(0.25, 24.0, 71.0), (0.5, 27.5, 44.0), (1.0, 32.0, 24.0), (2.0, 38.5, 15.5), (4.0, 47.0, 11.0)]
    others = [("prefect-default", 31.0, 61.0), ("edf", 33.0, 40.0), ("wspt", 32.5, 35.0)]
    points = [
        {"name": "atc+lookahead", "dial": d, "capacity_usd": c, "lateness_usd": late, "here": d == 1.0}
        for d, c, late in dials
    ]
    points += [
        {"name": name, "dial": None, "capacity_usd": c, "lateness_usd": late, "here": False} for name, c, late in others
    ]
    note = "Replay of the last 14d; lateness at its plain price"
    history.append("front", "warehouse", now_s, {"note": note, "points": points})
    history.append(
        "recommendations",
        "warehouse",
        now_s,
        {
            "rows": [
                {"title": title, "saving_usd_per_day": usd, "interval": [0.8 * usd, 1.15 * usd], "evidence": evidence}
                for title, usd, evidence in (
                    (
                        "Lower the limit of pool warehouse from 60 to 44",
                        38.4,
                        "Of 60 slots 29 were busy half of the time and 43 at the 95 % quantile; "
                        "one run in ten waited 2 min or more.",
                    ),
                    (
                        "Start audit/daily-015 60 min later",
                        6.15,
                        "91% of its runs are due within five minutes of others.",
                    ),
                    (
                        "Give train/daily-003 2048 MB instead of 8192",
                        4.02,
                        "Its runs held at most 1480 MB in 168 runs.",
                    ),
                )
            ]
        },
    )
    return history


def graph() -> Graph:
    """A pipeline of the pool: two sources, cleaned, joined, and read by three."""
    declared = (EdgeEvidence("declared", "terms"),)
    reads = [
        ("flights_raw", "clean/daily-001"),
        ("weather_raw", "features/daily-002"),
        ("flights", "features/daily-002"),
    ]
    reads += [
        ("flights", "train/daily-003"),
        ("flight_weather", "train/daily-003"),
        ("flight_weather", "report/daily-005"),
    ]
    reads += [("model", "score/daily-004"), ("scores", "export/daily-006")]
    writes = [("ingest/daily-000", "flights_raw"), ("ingest/daily-008", "weather_raw"), ("clean/daily-001", "flights")]
    writes += [("features/daily-002", "flight_weather"), ("train/daily-003", "model"), ("score/daily-004", "scores")]
    edges = [Edge(source, target, "reads", declared) for source, target in reads]
    return build_graph([*edges, *(Edge(source, target, "writes", declared) for source, target in writes)])


PRICES = Prices(slot_usd_per_hour=0.12, min_billing_s=900.0, idle_fraction=0.1)
UI = "http://prefect.example"


def ended_runs(frame: pd.DataFrame, **wanted: Any) -> list[dict[str, Any]]:
    """The last ended runs of the table, as `SqlRuns.ended_runs` gives them."""
    found = frame[frame["ended_s"] >= wanted.get("since_s", 0.0)]
    if wanted.get("deployment") is not None:
        found = found[found["deployment"] == wanted["deployment"]]
    found = found.sort_values("ended_s", ascending=False).head(wanted.get("limit", 400))
    named = ("state", "scheduled_s", "started_s", "ended_s", "due_s", "deployment", "queue", "cause")
    rows = [{name: row[name] for name in named} for row in found.to_dict("records")]
    return [{"run_id": f"run-{at}", "name": f"able-ant-{at}", **row} for at, row in enumerate(rows)]


def links(deployments: int = 60) -> PrefectLinks:
    """Addresses at a server that does not exist."""
    names = [f"{NAMES[d % len(NAMES)]}/daily-{d:03d}" for d in range(deployments)]
    return PrefectLinks(ui=UI, deployments={name: f"id-{d}" for d, name in enumerate(names)})


def details(now: Callable[[], float]) -> DetailReader:
    """What the pages beside the dashboard show of the same pool."""
    frame = past(now())
    return DetailReader(
        read_runs=lambda since_s: frame,
        ended_runs=lambda **wanted: ended_runs(frame, **wanted),
        history=records(now()),
        prices_of=lambda pool: PRICES,
        slots_of=lambda pool: SlotAccount.constant(48.0, float(frame["submitted_s"].min())),
        graph=graph,
        links=links,
        now=now,
    )


def builder(now: Callable[[], float], *, runs: int = 400, deployments: int = 60, **more: Any) -> StateBuilder:
    """Everything together."""
    began = now()
    pool = snapshot(began, runs=runs, deployments=deployments)
    history = records(began)
    frame = past(began, runs=max(4000, 30 * deployments), deployments=deployments)
    return StateBuilder(
        observe=lambda: replace(pool, at_s=now()),
        read_runs=lambda since_s: frame,
        history=history,
        pool="warehouse",
        prices=PRICES,
        graph=graph,
        now=now,
        **{
            "slots": lambda: SlotAccount.constant(48.0, float(frame["submitted_s"].min())),
            "ended_runs": lambda since_s: ended_runs(frame, since_s=since_s),
            "links": lambda: links(deployments),
            **more,
        },
    )
