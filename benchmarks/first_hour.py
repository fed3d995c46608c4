"""What a stranger meets in the first hour: `python -m benchmarks.first_hour --json`.

A real server has a process pool of two slots, and the history two weeks of five flows. `agreeing_accounts` is 1 if
replay, recommend, report and dashboard name the same daily cost within 1 %. `limit_changes_per_hour_idle` is how often
a controller with default settings changes the pool's limit, in the busiest hour of a day of the twin.
`table_words_broken` counts words of 80 columns that the same command does not print where there is room.
`useless_shifts` counts proposed schedules that are the present ones. `silent_seconds_max` is the longest time without a
line while a command learns, replays, recommends or calibrates. `command_start_over_prefect` compares CPU time.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import selectors
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from tests.real_prefect import RealServer  # first: it scrubs the environment

import numpy as np  # isort: skip
import pandas as pd

from prefect_intelligent.cli import main as main_of_ours
from prefect_intelligent.domain import PoolSetting, Prices, QueueSetting
from prefect_intelligent.history.adapters.sql_records import open_engine
from prefect_intelligent.history.adapters.sql_runs import SqlRuns
from prefect_intelligent.history.rows import QueueFact, RunFact
from prefect_intelligent.history.runs_frame import as_runs
from prefect_intelligent.policy import parse_policy
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.recommendations.candidates import propose
from prefect_intelligent.recommendations.model import ReplayInput
from prefect_intelligent.replay.replay import history_world
from prefect_intelligent.settings import Settings
from prefect_intelligent.twin.closed_loop import ClosedLoop
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import PoolSpec

ROOT = Path(__file__).resolve().parent.parent
DAY_S, DAYS = 86400.0, 14
FLOWS = {  # runs a day, median seconds, share that fails, seconds until due, price of an hour's lateness
    "ingest-orders/hourly": (24, 240.0, 0.02, 1800.0, 10.0),
    "clean-customers-and-orders/hourly": (24, 180.0, 0.04, None, 0.0),
    "report-of-yesterday/morning": (1, 600.0, 0.02, 3600.0, 120.0),
    "sync-inventory/every-quarter": (96, 40.0, 0.01, 600.0, 4.0),
    "backfill/by-hand": (3, 5400.0, 0.1, None, 0.0),
}
TABLES = (
    ("report", "--last", "14d"),
    ("report", "--last", "14d", "--money"),
    ("report", "--last", "14d", "--by", "hour"),
    ("report", "--last", "14d", "--by", "queue", "--money"),
    ("health", "--last", "14d"),
    ("health", "--of", "queues", "--last", "14d"),
    ("config",),
    ("eta",),
    ("explain",),
    ("doctor",),
    ("control", "status"),
    ("control", "adopt"),
    ("control", "restore", "--dry-run"),
    ("graph", "show"),
    ("predict",),
    ("prevent", "scores"),
    ("recommend", "--last", "14d"),
    ("alerts",),
    ("terms", "show"),
)


def runs_of_a_pool(pool: str, queue: str, now_s: float, seed: int = 0) -> list[RunFact]:
    """Two weeks of runs that ended within the last hour at the latest; at most two of them at once, in due order."""
    rng = np.random.default_rng(seed)
    begin_s = now_s - DAYS * DAY_S
    planned = []
    for name, (per_day, median_s, fails, within_s, usd) in FLOWS.items():
        for number in range(per_day * DAYS):
            at_s = begin_s + (number + 0.5) * DAY_S / per_day
            if name.startswith("backfill"):
                at_s = begin_s + number // per_day * DAY_S + float(rng.uniform(0, DAY_S / 3))
            planned.append(
                (at_s, name, float(rng.lognormal(np.log(median_s), 0.3)), rng.random() < fails, within_s, usd)
            )
    free, facts = [begin_s, begin_s], []
    for number, (at_s, name, took_s, failed, within_s, usd) in enumerate(sorted(planned)):
        slot = int(np.argmin(free))
        started_s = max(at_s + float(rng.uniform(2, 12)), free[slot])
        free[slot] = started_s + took_s
        if free[slot] > now_s:
            break
        state, cause = ("FAILED", "TimeoutError: <text>") if failed else ("COMPLETED", None)
        facts.append(
            RunFact(
                f"r{number}", f"run-{number}", pool, queue, name, "v1", None, state, cause, at_s, at_s - 3600.0,
                started_s, free[slot], None if within_s is None else at_s + within_s, None, None, 1, usd, None, None,
            )
        )  # fmt: skip
    return facts


class Place:
    """A server with the pool, and a folder with the history."""

    def __init__(self, server: RealServer, folder: Path) -> None:
        self.folder = folder
        self.pool = server.api().pool("strangers-pool", limit=2)
        deployment = server.api().deployment(self.pool, "default")
        server.api().run(deployment, in_s=-30)
        self.env = server.env(
            PREFECT_INTELLIGENT_DATA_DIR=str(folder / "data"),
            PREFECT_INTELLIGENT_POOL=self.pool,
            PYTHONPATH=str(ROOT),
            MLFLOW_TRACKING_URI=f"sqlite:///{folder / 'mlflow.db'}",
        )
        self.env.pop("COLUMNS", None)
        (folder / "data").mkdir(parents=True)
        now_s = time.time()
        store = SqlRuns(open_engine(f"sqlite:///{folder / 'data' / 'history.db'}"))
        self.facts = runs_of_a_pool(self.pool, "default", now_s)
        store.put(runs=self.facts)
        store.put_queues(
            [
                QueueFact(self.pool, "", now_s - DAYS * DAY_S, None, 2, False),
                QueueFact(self.pool, "default", now_s - DAYS * DAY_S, 1, None, False),
            ]
        )

    def run(self, *words: str, **env: str) -> str:
        """Standard output of one of our commands; exit code 1 is a finding, not an error."""
        command = [sys.executable, "-m", "prefect_intelligent", *words]
        done = subprocess.run(command, env={**self.env, **env}, cwd=self.folder, capture_output=True, text=True)
        if done.returncode not in (0, 1):
            raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr[-500:]}")
        return done.stdout

    def prints(self, words: Sequence[str], columns: str) -> str:
        """Standard output of one of our commands on a screen of so many columns, run in this process."""
        from prefect.settings import PREFECT_API_URL, temporary_settings

        known = {name: value for name, value in self.env.items() if name.startswith("PREFECT_INTELLIGENT_")}
        out, before, here = io.StringIO(), dict(os.environ), Path.cwd()
        try:
            os.environ |= known | {"COLUMNS": columns}
            os.chdir(self.folder)
            with temporary_settings({PREFECT_API_URL: self.env["PREFECT_API_URL"]}), redirect_stdout(out):
                code = main_of_ours(words)
        finally:
            os.chdir(here)
            os.environ.clear()
            os.environ.update(before)
        if code not in (0, 1):
            raise RuntimeError(f"{' '.join(words)} ended with {code}")
        return out.getvalue()


def daily_costs(place: Place) -> dict[str, float]:
    """What each of four commands says that a day has cost, US dollars."""
    last = ("--last", f"{DAYS}d", "--json")
    replayed = json.loads(place.run("replay", "--policies", "edf", *last))
    page = place.folder / "page.html"
    place.run("report", "--last", f"{DAYS}d", "--html", str(page))
    inside = page.read_text("utf-8").split('<script type="application/json" id="state">')[1].split("</script>")[0]
    return {
        "replay": replayed["history_usd_per_day"],
        "recommend": json.loads(place.run("recommend", *last))["usd_per_day"],
        "report": json.loads(place.run("report", *last))["money"]["usd_per_day"],
        "dashboard": json.loads(inside)["totals"]["usd_per_day"],
        "twin of replay": replayed["policies"][0]["usd_per_day"],
    }


def limit_changes(facts: Sequence[RunFact], prices: Prices) -> int:
    """Most changes of the pool's limit within an hour of a day of the twin, under the rule that settings name."""
    runs = as_runs(pd.DataFrame([fact for fact in facts if fact.scheduled_s is not None]))
    first = float(runs["scheduled_s"].min())
    day = runs[runs["scheduled_s"] < first + DAY_S].reset_index(drop=True)

    pool = PoolSpec(queues=(QueueSetting(name="default", priority=1),), limit=2, prices=prices)
    loop = ClosedLoop(Twin(history_world(day, pool)), Regime())
    policy, at_s, limits = parse_policy(Settings().policy), [], []
    while loop.running[0]:
        loop.step(policy.propose(loop.census))
        at_s.append(float(loop.twin.now_s[0]))
        limits.append(float(loop.twin.state.pools["limit"].reshape(-1)[0]))
    changed = np.array(at_s[1:])[np.diff(limits) != 0]
    return max((int(((changed >= one) & (changed < one + 3600.0)).sum()) for one in changed), default=0)


