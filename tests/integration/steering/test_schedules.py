"""Prefect makes runs of schedules with the versions that we pin, and we notice where it does not."""

import time
import uuid

import pytest

from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.steering.adapters.schedules import read_unscheduled
from tests.real_prefect import Api, RealServer

MINUTELY = [{"schedule": {"interval": 60.0, "anchor_date": "2026-01-01T00:00:00+00:00"}, "active": True}]


def scheduled_runs(api: Api, deployment: str) -> int:
    return api.call("POST", "/flow_runs/count", {"deployments": {"id": {"any_": [deployment]}}})


@pytest.mark.server
@pytest.mark.parametrize("server", ["prefect_server", "postgres_server"])
def test_a_schedule_becomes_runs(server: str, request: pytest.FixtureRequest) -> None:
    api = request.getfixturevalue(server).api()
    deployment = api.deployment(api.pool(), "default", schedules=MINUTELY)
    deadline = time.monotonic() + 240
    while not scheduled_runs(api, deployment):
        assert time.monotonic() < deadline, "Prefect has scheduled nothing"
        time.sleep(0.5)


@pytest.mark.server
def test_an_active_schedule_without_upcoming_runs_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    off = {"PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false"}
    server = RealServer(tmp_path_factory.mktemp("prefect-unscheduled"), settings=off).start()
    try:
        api, pool = server.api(), f"pool-{uuid.uuid4().hex[:8]}"
        api.pool(pool)
        api.deployment(pool, "default", flow="report", name="daily", schedules=MINUTELY)
        api.deployment(pool, "default", flow="paused", schedules=MINUTELY, paused=True)
        api.deployment(pool, "default", flow="by-hand")
        soon = time.time() + 600
        assert read_unscheduled(PrefectApi(server.api_url), pool, soon) == (1, ("report/daily",))
        assert read_unscheduled(PrefectApi(server.api_url), pool, time.time()) == (0, ())
    finally:
        server.stop()
