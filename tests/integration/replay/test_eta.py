"""What the twin says of a live pool: starts and ends, and the effect of a change."""

import json

import numpy as np
import pytest

from prefect_intelligent.cli import main
from prefect_intelligent.domain import (
    Estimate,
    PoolSetting,
    Prices,
    QueueSetting,
    QueueState,
    RelativeDeadline,
    Run,
    RunPhase,
    Snapshot,
    Terms,
)
from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.policy import parse_policy
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.terms import publish_terms
from prefect_intelligent.replay.eta import changed, predict_run_times, what_if
from prefect_intelligent.twin.spec import PoolSpec

NOW = 1_760_000_000.0


def run(name, queue, phase, **more):
    return Run(
        id=name,
        deployment=f"flow/{queue}",
        queue=queue,
        phase=phase,
        estimate=Estimate(p50_s=100, p90_s=110),
        late_usd_per_hour=60.0,
        **more,
    )


@pytest.fixture
def snapshot():
    first = QueueState(
        setting=QueueSetting(name="first", priority=1),
        active=(run("a", "first", RunPhase.RUNNING, scheduled_s=NOW - 60, started_s=NOW - 50),),
        waiting=tuple(run(f"w{i}", "first", RunPhase.WAITING, scheduled_s=NOW - 10 + i) for i in range(2)),
    )
    second = QueueState(
        setting=QueueSetting(name="second", priority=2),
        waiting=(run("late", "second", RunPhase.WAITING, scheduled_s=NOW - 30, due_s=NOW + 200),),
        upcoming=(run("soon", "second", RunPhase.UPCOMING, scheduled_s=NOW + 500, due_s=NOW + 5000),),
    )
    return Snapshot(
        at_s=NOW,
        pool=PoolSetting(name="etl", limit=1),
        queues=(first, second),
        prices=Prices(slot_usd_per_hour=0.1),
    )


@pytest.fixture
def model(snapshot):
    queues = tuple(queue.setting for queue in snapshot.queues)
    return PoolSpec(queues=queues, limit=1, prices=snapshot.prices, poll_s=1.0, prefetch_s=0.0, startup_s=1.0)


def foreseen(snapshot, model, policy):
    regime = Regime(interval_s=10.0, guard=GuardSettings(interval_s=10))
    found = predict_run_times(snapshot, model, parse_policy(policy), regime, np.random.default_rng(0), futures=200)
    return {eta.run.id: eta for eta in found}


def test_runs_end_in_the_order_in_which_prefect_serves_them(snapshot, model):
    etas = foreseen(snapshot, model, "prefect-default")
    ends = [etas[name].end_p50_s - NOW for name in ("a", "w0", "w1", "late", "soon")]
    assert ends == sorted(ends)
    assert ends[0] == pytest.approx(50, abs=5)  # half of its median is done
    assert ends[3] == pytest.approx(350, rel=0.1)
    assert etas["late"].late_probability == 1.0
    assert etas["soon"].late_probability == 0.0


def test_a_run_that_holds_a_slot_has_no_start_to_foretell(snapshot, model):
    eta = foreseen(snapshot, model, "prefect-default")["a"]
    assert eta.start_p50_s is None
    assert eta.late_probability is None
    assert eta.end_p50_s <= eta.end_p90_s


def test_a_policy_that_goes_on_deciding_is_foreseen_too(snapshot, model):
    before, after = (foreseen(snapshot, model, policy)["late"] for policy in ("prefect-default", "edf"))
    assert after.end_p50_s < before.end_p50_s
    assert after.late_probability < before.late_probability


def test_more_slots_save_lateness(snapshot, model):
    found = what_if(snapshot, model, {"pool.limit": 3}, seed=0, futures=100)
    assert found.late_runs == pytest.approx(1.0)
    assert found.changed_late_runs == pytest.approx(0.0)
    assert found.saving_usd == pytest.approx(found.cost_usd - found.changed_usd)
    assert 0 < found.saving_low_usd <= found.saving_usd <= found.saving_high_usd


def test_a_change_to_what_holds_already_changes_nothing(snapshot, model):
    found = what_if(snapshot, model, {"pool.limit": 1, "second.priority": 2}, seed=0, futures=20)
    assert (found.saving_low_usd, found.saving_usd, found.saving_high_usd) == (0, 0, 0)