def words_broken(place: Place) -> dict[str, list[str]]:
    """Words that a command prints at 80 columns and not where there is room, by command."""
    found = {}
    if not (place.folder / "data" / "forecaster").exists():
        place.prints(("predict", "train"), "80")
    ours = {"Left", "out", "for", "want", "of", "room", "--json", "has", "have", "them"}
    for words in TABLES:
        wide, narrow = ({_word(text) for text in place.prints(words, columns).split()} for columns in ("1000", "80"))
        broken = [w for w in sorted(narrow - wide - ours) if set(w) - {"-"} and not any(sign.isdigit() for sign in w)]
        if broken:
            found[" ".join(words)] = broken
    return found


def _word(text: str) -> str:
    return text.rstrip(",;.:")


def useless_shifts(histories: int) -> int:
    """Proposed shifts by a whole number of periods, over seeded histories of flows that start together."""
    found = 0
    for seed in range(histories):
        rng = np.random.default_rng(seed)
        periods = rng.choice([900.0, 1800.0, 3600.0, 7200.0, 43200.0, 86400.0], 4)
        rows = []
        for number, period_s in enumerate(periods):
            for at in np.arange(0.0, 4 * DAY_S, period_s):
                took = float(rng.exponential(300.0))
                rows.append((f"flow-{number}/x", at, at, at + 5.0, at + 5.0 + took, "COMPLETED", "default", "p"))
        named = ("deployment", "scheduled_s", "submitted_s", "started_s", "ended_s", "state", "queue", "pool")
        runs = as_runs(pd.DataFrame(rows, columns=named))
        inputs = ReplayInput(runs=runs, pool=PoolSetting(name="p", limit=4), queues=(), prices=Prices())
        for change in propose(inputs, runs):
            for name, shift_s in change.shift_s.items():
                period_s = periods[int(name.removeprefix("flow-").split("/")[0])]
                found += int(shift_s % period_s == 0)
    return found


