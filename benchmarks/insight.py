"""How fast the history is copied, a report is made and the dashboard shows a change.

    python -m benchmarks.insight --json [--only report,sync,dashboard]

`report_1m_s` reads a million runs of a thousand deployments from SQLite, as `sync` leaves them there, and analyses
them; `report_1m_unpacked_s` does so without the packed days that `sync` makes. `sync_runs_per_s` copies the runs of a
real Prefect server on SQLite; `prefect_read_runs_per_s` is what reading a quarter of the same runs from the same server
takes page by page, without storing them (`sync` reads windows of time instead, which avoids deep pages).
The dashboard is measured in headless Chromium with a thousand deployments and ten thousand runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from prefect_intelligent.analytics.failure_signatures import group_causes
from prefect_intelligent.analytics.run_metrics import analyse
from prefect_intelligent.history.adapters.sql_records import open_engine
from prefect_intelligent.history.adapters.sql_runs import SqlRuns
from prefect_intelligent.history.rows import RunFact

Figures = dict[str, float]
NOW_S = 1_750_000_000.0
DAY_S = 86400.0
_SQLITE_TIME = "%Y-%m-%d %H:%M:%f"


def make_facts(count: int, *, deployments: int, days: float, seed: int = 0, first: int = 0) -> list[RunFact]:
    """Ended runs of a busy month: eight queues, three versions, twenty hosts, one failure in twenty."""
    rng = np.random.default_rng(seed)
    submitted = np.sort(rng.uniform(NOW_S - days * DAY_S, NOW_S - 3600.0, count))
    started = submitted + rng.exponential(60.0, count)
    ended = started + rng.lognormal(4.0, 1.0, count)
    which = rng.integers(0, deployments, count)
    failed = rng.random(count) < 0.05
    facts = []
    for row in range(count):
        d = int(which[row])
        facts.append(
            RunFact(
                run_id=f"{first + row:036d}",
                name=None,
                pool="main",
                queue=f"queue-{d % 8}",
                deployment=f"flow-{d % 40}/deployment-{d}",
                version=f"v{row * 3 // count}",
                host=f"host-{row % 20}",
                state="FAILED" if failed[row] else "COMPLETED",
                cause=f"ValueError: case {row % 40}" if failed[row] else None,
                scheduled_s=float(submitted[row]),
                submitted_s=float(submitted[row]),
                started_s=float(started[row]),
                ended_s=float(ended[row]),
                due_s=float(submitted[row]) + 600.0 if d % 2 else None,
                size=None,
                expected_s=None,
                attempts=1,
                late_usd_per_hour=2.0,
                failure_usd=0.5,
                message=None,
            )
        )
    return facts


def measure_report(folder: Path) -> Figures:
    """Seconds from the database to the analysed figures and causes of a million runs."""
    store = SqlRuns(open_engine(f"sqlite:///{folder}/million.db"))
    for part in range(10):
        store.put(runs=make_facts(100_000, deployments=1000, days=30.0, seed=part, first=part * 100_000))
    figures: Figures = {}
    for name in ("report_1m_unpacked", "report_1m"):
        began = time.perf_counter()
        frame = store.run_frame(extra=False)
        read = time.perf_counter()
        report = analyse(frame, since_s=NOW_S - 30 * DAY_S, until_s=NOW_S, slots=200)
        causes = group_causes(frame)
        done = time.perf_counter()
        assert report.total.runs == 1_000_000
        assert len(causes) == 40
        figures |= {f"{name}_s": done - began, f"{name}_read_s": read - began}
        store.pack(NOW_S)
    return figures


def measure_dashboard(folder: Path, pictures: Path | None = None) -> Figures:
    """First contentful paint, and from a changed state to painted, at 1,000 deployments and 10,000 runs; medians."""
    from benchmarks import browser
    from benchmarks.dashboard_world import builder

    executable = browser.find_chromium()
    if executable is None:
        print("dashboard: no Chromium on this machine: not measured", file=sys.stderr)
        return {}
    shift = 0.0
    build = builder(lambda: time.time() + shift, runs=10_000, deployments=1000, slow_s=1e9)
    build()
    build.wait()
    state = build()
    paints, updates, builds = [], [], []
    with (
        browser.serve(lambda: state) as (url, hub),
        browser.page(executable, viewport={"width": 1440, "height": 960}) as page,
    ):
        for _ in range(5):
            page.goto(url)
            page.wait_for_selector("#health td")
            paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        page.evaluate(_WATCH)
        for _ in range(20):
            shift += 30.0  # half a minute later: every expected end has moved
            began = time.perf_counter()
            state = build()
            builds.append(1000.0 * (time.perf_counter() - began))
            page.evaluate("window.painted = null")
            published = 1000.0 * time.time()
            hub.publish({**state, "error": None})
            while (painted := page.evaluate("window.painted")) is None:
                time.sleep(0.01)
            updates.append(painted - published)
        assert not page.problems, page.problems
    if pictures is not None:
        take_pictures(pictures, executable)
    return {
        "dashboard_first_paint_ms": float(np.median(paints)),
        "dashboard_update_ms": float(np.median(updates)),
        "dashboard_update_worst_ms": float(np.max(updates)),
        "dashboard_build_ms": float(np.median(builds)),
    }


_WATCH = """() => {
  window.painted = null;
  new MutationObserver(() => requestAnimationFrame(() => setTimeout(() => { window.painted = Date.now(); })))
    .observe(document.documentElement, { attributes: true, attributeFilter: ["data-drawn"] });
}"""


def take_pictures(folder: Path, executable: str) -> None:
    """Pictures of a smaller pool for the documentation: light, dark and narrow."""
    from benchmarks import browser
    from benchmarks.dashboard_world import builder

    build = builder(time.time)
    build()
    build.wait()
    state = build()
    folder.mkdir(parents=True, exist_ok=True)
    with browser.serve(lambda: state) as (url, _):
        for name, scheme, width in (("light", "light", 1440), ("dark", "dark", 1440), ("narrow", "light", 390)):
            with browser.page(executable, color_scheme=scheme, viewport={"width": width, "height": 1120}) as page:
                page.goto(url)
                page.wait_for_selector("#health td")
                page.wait_for_timeout(300)
                page.screenshot(path=folder / f"dashboard-{name}.png")


def measure_sync(folder: Path, runs: int = 20_000) -> Figures:
    """Runs per second from a real server into the history, beside reading them alone; and what memory that takes."""
    from prefect_intelligent.history.adapters.prefect_source import PrefectHistory
    from prefect_intelligent.history.sync import sync
    from prefect_intelligent.prefect_client.api import PrefectApi
    from prefect_intelligent.prefect_client.clock import SystemClock
    from tests.real_prefect import RealServer, clone_runs

    home = folder / "prefect"
    home.mkdir()
    server = RealServer(home).start()
    try:
        api = server.api()
        run = api.run(api.deployment(api.pool(), "default"), in_s=-30)
        for state in ("PENDING", "RUNNING", "COMPLETED"):
            api.set_state(run, state)
        clone_runs(server, run, runs - 1)
        _spread_ends(home / "prefect.db", days=30.0)
        client = PrefectApi(server.api_url, timeout_s=60.0)
        body = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}, "sort": "ID_DESC"}
        began = time.perf_counter()
        read = 0
        for page in client.pages("/flow_runs/filter", body):
            read += len(page)
            if read >= runs // 4:
                break
        bare = read / (time.perf_counter() - began)
        store = SqlRuns(open_engine(f"sqlite:///{folder}/history.db"))
        memory: list[float] = []
        copied = sync(
            PrefectHistory(client), store, SystemClock(), events=False, progress=lambda *_: memory.append(_rss_mb())
        )
        assert store.counts()["runs"] == runs
        quarter = max(1, len(memory) // 4)
        return {
            "sync_runs": float(runs),
            "sync_runs_per_s": copied.runs_per_s,
            "prefect_read_runs_per_s": bare,
            "sync_memory_growth_mb": memory[-1] - memory[quarter - 1],
        }
    finally:
        server.stop()


def _rss_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def _spread_ends(database: Path, days: float) -> None:
    """Give the copies of one run ends spread over a month: copies share theirs."""
    import sqlite3

    with sqlite3.connect(database, timeout=60) as connection:
        connection.execute(
            "UPDATE flow_run SET end_time = strftime(?, 'now', '-' || (abs(random()) % ?) || ' seconds'),"
            " start_time = end_time, expected_start_time = strftime(?, 'now', ?) WHERE end_time NOT NULL",
            (_SQLITE_TIME, int(days * DAY_S), _SQLITE_TIME, f"-{int(days)} days"),
        )
    connection.close()


PARTS: dict[str, Callable[[Path], Figures]] = {
    "report": measure_report,
    "sync": measure_sync,
    "dashboard": measure_dashboard,
}


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", default=",".join(PARTS), help="parts to measure, separated by commas")
    parser.add_argument("--runs", type=int, default=20_000, help="runs of the Prefect server that sync copies")
    parser.add_argument("--pictures", type=Path, help="also write pictures of the dashboard to this folder")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    wanted = args.only.split(",")
    if unknown := set(wanted) - set(PARTS):
        print(f"error: --only: got {sorted(unknown)}; known: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    figures: Figures = {}
    for name in wanted:
        with tempfile.TemporaryDirectory() as folder:
            if name == "sync":
                figures |= measure_sync(Path(folder), args.runs)
            elif name == "dashboard":
                figures |= measure_dashboard(Path(folder), args.pictures)
            else:
                figures |= PARTS[name](Path(folder))
    if args.json:
        print(json.dumps({"figures": figures, "context": {"parts": wanted}}))
    else:
        for name, value in figures.items():
            print(f"{name:28} {value:12.4g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
