"""What `@intelligent` does to flows that a real worker runs: nothing to their results, all else behind the scenes."""

import time

import pytest

from prefect_intelligent.domain import parse_deadline
from prefect_intelligent.history.adapters.sql_records import open_history
from prefect_intelligent.local.spool import Spool
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.pool_notes import PoolNotes
from prefect_intelligent.prefect_client.terms import read_terms
from tests.real_prefect import start_worker

pytestmark = [pytest.mark.server, pytest.mark.worker, pytest.mark.slow]

FLOWS = """
import os, pathlib, sys, time
from prefect import flow
from prefect_intelligent import intelligent

def mine(flow, flow_run, state):
    pathlib.Path(os.environ["MARKS"], f"{flow.name}-{state.type.value}").touch()

def broken(flow, flow_run, state):
    raise RuntimeError("a hook of the user's fails")

@intelligent(deadline="45m", late_usd_per_hour=40, outputs=["mart"])
@flow(on_completion=[broken, mine])
def fine():
    heavy = {"soda_core", "soda", "mlflow", "torch", "numba", "duckdb"} & set(sys.modules)
    assert not heavy, heavy

@intelligent(failure_usd=9)
@flow(on_failure=[mine])
async def fails():
    raise ValueError("on purpose")

@intelligent
@flow(on_crashed=[mine])
def crashes():
    os._exit(3)

@intelligent
@flow(on_cancellation=[mine])
def waits():
    time.sleep(600)

@intelligent(expected="10s")
@flow(on_completion=[mine])
def generates():
    yield 1
    yield 2
"""


@pytest.fixture
def scene(prefect_server, api, workers, tmp_path):
    """A pool with a worker, its flows, and a place where hooks leave things."""
    (tmp_path / "flows.py").write_text(FLOWS)
    (tmp_path / "marks").mkdir()
    pool = api.pool()
    api.queue(pool, "work", priority=20)
    env = {
        "PREFECT_INTELLIGENT_DATA_DIR": str(tmp_path / "data"),
        "PREFECT_INTELLIGENT_POLICY": "edf",
        "PREFECT_INTELLIGENT_INTERVAL_S": "2",
        "MARKS": str(tmp_path / "marks"),
    }
    worker = start_worker(prefect_server, pool, **env)
    workers.callback(worker.kill)

    def run(name):
        flow = f"{name}-{tmp_path.name}"
        body = {"flow": name, "entrypoint": f"flows.py:{name}", "path": tmp_path}
        return api.run(api.deployment(pool, "work", name=flow, **body))

    return pool, run, worker, tmp_path


def reported(folder):
    """Flow, state and event id of everything in the spool."""
    spool = Spool(folder / "data" / "spool")
    spool.seal()
    entries = [entry for segment in spool.segments() for entry in spool.read(segment)[0]]
    return [(entry.record["flow"], entry.record["state"], entry.id) for entry in entries if entry.kind == "flow_run"]


def test_states_hooks_reports_terms_and_an_embedded_decision(prefect_server, api, scene):
    pool, run, worker, folder = scene
    notes = PoolNotes(PrefectApi(prefect_server.api_url), pool)
    notes.write("switch", {"position": "on", "by": "test"})
    waiting = run("waits")
    deadline = time.monotonic() + 180
    # Nobody leads the pool, so the hook of the run at work makes a decision.
    history = open_history(f"sqlite:///{folder / 'data' / 'history.db'}")
    while not history.records("decision", pool) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert history.records("decision", pool), worker.tail(60)

    others = {name: run(name) for name in ("fine", "fails", "crashes", "generates")}
    ended = {found["id"]: found["state_type"] for found in api.wait([*others.values()], timeout_s=240)}
    assert {name: ended[run_id] for name, run_id in others.items()} == {
        "fine": "COMPLETED",
        "fails": "FAILED",
        "crashes": "CRASHED",
        "generates": "COMPLETED",
    }, worker.tail(60)

    api.set_state(waiting, "CANCELLING")
    assert api.wait([waiting], timeout_s=180)[0]["state_type"] == "CANCELLED"

    # The user's own hooks ran, next to ours, and one that fails harmed nobody.
    wanted = {"fine-COMPLETED", "fails-FAILED", "crashes-CRASHED", "generates-COMPLETED", "waits-CANCELLING"}
    deadline = time.monotonic() + 240
    while {path.name for path in (folder / "marks").iterdir()} != wanted and time.monotonic() < deadline:
        time.sleep(0.3)
    assert {path.name for path in (folder / "marks").iterdir()} == wanted

    seen = reported(folder)
    assert {(flow, state) for flow, state, _ in seen} == {
        *((flow, "RUNNING") for flow in ("waits", *others)),
        ("fine", "COMPLETED"),
        ("fails", "FAILED"),
        ("crashes", "CRASHED"),
        ("generates", "COMPLETED"),
        ("waits", "CANCELLING"),
    }
    assert len({key for _, _, key in seen}) == len(seen)

    # The terms are known to controllers.
    agreed = read_terms(PrefectApi(prefect_server.api_url)).by_subject
    assert (agreed["fine"].deadline, agreed["fine"].late_usd_per_hour) == (parse_deadline("45m"), 40)
    assert agreed["fails"].failure_usd == 9
