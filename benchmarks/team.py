"""A team's set-up under faults: `python -m benchmarks.team --json`.

Two API servers on PostgreSQL with Redis messaging behind one address, Prefect's services with the vacuum on, two
workers that carry runs, and two controllers at the default interval, which are started again when they die. Faults
follow each other, the next one when a decision has been made after the last; everything that is killed is ours.

`leaders_at_once_max` counts, by what the address has seen, who wrote settings while a lease was in force;
`settings_lost` are settings that `control restore` does not bring back as people have set them; `records_lost` are
decisions that a controller has told and that are missing in the history or in its spool; `runs_lost` are runs that did
not complete, or not end in two minutes, whatever the cause; `pass_gap_intervals_max` is the longest time between two
decisions, over the interval.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

from tests.fault.team import Call, Team, open_team, wait_for, why_no_team  # first: it scrubs the environment
from tests.real_prefect import Api, Process, RealServer, start_worker

INTERVAL_S = 20.0  # the default of the setting
CYCLE = (
    "leader killed in a pass",
    "API server killed",
    "Redis cut",
    "PostgreSQL restarted",
    "leader killed in a pass",
    "Redis restarted",
    "clients cut",
    "PostgreSQL cut",
    "API server killed",
    "database locked",
    "leader frozen in a pass",
    "API server restarted",
)
QUEUES = {"a": (10, 4), "b": (20, None), "c": (30, 6), "d": (40, None)}
POOL_LIMIT = 2
_PATIENCE_S = 300.0
_WAITING = 8
"""Runs that wait at least, of the load."""
RUN = """
import json, os, sys, time, urllib.request

def propose(kind):
    url = f"{os.environ['PREFECT_API_URL']}/flow_runs/{os.environ['PREFECT__FLOW_RUN_ID']}/set_state"
    body = json.dumps({"state": {"type": kind}, "force": False}).encode()
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            request = urllib.request.Request(url, body, {"content-type": "application/json"})
            return urllib.request.urlopen(request).read()
        except OSError:
            time.sleep(0.5)
    sys.exit(1)

propose("RUNNING")
time.sleep(float(sys.argv[1]))
propose("COMPLETED")
"""


class Controllers:
    """Two controllers of one pool, each started again five seconds after it has died, as a service would be."""

    def __init__(self, team: Team, pool: str, interval_s: float) -> None:
        self.team, self.pool = team, pool
        self.logs: list[Path] = []
        self._folder = team.folder / "controllers"
        self._folder.mkdir()
        (self._folder / "settings.toml").write_text(
            f'history_url = "{team.postgres.url("history")}"\ninterval_s = {interval_s}\nlook_ahead_ms = 0\n'
            'policy = "fifo+share"\n[guard]\ninterval_s = 0.0\nhysteresis = 0.0\n'
        )
        self._started = itertools.count(1)
        self._processes: dict[str, Process] = {}
        self._end = threading.Event()
        self._lock = threading.Lock()
        for place in ("one", "two"):
            self._start(place)
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def signal(self, member: str, number: int) -> None:
        """To the process of that name."""
        self._processes[member].signal(number)

    def names(self) -> set[str]:
        """Of all that were ever started."""
        return {log.stem for log in self.logs}

    def stop(self) -> None:
        """End both as an operator would."""
        self._end.set()
        self._keeper.join()
        for process in self._processes.values():
            if process.popen.poll() is None:
                process.signal(signal.SIGTERM)
                process.popen.wait(60)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of `control` with the same settings."""
        command = [sys.executable, "-m", "prefect_intelligent", "control", *words, "--pool", self.pool, "--json"]
        config = ["--config", str(self._folder / "settings.toml")]
        env = self.team.env("operator", PREFECT_INTELLIGENT_DATA_DIR=str(self._folder / "operator"))
        return subprocess.run([*command, *config], env=env, capture_output=True, text=True, timeout=300, check=False)

    def told(self) -> dict[str, set[float]]:
        """Instants of the decisions that were told, by the folder of the controller."""
        found: dict[str, set[float]] = defaultdict(set)
        for log in self.logs:
            for line in log.read_text(errors="replace").rpartition("\n")[0].splitlines():
                with contextlib.suppress(json.JSONDecodeError):
                    event: dict[str, Any] = json.loads(line)
                    if event.get("decision") is not None:
                        found[log.parent.name].add(event["decision"]["at_s"])
        return found

    def spooled(self) -> dict[str, set[float]]:
        """Instants of the decisions that wait for the shipper, by the folder of the controller."""
        found: dict[str, set[float]] = defaultdict(set)
        for file in self._folder.glob("*/data/spool/*"):
            for line in file.read_text(errors="replace").splitlines():
                with contextlib.suppress(json.JSONDecodeError):  # the last line of one that was killed
                    entry: dict[str, Any] = json.loads(line)
                    if entry.get("kind") == "decision":
                        found[file.parents[2].name].add(entry["record"]["at_s"])
        return found

    def _start(self, place: str) -> None:
        member = f"{place}-{next(self._started)}"
        folder = self._folder / place
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "prefect_intelligent", "control", "run", "--pool", self.pool, "--json"]
        command += ["--config", str(self._folder / "settings.toml")]
        env = self.team.env(member, PREFECT_INTELLIGENT_DATA_DIR=str(folder / "data"))
        log = folder / f"{member}.log"
        self._processes[member] = Process(command, env, log, folder)
        self.logs.append(log)

    def _keep(self) -> None:
        while not self._end.wait(0.2):
            for member, process in [*self._processes.items()]:
                if process.popen.poll() is not None and not self._end.wait(5.0):
                    del self._processes[member]
                    self._start(member.partition("-")[0])


