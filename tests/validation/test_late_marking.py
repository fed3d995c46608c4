"""Runs that nobody has asked for: a real Prefect cancels those of a full deployment when it would mark them late."""

import time
from pathlib import Path

import pytest

from prefect_intelligent.domain import QueueSetting
from prefect_intelligent.twin.build import build_world
from prefect_intelligent.twin.model import state as phases
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import DeploymentSpec, PoolSpec
from tests.real_prefect import RealServer, unix_s
from tests.small_worlds import AT_ONCE, runs_of

AFTER_S, LOOP_S, LIMIT_S = 3.0, 1.0, 180.0


def state_of(server: RealServer, run_id: str, *names: str) -> dict:
    """The state of a run once it has one of these names."""
    deadline = time.monotonic() + LIMIT_S
    while (state := server.api().read_run(run_id)["state"])["name"] not in names:
        assert time.monotonic() < deadline, f"still {state['name']}, not {names}"
        time.sleep(0.2)
    return state


@pytest.mark.server
@pytest.mark.slow
def test_a_full_deployment_with_cancel_new_loses_its_waiting_run_without_a_worker(tmp_path: Path) -> None:
    late = "PREFECT_SERVER_SERVICES_LATE_RUNS_"
    settings = {f"{late}ENABLED": "true", f"{late}AFTER_SECONDS": str(AFTER_S), f"{late}LOOP_SECONDS": str(LOOP_S)}
    server = RealServer(tmp_path / "server", settings=settings)
    try:
        api = server.start().api()
        pool = api.pool()
        api.queue(pool, "q", priority=1)
        limits = {
            "full": {"concurrency_limit": 1, "concurrency_options": {"collision_strategy": "CANCEL_NEW"}},
            "roomy": {"concurrency_limit": 2, "concurrency_options": {"collision_strategy": "CANCEL_NEW"}},
            "enqueues": {"concurrency_limit": 1, "concurrency_options": {"collision_strategy": "ENQUEUE"}},
        }
        deployments = {name: api.deployment(pool, "q", name=name, **more) for name, more in limits.items()}
        for deployment in deployments.values():
            assert api.set_state(api.run(deployment), "PENDING")["status"] == "ACCEPT"
        begun_s = time.time()
        waiting = {name: api.run(deployment, at_s=begun_s) for name, deployment in deployments.items()}
        cancelled = state_of(server, waiting["full"], "Cancelled", "Late")
        others = [state_of(server, waiting[name], "Cancelled", "Late")["name"] for name in ("roomy", "enqueues")]
    finally:
        server.stop()
    assert cancelled["name"] == "Cancelled"
    assert others == ["Late", "Late"]
    assert unix_s(cancelled["timestamp"]) - begun_s >= AFTER_S

    # The twin: nothing is handed out beyond the first runs, which hold the only slots.
    specs = [
        DeploymentSpec(name="full", queue="q", limit=1, cancels_new=True),
        DeploymentSpec(name="roomy", queue="q", limit=2, cancels_new=True),
        DeploymentSpec(name="enqueues", queue="q", limit=1),
    ]
    rows = [{"deployment": number, "work": 100.0} for number in range(3)]
    rows += [{"deployment": number, "at": 1.0} for number in range(3)]
    one = PoolSpec(
        queues=(QueueSetting(name="q", priority=1),), limit=3, late_after_s=AFTER_S, late_loop_s=LOOP_S, **AT_ONCE
    )
    twin = Twin(build_world([one], specs, runs_of(rows)))
    twin.advance(50.0)
    assert twin.state.runs["phase"][0].tolist()[3:] == [phases.CANCELLED, phases.WAITING, phases.WAITING]
    assert 1.0 + AFTER_S <= twin.state.runs["finished_s"][0, 3] < 1.0 + AFTER_S + LOOP_S
