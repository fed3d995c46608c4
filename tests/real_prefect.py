"""Real Prefect servers and workers for tests and benchmarks, isolated from the user's profile.

Importing this module removes every `PREFECT_*` variable from the environment and points Prefect at a temporary home;
import it before Prefect. A server of ours has its own home, database and random port; a database that has already been
migrated is copied, so that it answers within a few seconds.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

for _name in [name for name in os.environ if name.startswith("PREFECT_")]:
    del os.environ[_name]
SCRATCH = Path(tempfile.mkdtemp(prefix="prefect-intelligent-tests-"))
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)
os.environ |= {
    "PREFECT_HOME": str(SCRATCH / "home"),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # A test that needs a server names one. A temporary one of Prefect would stay, and be stopped after pytest's end.
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "SODA_CORE_TELEMETRY_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}

import httpx  # noqa: E402

REPOSITORY = Path(__file__).resolve().parent.parent
POSTGRES_HOST, POSTGRES_PORT = "127.0.0.1", 5432
PR_SET_PDEATHSIG = 1
START_TIMEOUT_S = 240.0


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def iso(at_s: float) -> str:
    """An instant as Prefect's API writes it."""
    return datetime.fromtimestamp(at_s, UTC).isoformat()


def unix_s(text: str) -> float:
    """Inverse of `iso`."""
    return datetime.fromisoformat(text).timestamp()


