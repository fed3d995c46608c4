"""Recommendations and forecasts on a real server: shown, applied, undone, foretold."""

import json
import time

import pytest

from benchmarks.recommendations import submissions
from prefect_intelligent.cli import main
from prefect_intelligent.history.adapters.sql_records import open_engine, open_history
from prefect_intelligent.history.adapters.sql_runs import SqlRuns
from prefect_intelligent.history.rows import RunFact
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.recommendations.model import ProposedChange, Recommendation
from prefect_intelligent.steering.adapters.prefect_pool import PrefectOrchestrator


@pytest.mark.server
def test_shown_applied_undone_and_foretold(api, prefect_api, monkeypatch, tmp_path, capsys):
    pool = api.pool(limit=32)
    for name, priority in (("bulk", 50), ("gold", 20), ("silver", 30)):
        api.queue(pool, name, priority=priority)
    url = f"sqlite:///{tmp_path}/h.db"
    monkeypatch.setenv("PREFECT_INTELLIGENT_HISTORY_URL", url)
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PREFECT_INTELLIGENT_PRICES__IDLE_FRACTION", "1")  # the pool's type is process
    monkeypatch.chdir(tmp_path)
    past = submissions("oversized pool", 0, 0)
    shift = time.time() - 3600.0 - float(past["ended_s"].max())
    facts = [
        RunFact(
            f"r{row.Index}", None, pool, row.queue, row.deployment, "v1", None,
            "FAILED" if row.Index % 17 == 0 else "COMPLETED", None, row.scheduled_s + shift, row.submitted_s + shift,
            row.started_s + shift, row.ended_s + shift, row.due_s + shift, None, None, 1, row.late_usd_per_hour, None,
            None,
        )
        for row in past.itertuples()
    ]  # fmt: skip
    SqlRuns(open_engine(url)).put(runs=facts)
    assert main(["recommend", "--pool", pool, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    first = said["recommendations"][0]
    assert (first["kind"], first["subject"]) == ("pool-limit", pool)
    assert main(["recommend", "apply", "1", "--pool", pool]) == 0
    assert f"would write pool limit 32 -> {first['pool_limit']}" in capsys.readouterr().out
    assert api.numbers(pool)[""][1] == 32
    assert main(["recommend", "apply", "1", "--write", "--pool", pool]) == 0
    assert api.numbers(pool)[""][1] == first["pool_limit"]
    assert main(["recommend", "undo", "--pool", pool]) == 0
    assert api.numbers(pool)[""][1] == 32
    assert main(["recommend", "apply", "99", "--pool", pool]) == 2
    capsys.readouterr()
    assert main(["predict", "--pool", pool]) == 2
    assert "predict train" in capsys.readouterr().err
    assert main(["predict", "train", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == len(facts)
    api.run(api.deployment(pool, "gold"), in_s=-5)
    assert main(["predict", "--pool", pool, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert 0 < row["failure_probability"] < 0.5
    assert 0 < row["p50_s"] <= row["p90_s"]


@pytest.mark.server
def test_a_queue_is_split_and_joined_again(api, prefect_api, monkeypatch, tmp_path, capsys):
    pool = api.pool()
    api.queue(pool, "bulk", priority=10)
    deployment = api.deployment(pool, "bulk")
    name = next(found.name for found in PrefectOrchestrator(PrefectApi(prefect_api), pool).deployments())
    url = f"sqlite:///{tmp_path}/h.db"
    monkeypatch.setenv("PREFECT_INTELLIGENT_HISTORY_URL", url)
    monkeypatch.chdir(tmp_path)
    order = ("lane", "bulk", "default")
    change = ProposedChange(
        kind="split", subject=name, title="t", evidence="e", order=order, assignments={name: "lane"}
    )
    row = Recommendation(change=change, saving_usd_per_day=1.0, interval=(0.5, 1.5), days=7).row()
    open_history(url).append("recommendations", pool, time.time(), {"rows": [row], "last": "14d"})
    assert main(["recommend", "apply", "1", "--pool", pool]) == 0
    assert "would write new queue lane" in capsys.readouterr().out
    assert "lane" not in api.queues(pool)
    assert main(["recommend", "apply", "1", "--pool", pool, "--write"]) == 0
    numbers = api.numbers(pool)
    assert numbers["lane"][0] < numbers["bulk"][0]
    assert api.call("GET", f"/deployments/{deployment}")["work_queue_name"] == "lane"
    assert main(["recommend", "score", "--pool", pool]) == 2
    assert "not enough data" in capsys.readouterr().err
    assert main(["recommend", "undo", "--pool", pool]) == 0
    assert api.call("GET", f"/deployments/{deployment}")["work_queue_name"] == "bulk"
    assert "lane" not in api.queues(pool)
