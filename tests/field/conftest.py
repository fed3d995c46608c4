"""Servers for field tests: what an operator does on a real server, and what is right afterwards."""

from collections.abc import Iterator

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from tests.real_prefect import Api, RealServer


@pytest.fixture
def sqlite(prefect_api: str, prefect_server: RealServer) -> Api:
    """A server on SQLite, to which this process's Prefect points too."""
    return prefect_server.api()


@pytest.fixture(params=["sqlite", "postgres"])
def field(request: pytest.FixtureRequest) -> Iterator[Api]:
    """A server on SQLite, then one on PostgreSQL, to which this process's Prefect points too."""
    name = "prefect_server" if request.param == "sqlite" else "postgres_server"
    server: RealServer = request.getfixturevalue(name)
    with temporary_settings({PREFECT_API_URL: server.api_url}):
        yield server.api()
