"""Nodes of a pool: runs of a real server, played again on nodes of which each has a cooldown of its own."""

import time

from prefect_intelligent.domain import Estimate, QueueSetting
from prefect_intelligent.history.adapters.prefect_source import PrefectHistory
from prefect_intelligent.history.adapters.sql_records import open_engine
from prefect_intelligent.history.adapters.sql_runs import SqlRuns
from prefect_intelligent.history.sync import sync
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.clock import SystemClock
from prefect_intelligent.twin.from_history import world_from_runs
from prefect_intelligent.twin.model import event_log as kinds
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import PoolSpec
from tests.field.stage import Stage, ago
from tests.real_prefect import RealServer
from tests.small_worlds import AT_ONCE

SPANS_S = (200.0, 10.0, 49.0)


def test_surplus_nodes_go_one_by_one_as_their_runs_have_ended(sqlite, prefect_server: RealServer, tmp_path) -> None:
    stage = Stage(prefect_server)
    runs = [stage.begin(stage.owner) for _ in SPANS_S]
    stage.end(*runs)
    begun_s = time.time()
    for run, seconds in zip(runs, SPANS_S, strict=True):
        begun, ended = (ago(time.time() - begun_s + back) for back in (300.0, 300.0 - seconds))
        columns = ", ".join(f"{name} = ?" for name in ("created", "expected_start_time", "start_time", "end_time"))
        stage.write(f"UPDATE flow_run SET {columns} WHERE id = ?", begun, begun, begun, ended, run)
    store = SqlRuns(open_engine(f"sqlite:///{tmp_path}/history.db"))
    sync(PrefectHistory(PrefectApi(prefect_server.api_url)), store, SystemClock(), events=False)
    frame = store.run_frame(pool=stage.pool)
    assert sorted((frame["ended_s"] - frame["started_s"]).round()) == sorted(SPANS_S)
    pool = PoolSpec(
        queues=(QueueSetting(name="q", priority=10),),
        max_slots=9,
        follows_demand=True,
        claims_ahead=True,
        cooldown_s=50.0,
        **AT_ONCE,
    )
    world = world_from_runs(frame, pool, [Estimate(p50_s=60.0, p90_s=90.0)] * len(frame))
    twin = Twin(world, log=True)
    twin.finish()
    owned = twin.log()[twin.log()["kind"] == kinds.OWNED]
    first_s = float(frame["scheduled_s"].min())
    steps = [(round(float(at_s) - first_s), int(value)) for at_s, value in owned[["at_s", "value"]].tolist()]
    assert steps[-2:] == [(60, 2), (99, 1)]
