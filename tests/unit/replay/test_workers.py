"""`eta` and `what-if` know the workers that a pool's history shows."""

import json

import pytest

from prefect_intelligent.domain import PoolSetting, QueueState, Snapshot
from prefect_intelligent.history.rows import EventFact
from prefect_intelligent.replay.workers import TAKEN, learned_workers, takers
from prefect_intelligent.settings import Settings
from prefect_intelligent.twin.spec import WorkerSpec
from prefect_intelligent.wiring.history import open_runs
from prefect_intelligent.wiring.replay import worked_model
from simulations.scenario import read_scenario
from tests.twin_history import POOL, keep_history

HOURS = 30
SCENARIO = {
    "purpose": "Three workers, each with a queue of its own.",
    "hours": HOURS,
    "pools": [
        {
            "limit": 9,
            "poll_s": 6,
            "queues": [{"name": name, "priority": place} for place, name in enumerate(("narrow", "rare", "wide"), 1)],
            "workers": [
                {"name": "one", "limit": 1, "queues": ["narrow"]},
                {"name": "three", "queues": ["rare"]},
                {"name": "two", "queues": ["wide"]},
            ],
        }
    ],
    "deployments": [
        {"name": f"{queue}/d", "queue": queue, "arrivals": {"kind": "poisson", "per_hour": rate},
         "duration": {"median_s": 240, "cv": 0.5}}
        for queue, rate in (("narrow", 12), ("rare", 2), ("wide", 20))
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    path = tmp_path_factory.mktemp("history") / "h.db"
    settings = Settings(history_url=f"sqlite:///{path}", pools={POOL: {"poll_s": 6.0}})
    keep_history(open_runs(settings), read_scenario("workers", SCENARIO))
    return settings


def snapshot(at_s):
    queues = read_scenario("workers", SCENARIO).pools[0].queues_by_name
    states = tuple(QueueState(setting=each) for each in queues)
    return Snapshot(at_s=at_s, pool=PoolSetting(name=POOL, limit=9), queues=states)


def end_s():
    return read_scenario("workers", SCENARIO).start_s + HOURS * 3600.0


def test_workers_are_those_of_the_last_days(settings):
    model = worked_model(settings, snapshot(end_s()))
    assert model.workers == (
        WorkerSpec(name="one", limit=1, queues=("narrow",)),
        WorkerSpec(name="three", queues=("rare",)),
        WorkerSpec(name="two", queues=("wide",)),
    )
    assert worked_model(settings, snapshot(end_s() + 10 * 86400.0)).workers == ()


def test_a_queue_that_no_known_worker_polls_is_not_left_without_any(tmp_path):
    settings = Settings(history_url=f"sqlite:///{tmp_path}/h.db", pools={POOL: {"poll_s": 6.0}})
    store = open_runs(settings)
    keep_history(store, read_scenario("workers", SCENARIO))
    told = [(row, json.loads(row.payload)) for row in store.event_frame(prefix=TAKEN).itertuples()]
    seldom = [(row, payload) for row, payload in told if payload["name"] == "three"]
    renamed = [  # it is started anew every few hours, with another name
        EventFact(row.event_id, row.at_s, TAKEN, row.resource, json.dumps(payload | {"name": f"three-{place // 8}"}))
        for place, (row, payload) in enumerate(seldom)
    ]
    store.put(events=renamed)
    assert worked_model(settings, snapshot(end_s())).workers == ()
    passages, taken_by = store.passage_frame(POOL), takers(store.event_frame(prefix=TAKEN)["payload"])
    _, doubt = learned_workers(passages, taken_by, tuple(each.setting for each in snapshot(end_s()).queues), 9, 6.0)
    assert doubt == "workers: none that stays polls rare: taken as one"
