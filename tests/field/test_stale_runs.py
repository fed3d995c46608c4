"""Runs that wait too long are cancelled where their owner asks for it, nowhere else; shadow first, undone by name."""

import json

import pytest

from prefect_intelligent import cli
from prefect_intelligent.domain import Terms
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.claims import in_force
from prefect_intelligent.prefect_client.terms import publish_terms
from tests.field.stage import Stage

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]


@pytest.fixture
def stage(sqlite, prefect_server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "data"))
    return Stage(prefect_server)


def declare(stage, owner, **terms):
    api = PrefectApi(stage.server.api_url, timeout_s=30.0)
    publish_terms(api, owner.flow, Terms(**terms))
    api.close()


def states(stage, runs):
    return [stage.api.read_run(run)["state_type"] for run in runs]


def prevent(stage, capsys, *words):
    code = cli.main(["prevent", *words, "--pool", stage.pool, "--json"])
    return code, json.loads(capsys.readouterr().out)


def pile(stage, owner, count=3, **more):
    return [owner.run(in_s=-float(60 - place), **more) for place in range(count)]


def test_shadow_only_records_and_write_cancels_all_but_the_latest(stage, capsys):
    declare(stage, stage.owner, stale="latest only")
    runs, others = pile(stage, stage.owner), pile(stage, stage.other)
    code, found = prevent(stage, capsys, "run")
    assert (code, [step["note"] for step in found["steps"]]) == (1, ["only recorded"])
    assert states(stage, runs) == ["SCHEDULED"] * 3
    assert prevent(stage, capsys, "run")[1]["steps"] == []  # it is recorded once
    code, found = prevent(stage, capsys, "run", "--write")
    assert found["steps"][0]["written"]
    assert states(stage, runs) == ["CANCELLED", "CANCELLED", "SCHEDULED"]
    assert states(stage, others) == ["SCHEDULED"] * 3  # whose owner has asked for nothing
    assert prevent(stage, capsys, "run", "--write")[1]["steps"] == []


def test_a_measure_is_undone_by_its_name_and_stays_so(stage, capsys):
    declare(stage, stage.owner, most_waiting=1)
    runs = pile(stage, stage.owner)
    prevent(stage, capsys, "run", "--write")
    assert states(stage, runs) == ["CANCELLED", "CANCELLED", "SCHEDULED"]
    code, found = prevent(stage, capsys, "undo", f"stale-runs deployment:{stage.owner.name}")
    assert (code, found["count"]) == (0, 2)
    assert states(stage, runs) == ["SCHEDULED"] * 3
    prevent(stage, capsys, "run", "--write")
    assert states(stage, runs) == ["SCHEDULED"] * 3
    assert cli.main(["prevent", "undo", "no such measure", "--pool", stage.pool]) == 2
    assert cli.main(["prevent", "undo", "--pool", stage.pool]) == 2


def test_what_waits_longer_than_the_span_goes_also_where_it_is_held(stage, capsys):
    declare(stage, stage.owner, stale="cancel after 1h")
    old, new = stage.due(), stage.due()
    stage.earlier(old, 7200.0)
    api = PrefectApi(stage.server.api_url, timeout_s=30.0)
    in_force.claim(api, f"dataset {stage.pool}", [stage.owner.name], "hold", 0)
    prevent(stage, capsys, "run", "--write")
    assert states(stage, [old, new]) == ["CANCELLED", "SCHEDULED"]
    in_force.release(api, f"dataset {stage.pool}")
    api.close()


def test_other_parameters_other_attempts_and_awaited_runs_are_kept(stage, capsys):
    declare(stage, stage.owner, stale="latest only")
    monday, tuesday = (stage.owner.run(in_s=-50.0, parameters={"day": day}) for day in (1, 2))
    again = stage.owner.run(in_s=-49.0)
    for state in ("PENDING", "RUNNING"):
        stage.api.set_state(again, state)
    stage.schedule(again, -40.0, "AwaitingRetry")
    awaited = stage.child(stage.begin(stage.other), stage.owner)
    last = stage.owner.run(in_s=-1.0)
    assert prevent(stage, capsys, "run", "--write")[1]["steps"] == []
    assert states(stage, [monday, tuesday, again, awaited, last]) == ["SCHEDULED"] * 5


def test_nothing_is_cancelled_while_steering_is_switched_off(stage, capsys):
    declare(stage, stage.owner, stale="latest only")
    runs = pile(stage, stage.owner)
    assert cli.main(["control", "off", "--pool", stage.pool]) == 0
    capsys.readouterr()
    prevent(stage, capsys, "run", "--write")
    assert states(stage, runs) == ["SCHEDULED"] * 3


def test_what_was_cancelled_is_scored_once_a_later_run_has_completed(stage, capsys):
    declare(stage, stage.owner, stale="latest only")
    runs = pile(stage, stage.owner)
    prevent(stage, capsys, "run", "--write")
    _, found = prevent(stage, capsys, "scores")
    assert [score["verdict"] for score in found["measures"]] == ["open"]
    for state in ("PENDING", "RUNNING", "COMPLETED"):
        stage.api.set_state(runs[-1], state)
    assert cli.main(["sync"]) == 0
    capsys.readouterr()
    _, found = prevent(stage, capsys, "scores")
    assert [(score["rule"], score["verdict"]) for score in found["measures"]] == [("stale-runs", "right")]
