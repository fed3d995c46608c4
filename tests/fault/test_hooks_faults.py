"""A hook never raises and never costs a flow more than its budget, whatever is broken."""

import socket
import sys
import time
import uuid
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from prefect import flow
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_intelligent import attach
from prefect_intelligent.flow import hooks
from prefect_intelligent.local.spool import Spool
from tests.real_prefect import free_port

ALL = [
    hooks.report_running,
    hooks.report_completed,
    hooks.report_failed,
    hooks.report_crashed,
    hooks.report_cancelled,
]
SLACK_S = 1.0  # for a busy machine
TRIES = 10  # one that is undisturbed tells what a hook costs


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path))
    return tmp_path


def a_flow():
    @flow(name=f"f-{uuid.uuid4().hex[:6]}")
    def work():
        return 1

    return attach(work, late_usd_per_hour=3, outputs=["mart"])


def a_run():
    now = datetime.now(UTC)
    return SimpleNamespace(
        id=uuid.uuid4(),
        name="run",
        deployment_id=uuid.uuid4(),
        work_pool_name="pool",
        work_queue_name="q",
        run_count=1,
        expected_start_time=now,
        start_time=now,
        parameters={},
        job_variables=None,
    )


def a_state():
    return SimpleNamespace(type=SimpleNamespace(value="COMPLETED"), name="Completed", timestamp=datetime.now(UTC))


def cost_of(run, *called):
    started = time.monotonic()
    for hook in called:
        hook(flow=a_flow(), flow_run=run, state=a_state())
    return time.monotonic() - started


def costs_less_than(seconds, *called):
    """Whether the hooks of some run took less: a busy machine delays one, a wait without a budget delays all."""
    return any(cost_of(a_run(), *called) < seconds for _ in range(TRIES))


@pytest.fixture
def stalled():
    """A server that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api"


@pytest.mark.parametrize("hook", ALL)
def test_a_server_that_is_not_there_costs_little(hook):
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        assert costs_less_than(hooks.BUDGET_S + SLACK_S, hook)


def test_all_hooks_of_a_run_share_one_budget_on_a_server_that_stalls(stalled):
    with temporary_settings({PREFECT_API_URL: stalled}):
        assert costs_less_than(hooks.BUDGET_S + SLACK_S, *ALL, *ALL)


def test_starting_does_not_wait_for_the_server(stalled):
    with temporary_settings({PREFECT_API_URL: stalled}):
        assert costs_less_than(SLACK_S, hooks.report_running)


@pytest.mark.parametrize("hook", ALL)
def test_no_server_at_all_and_arguments_that_make_no_sense_raise_nothing(hook):
    hook(flow=a_flow(), flow_run=a_run(), state=a_state())
    hook(flow=None, flow_run=None, state=None)


def test_the_report_is_kept_when_the_server_is_dead_and_twice_is_once(folder):
    run = a_run()
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        cost_of(run, hooks.report_completed, hooks.report_completed)
    spool = Spool(folder / "spool")
    spool.seal()
    entries = [entry for segment in spool.segments() for entry in spool.read(segment)[0]]
    assert {entry.record["flow_run_id"] for entry in entries} == {str(run.id)}
    assert {entry.id for entry in entries} == {f"{run.id}:COMPLETED:1"}


def test_a_folder_that_cannot_be_written_raises_nothing(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "file"))
    cost_of(a_run(), *ALL)


@pytest.mark.server
def test_the_result_of_a_flow_is_the_same_when_all_of_ours_is_broken(prefect_api, monkeypatch, tmp_path):
    def bang(*args, **kwargs):
        raise RuntimeError("broken on purpose")

    for name in ("_report", "_publish"):
        monkeypatch.setattr(hooks, name, bang)

    @flow(on_completion=[lambda flow, flow_run, state: seen.append(state.name)])
    def work():
        return 42

    seen = []
    assert attach(work)() == 42
    assert seen == ["Completed"]


def test_hooks_import_nothing_heavy():
    import subprocess

    code = (
        "import prefect_intelligent.flow.hooks, prefect_intelligent.flow.decorator;"
        "import prefect_intelligent.wiring.steering, sys;"
        "print(*({'soda_core', 'soda', 'mlflow', 'torch', 'numba', 'duckdb'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
