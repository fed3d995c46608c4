"""What was planted is found, promised savings come true, and a recommendation can be taken back."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.recommendations import EXPECTED, FAULTS, live_through, world
from prefect_intelligent.domain import Deployment, PoolSetting, QueueSetting, QueueState
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.recommendations.adapters.otlp import read_usage
from prefect_intelligent.recommendations.apply import (
    apply_recommendation,
    deployments_to_move,
    queues_to_create,
    rescore,
    settings_to_change,
    undo_last,
)
from prefect_intelligent.recommendations.evaluate import recommend, replay_daily_cost
from prefect_intelligent.recommendations.memory_rightsizing import memory_mb, rightsize
from prefect_intelligent.recommendations.model import ReplayInput
from prefect_intelligent.testing.clock import ManualClock
from prefect_intelligent.testing.history import InMemoryHistory


@pytest.mark.parametrize(("seed", "fault"), enumerate(FAULTS))
def test_the_planted_fault_is_among_the_first_three_and_its_saving_comes_true(seed, fault):
    proposals = recommend(live_through(world(fault, seed, 0), seed), np.random.default_rng(seed), seed=seed)
    (found,) = [p for p in proposals[:3] if (p.change.kind, p.change.subject) == EXPECTED[fault]]
    before, after = replay_daily_cost(world(fault, seed, 1), [None, found.change], seed=seed + 1)
    assert found.saving_usd_per_day == pytest.approx(float((before - after).mean()), rel=0.35)
    low, high = found.interval
    assert 0 < low <= found.saving_usd_per_day <= high


def test_slots_that_cost_nothing_are_not_saved():
    past = live_through(world("oversized pool", 0, 0), 0)
    free = replace(past, prices=replace(past.prices, idle_fraction=0.0))
    assert [p for p in recommend(free, np.random.default_rng(0)) if p.change.kind == "pool-limit"] == []


def test_the_same_replay_twice_costs_the_same():
    past = world("starving queue", 5, 0)
    np.testing.assert_array_equal(replay_daily_cost(past, [None, None])[0], replay_daily_cost(past, [None])[0])


def test_too_little_history_says_so():
    past = world("oversized pool", 0, 0)
    few = ReplayInput(runs=past.runs.iloc[:20], pool=past.pool, queues=past.queues, prices=past.prices)
    with pytest.raises(InvalidInputError, match="50 are needed"):
        recommend(few, np.random.default_rng(0))
    one_day = past.runs[past.runs["scheduled_s"] < past.runs["scheduled_s"].min() + 86400]
    with pytest.raises(InvalidInputError, match="less than two days"):
        recommend(
            ReplayInput(runs=one_day, pool=past.pool, queues=past.queues, prices=past.prices), np.random.default_rng(0)
        )


class Pool:
    """Settings that can be read and written."""

    pool = "main"

    def __init__(self):
        self.limit = 6
        self.queues = {"bulk": [50, None], "gold": [90, 1]}
        self.homes = {"bulk/load": "bulk", "gold/report": "bulk"}

    def settings(self):
        queues = tuple(QueueSetting(name=n, priority=p, limit=limit) for n, (p, limit) in self.queues.items())
        return PoolSetting(name="main", limit=self.limit), queues

    def observe(self):
        return SimpleNamespace(queues=[QueueState(setting=setting) for setting in self.settings()[1]])

    def deployments(self):
        return tuple(Deployment(name=name, queue=queue) for name, queue in self.homes.items())

    def create_queue(self, setting):
        self.queues[setting.name] = [setting.priority, setting.limit]

    def delete_queue(self, name):
        del self.queues[name]

    def assign(self, deployment, queue):
        assert queue in self.queues
        self.homes[deployment] = queue

    def apply(self, changes):
        for change in changes:
            if change.queue is None:
                self.limit = change.after
            else:
                self.queues[change.queue][0 if change.field == "priority" else 1] = change.after
        return tuple(changes)


ROW = {"title": "t", "saving_usd_per_day": 1.0, "pool_limit": None, "limits": {}, "order": [], "homes": {}}
ROW |= {"by_hand": ""}


def test_a_recommendation_is_applied_and_taken_back():
    pool, history, clock = Pool(), InMemoryHistory(), ManualClock()
    row = {**ROW, "pool_limit": 9, "limits": {"gold": None}, "order": ["gold", "gone", "bulk"]}
    assert len(settings_to_change(row, pool)) == 3
    assert (pool.limit, pool.queues["gold"]) == (6, [90, 1])  # looking writes nothing
    apply_recommendation(row, pool, history, clock)
    assert pool.limit == 9
    assert pool.queues["gold"][0] < pool.queues["bulk"][0]
    assert pool.queues["gold"][1] is None
    assert settings_to_change(row, pool) == ()
    undo_last(pool, history, clock)
    assert (pool.limit, pool.queues) == (6, {"bulk": [50, None], "gold": [90, 1]})
    with pytest.raises(InvalidInputError, match="none is applied"):
        undo_last(pool, history, clock)


def test_a_queue_of_its_own_is_made_and_removed_again():
    pool, history, clock = Pool(), InMemoryHistory(), ManualClock()
    lane = "bulk-gold-report"
    row = {**ROW, "homes": {"gold/report": lane}, "order": [lane, "bulk", "gold"]}
    assert (queues_to_create(row, pool), deployments_to_move(row, pool)) == ((lane,), (("gold/report", "bulk", lane),))
    assert lane not in pool.queues  # looking writes nothing
    apply_recommendation(row, pool, history, clock)
    assert pool.homes == {"bulk/load": "bulk", "gold/report": lane}
    assert pool.queues[lane][0] < pool.queues["bulk"][0]
    assert (queues_to_create(row, pool), deployments_to_move(row, pool), settings_to_change(row, pool)) == ((), (), ())
    undo_last(pool, history, clock)
    assert pool.homes == {"bulk/load": "bulk", "gold/report": "bulk"}
    assert set(pool.queues) == {"bulk", "gold"}


def test_what_belongs_to_others_is_said_and_not_written():
    with pytest.raises(InvalidInputError, match="is done by hand: change the schedule"):
        settings_to_change({**ROW, "by_hand": "change the schedule of etl/x"}, Pool())


def test_what_was_applied_is_scored_on_what_happened_since():
    """The pool had too many slots; now that it has fewer, the days since show what that saves."""
    before = world("oversized pool", 0, 0)
    small = replace(before, pool=replace(before.pool, limit=6))
    record = {"title": "t", "values": [[None, "limit", before.pool.limit, 6]], "moves": []}
    found = rescore(live_through(small, 0), record, np.random.default_rng(0))
    idle = (before.pool.limit - 6) * 24 * before.prices.slot_usd_per_hour
    assert found.saving_usd_per_day == pytest.approx(idle, rel=0.1)
    assert found.interval[0] <= found.saving_usd_per_day <= found.interval[1]


@pytest.mark.parametrize(
    ("variables", "size"),
    [
        *(
            ({"mem_limit": "2g"}, 2048),
            ({"memory": 4096}, 4096),
            ({"memory": "512Mi"}, 512),
            ({"memory": "2GiB"}, 2048),
        ),
        *(({"memory": "lots"}, None), ({}, None), ({"memory": None}, None)),
    ],
)
def test_memory_is_understood_in_the_forms_of_the_infrastructures(variables, size):
    assert memory_mb(variables) == size


def test_memory_that_is_never_used_is_recommended_to_be_given_back():
    runs = world("oversized pool", 0, 0).runs
    peaks = {"bulk/load": (900.0, 504), "gold/report": (900.0, 5), "silver/sync": (7000.0, 168)}
    asked = dict.fromkeys(peaks, 8192.0)
    (found,) = rightsize(runs, peaks, asked, 0.004, np.random.default_rng(0))
    assert (found.change.kind, found.change.subject) == ("memory", "bulk/load")
    assert "1280 MiB" in found.change.title
    own = runs[runs["deployment"] == "bulk/load"]
    hours = float((own["ended_s"] - own["started_s"]).sum()) / 3600.0
    days = (runs["submitted_s"] // 86400).max() - (runs["submitted_s"] // 86400).min() + 1
    assert found.saving_usd_per_day == pytest.approx(hours * (8192 - 1280) / 1024 * 0.004 / days)
    assert rightsize(runs.iloc[:0], peaks, asked, 0.004, np.random.default_rng(0)) == []


def otlp(run: str, *values: int) -> str:
    attributes = [
        {"key": "prefect.flow-run.id", "value": {"stringValue": run}},
        {"key": "prefect.deployment.id", "value": {"stringValue": "d1"}},
    ]
    points = [{"asInt": str(value)} for value in values]
    metric = {"name": "process.memory.usage", "sum": {"dataPoints": points}}
    scope = {"metrics": [metric, {"name": "process.cpu.utilization", "gauge": {"dataPoints": [{"asDouble": 0.5}]}}]}
    return json.dumps({"resourceMetrics": [{"resource": {"attributes": attributes}, "scopeMetrics": [scope]}]})


def test_memory_is_read_from_the_file_of_a_collector(tmp_path):
    file = tmp_path / "metrics.json"
    file.write_text("\n".join([otlp("r1", 100, 300), otlp("r2", 50), otlp("r1", 200), ""]))
    found = read_usage(file).set_index("run_id")["memory_bytes"]
    assert found.to_dict() == {"r1": 300.0, "r2": 50.0}
    for text, message in (
        ("{}", "holds no memory"),
        ("not json", "is not a line"),
        ('{"resourceMetrics": [3]}', "line"),
    ):
        file.write_text(text)
        with pytest.raises(InvalidInputError, match=message):
            read_usage(file)
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_usage(tmp_path / "none")
