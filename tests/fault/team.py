"""A team's Prefect on this machine: PostgreSQL, Redis, two API servers behind one address, and their services.

Everything is its own, on ports of its own, and ends with us, so that it may be killed. Servers need `prefect-redis`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.real_prefect import Api, Process, RealServer, free_port  # first: it scrubs the environment

MEMBER = "X-Team-Member"
_WAIT_S = 60.0


def why_no_team() -> str | None:
    """None if the programs that are needed are on this machine, else a sentence for `pytest.skip`."""
    if find_spec("prefect_redis") is None:
        return "prefect-redis is not installed"
    if postgres_programs() is None:
        return "PostgreSQL's own programs (initdb, postgres) are not on this machine"
    return None if shutil.which("redis-server") else "redis-server is not on this machine"


def postgres_programs() -> Path | None:
    """Folder of PostgreSQL's programs; Debian keeps them out of the path."""
    found = [*sorted(Path("/usr/lib/postgresql").glob("*/bin")), *map(Path, os.get_exec_path())]
    return next((folder for folder in reversed(found) if (folder / "initdb").exists()), None)


def wait_for(holds: Callable[[], object], what: str, timeout_s: float = _WAIT_S) -> None:
    """Wait for a fact.

    Raises:
        AssertionError: It does not hold in time.
    """
    until = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > until:
            raise AssertionError(f"{what} did not come within {timeout_s:g} s")
        time.sleep(0.05)


class OwnPostgres:
    """A PostgreSQL server with databases `prefect` and `history`."""

    def __init__(self, folder: Path) -> None:
        programs = postgres_programs()
        assert programs is not None
        self.port, self._folder, self._programs = free_port(), folder, programs
        folder.mkdir(parents=True)
        self._user = "postgres" if os.getuid() == 0 else None  # it refuses to run as root
        if self._user:
            shutil.chown(folder, self._user)
        self._run("initdb", "-D", str(folder / "data"), "-U", "postgres", "--auth", "trust", "-E", "UTF8", "-N")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        for name in ("prefect", "history"):
            self.execute(f"CREATE DATABASE {name}")

    def url(self, database: str, driver: str = "postgresql") -> str:
        """Of a database, for a driver."""
        return f"{driver}://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        words = ["-D", str(self._folder / "data"), "-p", str(self.port), "-c", "listen_addresses=127.0.0.1"]
        words += ["-c", f"unix_socket_directories={self._folder}", "-c", "max_connections=300"]
        words += ["-c", "autovacuum_naptime=5s"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", *words], user=self._user, stdout=log, stderr=log, start_new_session=True
            )
        wait_for(self._answers, "PostgreSQL")

    def stop(self, *, at_once: bool = False) -> None:
        """End it; at once means that clients are cut and nothing is tidied up."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
            self._process.wait(60)

    def cut(self) -> None:
        """Cut every connection."""
        self.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

    def lock(self, database: str, seconds: float) -> None:
        """Lock every table of a database for so long."""
        import psycopg

        names = "SELECT format('%I', tablename) FROM pg_tables WHERE schemaname = 'public'"
        for _ in range(20):
            with contextlib.suppress(psycopg.errors.DeadlockDetected), psycopg.connect(self.url(database)) as held:
                tables = ", ".join(name for (name,) in held.execute(names).fetchall())
                held.execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE".encode())
                time.sleep(seconds)
                return
        raise AssertionError(f"the database {database} could not be locked")

    def execute(self, statement: str, database: str = "postgres") -> None:
        """One statement, outside a transaction."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement.encode())

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.Error:
            return False
        return True

    def _run(self, program: str, *words: str) -> None:
        subprocess.run([self._programs / program, *words], user=self._user, check=True, capture_output=True)


class OwnRedis:
    """A Redis server that keeps what it is told."""

    def __init__(self, folder: Path) -> None:
        self.port, self._folder = free_port(), folder
        folder.mkdir(parents=True)
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--appendonly", "yes"]
        self._process = Process(["redis-server", *words], os.environ, self._folder / "log", self._folder)
        wait_for(lambda: self._command("PING").stdout.strip() == b"PONG", "Redis")

    def stop(self, *, at_once: bool = False) -> None:
        """End it; at once is `kill -9`."""
        if at_once:
            self._process.kill()
        else:
            self._process.stop()

    def cut(self) -> None:
        """Cut every connection."""
        for kind in ("normal", "pubsub"):
            self._command("CLIENT", "KILL", "TYPE", kind)

    def _command(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["redis-cli", "-p", str(self.port), *words], capture_output=True, check=False)


@dataclass(frozen=True, slots=True)
class Call:
    """A request that went through the address.

    Attributes:
        member: Who asked, by the header `MEMBER`; empty if it did not say.
        method: HTTP method.
        route: Path of the request.
        at_s: When it came, Unix seconds, before it was passed on.
        status: Of the answer; None while there is none.
    """

    member: str
    method: str
    route: str
    at_s: float
    status: int | None = None