class Process:
    """A sub-process in a session of its own, with SIGINT restored (a shell's `&` ignores it and Prefect needs it)."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: Path, cwd: Path | None = None) -> None:
        self.log = log
        with log.open("ab") as sink:
            self.popen = subprocess.Popen(
                command,
                env=dict(env),
                cwd=cwd,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_begin_child,
            )

    @property
    def pid(self) -> int:
        """Process id, and id of its process group."""
        return self.popen.pid

    def signal(self, number: int) -> None:
        """Send a signal to the whole group; nothing happens if it has ended."""
        try:
            os.killpg(self.popen.pid, number)
        except ProcessLookupError:
            return

    def stop(self, timeout_s: float = 15.0) -> int:
        """Ask it to end, force it if it does not; returns the exit code."""
        self.signal(signal.SIGINT)
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """`kill -9` of the whole group."""
        self.signal(signal.SIGKILL)
        return self.popen.wait(120)

    def tail(self, lines: int = 30) -> str:
        """The end of what it has printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def _begin_child() -> None:
    """In the child: take SIGINT again, and end with us if we are killed (Linux)."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class RealServer:
    """A Prefect server.

    Args:
        home: Becomes its PREFECT_HOME.
        database_url: An empty or migrated database; None is SQLite in `home`.
        settings: More environment for the server.
        options: More words for `prefect server start`.
    """

    def __init__(
        self,
        home: Path,
        database_url: str | None = None,
        settings: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.home = home
        self.port = free_port()
        self.database_url = database_url
        self._settings, self._options = dict(settings or {}), options
        self._process: Process | None = None
        home.mkdir(parents=True, exist_ok=True)

    @property
    def api_url(self) -> str:
        """What PREFECT_API_URL should be."""
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def process(self) -> Process:
        """The running server, e.g. to send SIGSTOP to."""
        assert self._process is not None, "the server has not been started"
        return self._process

    def env(self, **more: str) -> dict[str, str]:
        """Environment for a process that talks to this server and imports this checkout."""
        return (
            os.environ
            | {
                "PREFECT_HOME": str(self.home),
                "PREFECT_API_URL": self.api_url,
                "PYTHONPATH": str(REPOSITORY),
                "PYTHONUNBUFFERED": "1",
                # No colour or wrapping in what tests read.
                "NO_COLOR": "1",
                "COLUMNS": "200",
            }
            | more
        )

    def start(self) -> RealServer:
        """Start and wait until it answers; after `kill` it comes back on the same port with the same data."""
        if self.database_url is None and not (self.home / "prefect.db").exists():
            shutil.copy(migrated_sqlite(), self.home / "prefect.db")
        defaults = {
            "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",  # avoids SQLite's lock tails; irrelevant to slots
            "PREFECT_SERVER_UI_ENABLED": "false",
            "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "1",  # 30 s for a held run to look again
        }
        env = self.env(**defaults | self._settings)
        del env["PREFECT_API_URL"]
        if self.database_url is not None:
            env["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = self.database_url
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        command += self._options
        self._process = Process(command, env, self.home / "server.log", self.home)
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.answers():
                return self
            if self._process.popen.poll() is not None:
                break
            time.sleep(0.1)
        self._process.kill()  # it would go on behind the back of whoever catches this
        raise RuntimeError(f"the Prefect server did not start:\n{self._process.tail()}")

    def answers(self) -> bool:
        """Whether its health route says yes."""
        try:
            return httpx.get(f"{self.api_url}/health", timeout=2.0).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        """End it properly."""
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """`kill -9`; `start` brings it back."""
        self.process.kill()

    def api(self) -> Api:
        """A helper to make and read things on it."""
        return Api(self.api_url)


def migrated_sqlite() -> Path:
    """A migrated, empty database of the installed Prefect; made once per machine and version, in some ten seconds."""
    path = Path(tempfile.gettempdir()) / f"prefect-intelligent-{os.getuid()}-prefect-{version('prefect')}.db"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two processes of one test run want it at the same moment
        if not path.exists():
            _migrate(path)
    return path


def _migrate(path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="prefect-migrate-") as home:
        subprocess.run(
            [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"],
            env=os.environ | {"PREFECT_HOME": home},
            check=True,
            capture_output=True,
        )
        with sqlite3.connect(Path(home) / "prefect.db") as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        draft = path.with_suffix(f".{os.getpid()}")
        shutil.copy(Path(home) / "prefect.db", draft)
        draft.replace(path)


def why_no_postgres() -> str | None:
    """None if a PostgreSQL that trusts us listens on this machine, else a sentence for `pytest.skip`."""
    try:
        import psycopg
    except ImportError:
        return "psycopg is not installed"
    try:
        psycopg.connect(_postgres_dsn("postgres"), connect_timeout=2).close()
    except psycopg.Error as error:
        return f"no PostgreSQL on {POSTGRES_HOST}:{POSTGRES_PORT} that lets us in: {str(error).splitlines()[0]}"
    return None


class PostgresDatabase:
    """A database of its own with a random name; `drop` removes it."""

    def __init__(self) -> None:
        self.name = f"pi_{uuid.uuid4().hex[:12]}"
        self._admin(f'CREATE DATABASE "{self.name}"')

    @property
    def dsn(self) -> str:
        """For psycopg and SQLAlchemy (`postgresql+psycopg://`)."""
        return _postgres_dsn(self.name)

    @property
    def prefect_url(self) -> str:
        """For PREFECT_SERVER_DATABASE_CONNECTION_URL."""
        return self.dsn.replace("postgresql://", "postgresql+asyncpg://", 1)

    def drop(self) -> None:
        """Remove the database, whoever is connected."""
        self._admin(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)')

    def _admin(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(_postgres_dsn("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())


@contextmanager
def open_server(home: Path, settings: Mapping[str, str] | None = None) -> Iterator[RealServer]:
    """A running server that is stopped at the end: on PostgreSQL where it is available, else on SQLite.

    SQLite may refuse a claim with 503, and the worker then tries again seconds later, after runs that should have come
    behind.

    Args:
        home: Becomes its PREFECT_HOME.
        settings: More environment for the server.
    """
    database = None if why_no_postgres() else PostgresDatabase()
    server = RealServer(home, None if database is None else database.prefect_url, settings)
    try:
        yield server.start()
    finally:
        server.stop()
        if database is not None:
            database.drop()


def _postgres_dsn(database: str) -> str:
    user = os.environ.get("PGUSER", "postgres")
    return f"postgresql://{user}@{POSTGRES_HOST}:{POSTGRES_PORT}/{database}"


class Api:
    """Makes pools, queues, deployments and runs over HTTP, without importing Prefect.

    Names that are not given are random, so that tests can share a server.
    """

    def __init__(self, api_url: str) -> None:
        self.http = httpx.Client(base_url=api_url, timeout=60.0)

    def call(self, method: str, route: str, body: Any = None, *, ok: bool = True) -> Any:
        """One request; returns the decoded answer and raises unless it is 2xx (or `ok` is False).

        None also where Prefect says that the thing is there, having answered 503 when we asked before: it had made it.
        """
        for attempt in range(8):
            try:
                answer = self.http.request(method, route, json=body)
            except httpx.ReadTimeout:  # Prefect 3.9 on SQLite stands still for a minute, about once in an hour of tests
                if attempt:
                    raise
                continue
            if answer.status_code == 409 and attempt and method == "POST":
                return None
            if answer.status_code != 503:
                break
            time.sleep(0.2 * 2**attempt)  # SQLite: "database is locked"
        if ok and not answer.is_success:
            raise AssertionError(f"{method} {route} -> {answer.status_code}: {answer.text}")
        return answer.json() if answer.content else None

    def pool(self, name: str | None = None, *, limit: int | None = None, type: str = "process") -> str:
        """Make a work pool; returns its name."""
        name = name or f"pool-{uuid.uuid4().hex[:8]}"
        self.call("POST", "/work_pools/", {"name": name, "type": type, "concurrency_limit": limit})
        if type == "process":
            self.call("PATCH", f"/work_pools/{name}", {"base_job_template": PROCESS_TEMPLATE})
        return name

    def queue(self, pool: str, name: str, *, priority: int, limit: int | None = None) -> str:
        """Make a work queue; returns its id."""
        body = {"name": name, "priority": priority, "concurrency_limit": limit}
        self.call("POST", f"/work_pools/{pool}/queues", body)
        return str(self.queues(pool)[name]["id"])

    def queues(self, pool: str) -> dict[str, dict[str, Any]]:
        """Name to the queue as the API gives it."""
        found = self.call("POST", f"/work_pools/{pool}/queues/filter", {"limit": 200})
        return {queue["name"]: queue for queue in found}

    def numbers(self, pool: str) -> dict[str, tuple[int | None, int | None, bool]]:
        """Everything steering may touch: (priority, limit, paused) per queue, and of the pool under ""."""
        held = self.call("GET", f"/work_pools/{pool}")
        out: dict[str, tuple[int | None, int | None, bool]] = {"": (None, held["concurrency_limit"], held["is_paused"])}
        for name, queue in sorted(self.queues(pool).items()):
            out[name] = (queue["priority"], queue["concurrency_limit"], queue["is_paused"])
        return out

    def deployment(
        self,
        pool: str,
        queue: str | None = None,
        *,
        flow: str | None = None,
        name: str = "d",
        entrypoint: str | None = None,
        path: Path | None = None,
        **more: Any,
    ) -> str:
        """Make a deployment ("flow/name") of a new or existing flow; returns its id."""
        flow_id = self.call("POST", "/flows/", {"name": flow or f"flow-{uuid.uuid4().hex[:8]}"})["id"]
        body = {
            "name": name,
            "flow_id": flow_id,
            "work_pool_name": pool,
            "work_queue_name": queue,
            "entrypoint": entrypoint,
            "path": str(path) if path else None,
            "enforce_parameter_schema": False,
            **more,
        }
        return str(self.call("POST", "/deployments/", body)["id"])

    def run(self, deployment_id: str, *, in_s: float = 0.0, at_s: float | None = None, **more: Any) -> str:
        """Schedule a run so many seconds from now; returns its id."""
        when = time.time() + in_s if at_s is None else at_s
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": iso(when)}}
        body = {"state": state, "idempotency_key": uuid.uuid4().hex, **more}
        return str(self.call("POST", f"/deployments/{deployment_id}/create_flow_run", body)["id"])

    def set_state(self, run_id: str, type: str, **more: Any) -> dict[str, Any]:
        """Propose a state, e.g. "PENDING"; returns Prefect's answer."""
        body = {"state": {"type": type, **more}, "force": False}
        answer: dict[str, Any] = self.call("POST", f"/flow_runs/{run_id}/set_state", body)
        return answer

    def read_run(self, run_id: str) -> dict[str, Any]:
        """The run as the API gives it."""
        found: dict[str, Any] = self.call("GET", f"/flow_runs/{run_id}")
        return found

    def wait(self, run_ids: Sequence[str], timeout_s: float = 480.0) -> list[dict[str, Any]]:
        """Wait until all of these runs have ended and return them."""
        deadline = time.monotonic() + timeout_s
        while True:
            runs = [self.read_run(run_id) for run_id in run_ids]
            if all(run["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") for run in runs):
                return runs
            if time.monotonic() > deadline:
                raise AssertionError(f"not finished: {[(run['name'], run['state_name']) for run in runs]}")
            time.sleep(0.25)

    def wait_for_worker(self, pool: str, timeout_s: float = 120.0) -> None:
        """Wait until a worker of the pool has sent a heartbeat; it polls from then on."""
        deadline = time.monotonic() + timeout_s
        while not self.call("POST", f"/work_pools/{pool}/workers/filter", {}):
            if time.monotonic() > deadline:
                raise AssertionError(f"no worker of pool {pool} has reported within {timeout_s:g} s")
            time.sleep(0.2)

    def polled(self, pool: str, limit: int = 200) -> list[str]:
        """Ids of the runs that a worker asking now would get, in order."""
        body = {"limit": limit, "scheduled_before": iso(time.time())}
        found = self.call("POST", f"/work_pools/{pool}/get_scheduled_flow_runs", body)
        return [item["flow_run"]["id"] for item in found]