class Load:
    """Runs that keep coming to queues at random, so that some always wait and their order matters."""

    def __init__(self, api: Api, pool: str, deployments: Sequence[str], seed: int) -> None:
        self.runs: list[str] = []
        self._api, self._pool, self._deployments = api, pool, deployments
        self._rng, self._end = random.Random(seed), threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No more runs."""
        self._end.set()
        self._thread.join()

    def _work(self) -> None:
        waiting = {
            "work_pools": {"name": {"any_": [self._pool]}},
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        }
        while not self._end.wait(self._rng.uniform(0.2, 1.0)):
            with contextlib.suppress(httpx.HTTPError, AssertionError):  # nobody was told that this run exists
                if self._api.call("POST", "/flow_runs/count", waiting) < _WAITING:
                    self.runs.append(self._api.run(self._rng.choice(self._deployments)))


class Faults:
    """Makes faults, and knows from the address who leads."""

    def __init__(self, team: Team, controllers: Controllers, lock_s: float) -> None:
        self._team, self._controllers, self._lock_s = team, controllers, lock_s
        self._turn = itertools.count()
        self._struck = threading.Event()
        self._aim = ""
        self._starter = ThreadPoolExecutor(
            1
        )  # a thread that stays: a process of ours ends with the thread that made it
        self._boot: Future[None] | None = None

    def wait_for_servers(self) -> None:
        """Wait until every API server answers."""
        if self._boot is not None:
            self._boot.result()

    def make(self, kind: str) -> None:
        """Make one; an API server takes its time to come back, while the other one serves and other faults come."""
        postgres, redis = self._team.postgres, self._team.redis
        if kind == "leader killed in a pass":
            self._strike(signal.SIGKILL)
        elif kind == "leader frozen in a pass":
            member = self._strike(signal.SIGSTOP)
            since = len(self._team.front.calls)
            wait_for(lambda: self.leader(since) not in ("", member), "another leader", _PATIENCE_S)
            self._controllers.signal(member, signal.SIGCONT)
        elif kind in ("API server killed", "API server restarted"):
            self.wait_for_servers()
            server = self._team.servers[next(self._turn) % 2]
            if kind == "API server killed":
                server.kill()
            else:
                server.stop()
            self._boot = self._starter.submit(_boot, server)
        elif kind == "clients cut":
            self._team.front.cut()
        elif kind == "database locked":
            postgres.lock("prefect", self._lock_s)
        elif kind.endswith(" cut"):
            (redis if kind.startswith("Redis") else postgres).cut()
        else:
            service = redis if kind.startswith("Redis") else postgres
            service.stop(at_once=bool(next(self._turn) % 2))
            time.sleep(2.0)
            service.start()

    def leader(self, since: int = 0) -> str:
        """Who took the lease last, among the calls from that one on."""
        calls = self._team.front.calls[since:]
        return next((call.member for call in reversed(calls) if takes_lease(call)), "")

    def _strike(self, number: int) -> str:
        """Send a signal to the leader in the middle of a pass: when it writes, or at least reads; returns its name."""
        wait_for(lambda: self.leader() in self._controllers.names(), "a leader", _PATIENCE_S)
        self._struck.clear()
        patient_until = time.monotonic() + 30.0

        def strike(call: Call) -> None:
            reads = "/queues/filter" in call.route and time.monotonic() > patient_until
            if not self._struck.is_set() and call.member == self.leader() and (writes(call) or reads):
                self._aim = call.member
                self._controllers.signal(call.member, number)
                self._struck.set()

        self._team.front.before = strike
        wait_for(self._struck.is_set, "a pass of the leader", _PATIENCE_S)
        self._team.front.before = lambda call: None
        return self._aim


def _boot(server: RealServer) -> None:
    """Start a server again two seconds later, and again if what it stands on is away meanwhile, as a service would."""
    while True:
        time.sleep(2.0)
        with contextlib.suppress(RuntimeError):
            server.start()
            return


def takes_lease(call: Call) -> bool:
    """Whether a call has taken a lease that was free."""
    return call.route == "/api/v2/concurrency_limits/increment" and call.status == 200


def writes(call: Call) -> bool:
    """Whether a call writes settings of a pool or queue."""
    return call.method == "PATCH" and call.route.startswith(("/api/work_queues/", "/api/work_pools/"))


def leaders_at_once(calls: Sequence[Call], members: set[str]) -> int:
    """The most members that have written settings between one taking of the lease and the next."""
    most, acting = 0, set[str]()
    for call in calls:
        if call.member not in members:
            continue
        if takes_lease(call):
            acting = {call.member}
        elif writes(call):
            acting.add(call.member)
        most = max(most, len(acting))
    return most


def measure(
    faults: Sequence[str],
    folder: Path,
    *,
    interval_s: float = INTERVAL_S,
    lock_s: float = 20.0,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Make these faults, one after another; returns figures and context."""
    with open_team(folder) as team, contextlib.ExitStack() as stack:
        api = team.api()
        pool = api.pool(limit=POOL_LIMIT)
        (folder / "run.py").write_text(RUN)
        deployments = [_deployment(api, pool, folder, queue) for queue in QUEUES]
        numbers = api.numbers(pool)
        for _ in range(2):
            stack.callback(start_worker(_Address(team), pool).stop)  # type: ignore[arg-type]
        controllers = Controllers(team, pool, interval_s)
        stack.callback(controllers.stop)
        load = Load(team.api(), pool, deployments, seed)
        stack.callback(load.stop)
        made = Faults(team, controllers, lock_s)
        decisions = _Decisions(team, pool)
        wait_for(lambda: len(decisions.read()) >= 2, "the first decisions", _PATIENCE_S)
        begun_s = time.time()
        spans: list[tuple[str, float, float]] = []
        for number, kind in enumerate(faults):
            since_s = time.time()
            made.make(kind)
            done_s = time.time()
            decisions.wait_after(done_s, kind)
            spans.append((kind, since_s, decisions.last_s()))
            say(f"{number + 1:3d} {kind}: {time.time() - since_s:.0f} s")
            if number % 10 == 3:
                _edit(api, pool, 40 + number)
                numbers["c"] = (numbers["c"][0], 40 + number, numbers["c"][2])
                wait_for(lambda: decisions.last_s() > time.time() - 1.0, "a decision after an edit", _PATIENCE_S)
        ended_s = time.time()
        made.wait_for_servers()
        load.stop()
        controllers.stop()
        restored = controllers.command("restore")
        if restored.returncode:
            raise AssertionError(f"control restore: {restored.stderr}")
        after = api.numbers(pool)
        api.call("PATCH", f"/work_pools/{pool}", {"concurrency_limit": None})
        ends = _ends(api, load.runs)
        kept = decisions.read()
        told, spooled = controllers.told(), controllers.spooled()
        lost = sum(len(seen - set(kept)) + len(seen - spooled[place]) for place, seen in told.items())
        marks = [begun_s, *sorted(at_s for at_s in kept if begun_s < at_s < ended_s), ended_s]
        gaps = [(later - at_s, at_s) for at_s, later in itertools.pairwise(marks)]
        by_kind: dict[str, float] = defaultdict(float)
        for gap_s, at_s in gaps:
            for kind, since_s, until_s in spans:
                if at_s < until_s and at_s + gap_s > since_s:
                    by_kind[kind] = max(by_kind[kind], round(gap_s / interval_s, 2))
        changed = [name for name in numbers if numbers[name] != after.get(name)]
        return {
            "figures": {
                "leaders_at_once_max": leaders_at_once(team.front.calls, controllers.names()),
                "settings_lost": len(changed),
                "records_lost": lost,
                "runs_lost": len(load.runs) - ends["COMPLETED"],
                "pass_gap_intervals_max": round(max(gap_s for gap_s, _ in gaps) / interval_s, 2),
                "faults": len(spans),
                "decisions": len(kept),
                "settings_written": sum(writes(call) for call in team.front.calls),
                "leases_taken": sum(takes_lease(call) for call in team.front.calls),
                "runs": len(load.runs),
            },
            "context": {
                "faults": dict(Counter(kind for kind, _, _ in spans)),
                "gap_intervals_max": dict(by_kind),
                "run_states": dict(ends),
                "settings_changed": {name: [numbers[name], after.get(name)] for name in changed},
                "interval_s": interval_s,
                "minutes": round((ended_s - begun_s) / 60, 1),
                "prefect": version("prefect"),
                "python": platform.python_version(),
                "cpus": os.cpu_count(),
                "load": [round(load, 1) for load in os.getloadavg()],
            },
        }