class FrontAddress:
    """One address before several servers: each request goes to the next server that takes the connection.

    Args:
        ports: Of the servers.

    Attributes:
        calls: Requests of those that say who they are, in the order in which they came.
        before: Called with each of them before it is passed on; it may take its time.
    """

    def __init__(self, ports: tuple[int, ...]) -> None:
        self.calls: list[Call] = []
        self.before: Callable[[Call], None] = lambda call: None
        self.port = free_port()
        self._ports, self._next = ports, 0
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait(10)

    @property
    def api_url(self) -> str:
        """What PREFECT_API_URL should be."""
        return f"http://127.0.0.1:{self.port}/api"

    def cut(self) -> None:
        """Cut every connection of a client."""
        self._loop.call_soon_threadsafe(lambda: [writer.transport.abort() for writer in [*self._open]])

    def close(self) -> None:
        """Stop listening."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _serve(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._client, "127.0.0.1", self.port, limit=2**20))
        ready.set()
        self._loop.run_forever()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while await self._request(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Pass one request and its answer on; whether the connection goes on."""
        head = await reader.readuntil(b"\r\n\r\n")
        body = await _body(reader, head)
        method, route, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
        call = Call(_header(head, MEMBER), method, route, time.time())
        number = len(self.calls)
        if call.member:
            self.calls.append(call)
            await asyncio.to_thread(self.before, call)
        up_reader, up_writer = await self._connect()
        try:
            up_writer.write(head + body)
            answer = await up_reader.readuntil(b"\r\n\r\n")
            status = int(answer.split(b" ", 2)[1])
            writer.write(answer)
            if status == 101 or _header(answer, "transfer-encoding"):
                await asyncio.gather(_copy(up_reader, writer), _copy(reader, up_writer))
                return False
            writer.write(await _body(up_reader, answer))
            await writer.drain()
            if call.member:
                self.calls[number] = Call(call.member, method, route, call.at_s, status)
        finally:
            up_writer.close()
        return True

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for _ in self._ports:
            self._next = (self._next + 1) % len(self._ports)
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", self._ports[self._next], limit=2**20)
        raise ConnectionRefusedError("no server takes the connection")


def _header(head: bytes, name: str) -> str:
    for line in head.decode("latin-1").split("\r\n")[1:]:
        key, _, value = line.partition(":")
        if key.strip().lower() == name.lower():
            return value.strip()
    return ""


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    return await reader.readexactly(int(_header(head, "content-length") or 0))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while part := await reader.read(2**16):
            writer.write(part)
            await writer.drain()
    finally:
        writer.close()


class Team:
    """Servers, services and what they stand on.

    Args:
        folder: An empty folder.

    Attributes:
        postgres: Has the databases `prefect` and `history`.
        redis: Carries messages.
        servers: The API servers.
        front: The one address before them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.chmod(0o755)  # PostgreSQL runs as another user
        self.postgres, self.redis = OwnPostgres(folder / "postgres"), OwnRedis(folder / "redis")
        settings = {
            "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "prefect_redis.messaging",
            "PREFECT_SERVER_EVENTS_MESSAGING_CACHE": "prefect_redis.messaging",
            "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
            "PREFECT_SERVER_DOCKET_URL": f"redis://127.0.0.1:{self.redis.port}/0",
            "PREFECT_REDIS_MESSAGING_HOST": "127.0.0.1",
            "PREFECT_REDIS_MESSAGING_PORT": str(self.redis.port),
            "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs,orphans",
            "PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS": "20",
            "PYTHONPATH": os.pathsep.join(filter(None, [*sys.path])),
        }
        url = self.postgres.url("prefect", "postgresql+asyncpg")
        self.servers = tuple(
            RealServer(folder / f"server-{number}", url, settings, options=("--no-services",)) for number in range(2)
        )
        for server in self.servers:  # one after another: the first makes the tables
            server.start()
        self.front = FrontAddress(tuple(server.port for server in self.servers))
        env = self.servers[0].env(**settings, PREFECT_SERVER_DATABASE_CONNECTION_URL=url)
        del env["PREFECT_API_URL"]
        command = [sys.executable, "-m", "prefect", "server", "services", "start"]
        self._services = Process(command, env, folder / "services.log", folder)

    def api(self) -> Api:
        """Makes and reads things, through the address."""
        return Api(self.front.api_url)

    def env(self, member: str, **more: str) -> dict[str, str]:
        """Environment of a process that talks to the address and says who it is."""
        header = f'{{"{MEMBER}": "{member}"}}'
        said = {"PREFECT_API_URL": self.front.api_url, "PREFECT_CLIENT_CUSTOM_HEADERS": header}
        home = self.folder / member
        home.mkdir(exist_ok=True)
        return self.servers[0].env(**said | {"PREFECT_HOME": str(home)} | more)

    def stop(self) -> None:
        """End everything."""
        self._services.stop()
        for server in self.servers:
            server.stop()
        self.front.close()
        self.redis.stop()
        self.postgres.stop()


@contextlib.contextmanager
def open_team(folder: Path) -> Iterator[Team]:
    """A running team that is ended at the end."""
    team = Team(folder)
    try:
        yield team
    finally:
        team.stop()