PROCESS_TEMPLATE = {
    "job_configuration": {
        "command": "{{ command }}",
        "env": "{{ env }}",
        "working_dir": "{{ working_dir }}",
        "stream_output": True,
    },
    "variables": {
        "type": "object",
        "properties": {
            "command": {"type": "string"},
            "env": {"type": "object", "additionalProperties": {"type": ["string", "null"]}},
            "working_dir": {"type": "string"},
        },
    },
}
"""Base job template of a process pool, as `prefect work-pool create --type process` would set it."""


def clone_runs(server: RealServer, run_id: str, count: int, spread_s: float = 600.0) -> None:
    """Copy a scheduled run `count` times within the database, since the API makes only about 14 a second.

    Args:
        server: Owner of the run; its database is written directly.
        run_id: The pattern.
        count: How many more there will be.
        spread_s: The copies are scheduled evenly over so many seconds before the pattern.
    """
    if server.database_url is None:
        connection: Any = sqlite3.connect(server.home / "prefect.db", timeout=60)
        mark = "?"
    else:
        import psycopg

        connection = psycopg.connect(server.database_url.replace("+asyncpg", ""))
        mark = "%s"
    with connection:
        rows = {}
        for table, key in (("flow_run", "id"), ("flow_run_state", "flow_run_id")):
            cursor = connection.execute(f"SELECT * FROM {table} WHERE {key} = {mark}", (run_id,))
            rows[table] = dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))
        runs, states = [], []
        for index in range(count):
            run = {name: _plain(value) for name, value in rows["flow_run"].items()}
            state = {name: _plain(value) for name, value in rows["flow_run_state"].items()}
            run["id"] = state["flow_run_id"] = str(uuid.uuid4())
            run["state_id"] = state["id"] = str(uuid.uuid4())
            run["name"] = f"clone-{index}"
            run["idempotency_key"] = None
            for column in ("created", "expected_start_time", "next_scheduled_start_time"):
                run[column] = _earlier(rows["flow_run"][column], spread_s * (count - index) / count)
            runs.append(run)
            states.append(state)
        # The two tables refer to each other: runs first without their state, then states, then the link.
        insert = "INSERT INTO {} ({}) VALUES ({})"
        columns = [name for name in runs[0] if name != "state_id"]
        cursor = connection.cursor()
        cursor.executemany(
            insert.format("flow_run", ", ".join(columns), ", ".join([mark] * len(columns))),
            [tuple(run[name] for name in columns) for run in runs],
        )
        columns = [f'"{name}"' for name in states[0]]
        cursor.executemany(
            insert.format("flow_run_state", ", ".join(columns), ", ".join([mark] * len(columns))),
            [tuple(state.values()) for state in states],
        )
        cursor.executemany(
            f"UPDATE flow_run SET state_id = {mark} WHERE id = {mark}", [(run["state_id"], run["id"]) for run in runs]
        )
    connection.close()