def _ends(api: Api, runs: Sequence[str]) -> Counter[str]:
    """In what states runs have ended; what has not ended in time counts as it is, and so as lost."""
    with contextlib.suppress(AssertionError):
        api.wait(runs, 120.0)
    return Counter(api.read_run(run)["state_type"] for run in runs)


class _Address:
    """As much of a server as `start_worker` wants."""

    def __init__(self, team: Team) -> None:
        self.home, self._team = team.folder, team

    def env(self, **more: str) -> dict[str, str]:
        """Environment of a worker, which does not say who it is."""
        return self._team.servers[0].env(PREFECT_API_URL=self._team.front.api_url, **more)


class _Decisions:
    """The decisions in the history, read past everything that is cut."""

    def __init__(self, team: Team, pool: str) -> None:
        self._url, self._pool = team.postgres.url("history"), pool

    def read(self) -> list[float]:
        """Their instants, Unix seconds; none while the history does not answer."""
        import psycopg

        wanted = "SELECT at_s FROM pi_records WHERE kind = 'decision' AND pool = %s ORDER BY id"
        try:
            with psycopg.connect(self._url, connect_timeout=5) as connection:
                return [float(at_s) for (at_s,) in connection.execute(wanted, [self._pool]).fetchall()]
        except psycopg.Error:
            return []

    def wait_after(self, at_s: float, what: str) -> None:
        """Wait for one that is younger."""
        wait_for(lambda: self.last_s() > at_s, f"a decision after {what}", _PATIENCE_S)

    def last_s(self) -> float:
        """The instant of the last one."""
        return max(self.read(), default=0.0)


def _deployment(api: Api, pool: str, folder: Path, queue: str) -> str:
    priority, limit = QUEUES[queue]
    api.queue(pool, queue, priority=priority, limit=limit)
    return api.deployment(pool, queue, job_variables={"command": f"{sys.executable} {folder / 'run.py'} 4"})


def _edit(api: Api, pool: str, limit: int) -> None:
    """A person gives queue c another limit."""
    for attempt in itertools.count():
        try:
            api.call("PATCH", f"/work_pools/{pool}/queues/c", {"concurrency_limit": limit})
            return
        except (httpx.HTTPError, AssertionError):
            if attempt > 20:
                raise
            time.sleep(1.0)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="prefect-intelligent-team-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    if (reason := why_no_team()) is not None:
        print(f"error: {reason}", file=sys.stderr)
        return 2
    kinds = [*itertools.islice(itertools.cycle(CYCLE), args.faults)]
    with _folder() as folder:
        found = measure(kinds, folder, seed=args.seed, say=lambda text: print(text, file=sys.stderr, flush=True))
    if args.json:
        print(json.dumps(found))
    else:
        for name, value in {**found["figures"], **found["context"]}.items():
            print(f"{name:<28} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