def longest_silence(command: Sequence[str], env: Mapping[str, str], cwd: Path) -> tuple[float, float]:
    """Longest time between two outputs of a command, its start and its end among them; and its whole time, seconds."""
    began = last = time.monotonic()
    silent = 0.0
    process = subprocess.Popen(command, env=dict(env), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    with selectors.DefaultSelector() as ready:
        for pipe in (process.stdout, process.stderr):
            ready.register(pipe, selectors.EVENT_READ)
        while ready.get_map():
            for key, _ in ready.select():
                if not os.read(key.fd, 65536):
                    ready.unregister(key.fileobj)
                now = time.monotonic()
                silent, last = max(silent, now - last), now
    if process.wait() not in (0, 1):
        raise RuntimeError(f"{' '.join(command[2:])} ended with {process.returncode}")
    return silent, time.monotonic() - began


def cpu_seconds(command: Sequence[str], env: Mapping[str, str], cwd: Path) -> float:
    """CPU time of a command and of what it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=dict(env), cwd=cwd, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--histories", type=int, default=100, help="seeded histories for useless_shifts (default: 100)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure (default: all)")
    args = parser.parse_args()
    figures: dict[str, Any] = {}
    context: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        server = RealServer(Path(scratch) / "server").start()
        try:
            place = Place(server, Path(scratch))
            context["runs"] = len(place.facts)
            for part in args.only:
                began = time.monotonic()
                found, seen = _measure(part, place, args.histories)
                print(f"{part} in {time.monotonic() - began:.0f} s: {found} {seen}", file=sys.stderr, flush=True)
                figures |= found
                context |= seen
        finally:
            server.stop()
    if args.json:
        print(json.dumps({"figures": figures, "context": context}))
    else:
        for name, value in figures.items():
            print(f"{name:32} {value}")


PARTS = ("silence", "accounts", "tables", "limits", "shifts", "start")


def _measure(part: str, place: Place, histories: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures and context of one part."""
    ours, calibrate = ([sys.executable, "-m", name] for name in ("prefect_intelligent", "simulations.calibrate"))
    if part == "silence":
        long_ones = {
            "predict train": [*ours, "predict", "train"],
            "replay": [*ours, "replay"],
            "recommend": [*ours, "recommend"],
            "calibrate": [*calibrate, "--history", "--pool", place.pool, "-o", str(place.folder / "pool.toml")],
        }
        found = {name: longest_silence(words, place.env, place.folder) for name, words in long_ones.items()}
        silent, took = ({name: round(each[which], 2) for name, each in found.items()} for which in (0, 1))
        return {"silent_seconds_max": max(silent.values())}, {"silent_seconds": silent, "seconds": took}
    if part == "accounts":
        costs = daily_costs(place)
        named = [costs[name] for name in ("replay", "recommend", "report", "dashboard")]
        agree = int(max(named) - min(named) <= 0.01 * max(named))
        return {"agreeing_accounts": agree}, {"usd_per_day": {name: round(value, 4) for name, value in costs.items()}}
    if part == "tables":
        broken = words_broken(place)
        return {"table_words_broken": sum(len(words) for words in broken.values())}, {"words_broken": broken}
    if part == "limits":
        unpriced, priced = Settings().prices_of(place.pool), Prices(idle_fraction=1.0)
        changes = {"limit_changes_per_hour_idle": limit_changes(place.facts, unpriced)}
        return changes, {"limit_changes_per_hour_where_idle_slots_cost": limit_changes(place.facts, priced)}
    if part == "shifts":
        return {"useless_shifts": useless_shifts(histories)}, {}
    commands = {"control status": [*ours, "control", "status"], "prefect version": [_prefect(), "version"]}
    cpu_s = {
        name: statistics.median(cpu_seconds(words, place.env, place.folder) for _ in range(3))
        for name, words in commands.items()
    }
    ratio = cpu_s["control status"] / cpu_s["prefect version"]
    return {"command_start_over_prefect": round(ratio, 2)}, {
        "cpu_s": {n: round(value, 2) for n, value in cpu_s.items()}
    }


def _prefect() -> str:
    return str(Path(sys.executable).with_name("prefect"))


if __name__ == "__main__":
    main()
