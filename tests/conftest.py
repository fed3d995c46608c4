"""Fixtures shared by all tests. Real servers are session-scoped and shared: make your own pool on them.

Under `pytest -n 3 --dist loadfile` each process has servers of its own and takes whole files, see `scheduling`.
"""

import contextlib
import fcntl
import os
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer

from tests import real_prefect  # first: it scrubs the environment before anything imports Prefect
from tests.real_prefect import Api, PostgresDatabase, RealServer
from tests.scheduling import PureAside, is_aside, is_pure

LONG = ("alone", "server", "slow", "worker")
ROOM = pytest.StashKey[Path | None]()

# A busy machine is no finding: time lives in benchmarks. What `make test` draws is the same each time, so that it fails
# only by a change; `--hypothesis-profile explore` draws anew.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("house", settings.get_profile("explore"), derandomize=True)
settings.load_profile("house")


def pytest_configure(config: pytest.Config) -> None:
    """Where processes that share the work agree on who may run."""
    shares = "PYTEST_XDIST_WORKER" in os.environ
    config.stash[ROOM] = Path(config.option.basetemp).parent / "all" if shares else None


def pytest_collection_finish() -> None:
    """Lets the process for pure tests give way, once the others need not wait for it."""
    if is_aside():
        os.nice(19)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> PureAside:
    """Keeps one of three or more processes for pure tests."""
    return PureAside(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Puts the tests into an order that ends soon.

    Alone, the pure ones come first: they tell most in a minute, and no server's threads disturb them. Where processes
    share the work they come last, since small files fill the time until the last long one has ended.
    """
    if config.stash[ROOM] is None:
        items.sort(key=lambda item: not _is_pure(item))
        return
    weights: Counter[Path] = Counter()
    for item in items:
        weights[item.path] = max(weights[item.path], sum(mark.name in LONG for mark in item.iter_markers()))
    items.sort(key=lambda item: (_is_pure(item), -weights[item.path]))


def _is_pure(item: pytest.Item) -> bool:
    return is_pure(item.nodeid)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Lets a test that is marked `alone` run while none but pure ones run; waiting is outside its time limit."""
    room = item.config.stash[ROOM]
    if room is None or is_aside():
        return (yield)
    with room.with_suffix(".door").open("w") as door, room.with_suffix(".room").open("w") as inside:
        fcntl.flock(door, fcntl.LOCK_EX)  # who waits for an empty room keeps the others out
        fcntl.flock(inside, fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        return (yield)


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A running Prefect server on SQLite, one for the whole session. Never stop it: use `own_server` for faults."""
    server = RealServer(tmp_path_factory.mktemp("prefect-sqlite")).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """The same on PostgreSQL with a database of its own; skips where there is no PostgreSQL."""
    if (reason := real_prefect.why_no_postgres()) is not None:
        pytest.skip(reason)
    database = PostgresDatabase()
    server = RealServer(tmp_path_factory.mktemp("prefect-postgres"), database.prefect_url)
    try:
        yield server.start()
    finally:
        server.stop()
        database.drop()


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """DSN (`postgresql://`) of an empty database of its own; skips where there is no PostgreSQL."""
    if (reason := real_prefect.why_no_postgres()) is not None:
        pytest.skip(reason)
    database = PostgresDatabase()
    yield database.dsn
    database.drop()


@pytest.fixture
def postgres_database() -> Iterator[str]:
    """DSN of an empty database of this test alone; skips where there is no PostgreSQL."""
    if (reason := real_prefect.why_no_postgres()) is not None:
        pytest.skip(reason)
    database = PostgresDatabase()
    yield database.dsn
    database.drop()


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A running server of this test alone (5 s): `kill()` it, `start()` it again, stop it with signals."""
    server = RealServer(tmp_path_factory.mktemp("prefect-own")).start()
    yield server
    server.stop()


@pytest.fixture
def api(prefect_server: RealServer) -> Api:
    """Makes pools, queues, deployments and runs on `prefect_server`."""
    return prefect_server.api()


@pytest.fixture
def prefect_api(prefect_server: RealServer) -> Iterator[str]:
    """Points Prefect of this process at `prefect_server` (for flows run in the test itself); gives the URL."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: prefect_server.api_url}):
        yield prefect_server.api_url


@pytest.fixture
def workers() -> Iterator[contextlib.ExitStack]:
    """A stack for processes to stop at the end: `workers.callback(start_worker(...).stop)`."""
    with contextlib.ExitStack() as stack:
        yield stack