def made_earlier(server: RealServer, run_id: str, seconds: float) -> None:
    """Move the creation of a run back, within the database: waiting counts from there, not from an older schedule.

    Args:
        server: Owner of the run; its database is on SQLite.
        run_id: The run.
        seconds: By so much.
    """
    with sqlite3.connect(server.home / "prefect.db", timeout=60) as database:
        (created,) = database.execute("SELECT created FROM flow_run WHERE id = ?", (run_id,)).fetchone()
        database.execute("UPDATE flow_run SET created = ? WHERE id = ?", (_earlier(created, seconds), run_id))
    database.close()


def _plain(value: Any) -> Any:
    """A value read from a column in a form that can be written back (psycopg decodes JSON columns)."""
    return json.dumps(value) if isinstance(value, dict | list) else value


def _earlier(value: Any, seconds: float) -> Any:
    """A stored instant moved back; SQLite keeps text, PostgreSQL gives datetimes, an ended run has no next start."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return datetime.fromtimestamp(value.timestamp() - seconds, UTC)
    stored = datetime.fromisoformat(value).replace(tzinfo=UTC)
    return datetime.fromtimestamp(stored.timestamp() - seconds, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def start_worker(server: RealServer, pool: str, *, limit: int | None = None, **env: str) -> Process:
    """A real process worker for `pool` that polls every second and does not prefetch; stop it with `.stop()`."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process"]
    command += [] if limit is None else ["--limit", str(limit)]
    settings = server.env(
        PREFECT_WORKER_QUERY_SECONDS="1",
        PREFECT_WORKER_PREFETCH_SECONDS="0",
        PREFECT_WORKER_HEARTBEAT_SECONDS="5",
        **env,
    )
    return Process(command, settings, server.home / f"worker-{uuid.uuid4().hex[:6]}.log", server.home)