def test_putting_a_queue_first_is_a_change_of_its_priority(snapshot):
    after = changed(snapshot, {"first.priority": 3, "second.limit": None})
    assert after.order == ("second", "first")


@pytest.mark.parametrize("name", ["secnd.limit", "second.limits", "pool.priority", "limit", "second.paused"])
def test_a_setting_that_does_not_exist_is_refused(snapshot, name):
    with pytest.raises(UnknownNameError):
        changed(snapshot, {name: 1})


@pytest.mark.parametrize(("name", "value"), [("pool.limit", -1), ("second.limit", -1), ("second.priority", None)])
def test_a_value_that_prefect_would_refuse_is_refused(snapshot, name, value):
    with pytest.raises(InvalidInputError):
        changed(snapshot, {name: value})


def test_an_empty_pool_has_nothing_to_foresee(snapshot, model):
    empty = Snapshot(at_s=NOW, pool=snapshot.pool, queues=(QueueState(setting=QueueSetting(name="first", priority=1)),))
    model = PoolSpec(queues=(QueueSetting(name="first", priority=1),), limit=1)
    assert foreseen(empty, model, "edf") == {}


@pytest.mark.server
def test_the_commands_foretell_a_real_pool_and_write_nothing(
    prefect_server, api, prefect_api, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "data"))
    pool = api.pool(limit=1)
    client, runs = PrefectApi(prefect_server.api_url), {}
    for number, queue in enumerate(("first", "second"), start=1):
        api.queue(pool, queue, priority=10 * number)
        deployment = api.deployment(pool, queue)
        row = api.call("GET", f"/deployments/{deployment}")
        name = f"{api.call('GET', '/flows/' + row['flow_id'])['name']}/{row['name']}"
        terms = Terms(deadline=RelativeDeadline(within_s=400.0), late_usd_per_hour=60.0, expected_s=120.0)
        publish_terms(client, name, terms)
        runs[queue] = [api.run(deployment, in_s=-5) for _ in range(3)]
    client.close()
    before = api.numbers(pool)
    assert main(["eta", "--pool", pool, "--policy", "prefect-default", "--json"]) == 0
    told = {row["run"]: row for row in json.loads(capsys.readouterr().out)["runs"]}
    assert told.keys() == {*runs["first"], *runs["second"]}
    last_of_first = max(told[run]["start_p50_s"] for run in runs["first"])
    assert all(told[run]["start_p50_s"] > last_of_first for run in runs["second"])
    assert all(row["start_p50_s"] <= row["start_p90_s"] <= row["end_p90_s"] for row in told.values())
    assert max(told[run]["late_probability"] for run in runs["second"]) > 0.8
    assert main(["eta", "--pool", pool, "--queue", "second", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 3
    assert main(["eta", runs["first"][0], "--pool", pool]) == 0
    assert "first" in capsys.readouterr().out
    assert main(["what-if", "--pool", pool, "--set", "pool.limit=3", "--hours", "0", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["changed_late_runs"] < said["late_runs"]
    assert 0 < said["saving_low_usd"] <= said["saving_usd"] <= said["saving_high_usd"]
    assert main(["what-if", "--pool", pool, "--set", "second.priority=1"]) == 0
    assert "in nine of ten futures" in capsys.readouterr().out
    assert api.numbers(pool) == before
    for words, message in (
        (["eta", "--queue", "secnd"], "did you mean 'second'"),
        (["eta", "nobody"], "unknown run in this pool"),
        (["eta", "--futures", "0"], "--futures: got 0"),
        (["what-if", "--set", "pool.limt=3"], "pool.limt"),
        (["what-if", "--set", "pool.limit=-3"], "-3"),
        (["what-if", "--set", "pool.limit=few"], "must be a whole number"),
        (["what-if", "--set", "secnd.limit=3"], "did you mean 'second'"),
        (["what-if", "--set", "pool.limit=3", "--hours", "-1"], "--hours: got -1.0"),
    ):
        assert main([*words, "--pool", pool]) == 2, words
        out, err = capsys.readouterr()
        assert out == ""
        assert message in err
        assert err.count("\n") == 1
