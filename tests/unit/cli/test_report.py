"""The commands that read the history say what they found, what they lack and what was typed wrong."""

import json
import time

import numpy as np
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_intelligent.analytics.markdown_report import to_markdown
from prefect_intelligent.analytics.report import all_health, make_report
from prefect_intelligent.cli import main
from prefect_intelligent.domain import Prices
from prefect_intelligent.history.adapters.sql_records import open_engine
from prefect_intelligent.history.adapters.sql_runs import SqlRuns
from prefect_intelligent.history.rows import QueueFact, RunFact


@pytest.fixture
def history(tmp_path, monkeypatch):
    """Two hundred hourly runs of two deployments; one of them has failed three times in a row."""
    url = f"sqlite:///{tmp_path}/history.db"
    monkeypatch.setenv("PREFECT_INTELLIGENT_HISTORY_URL", url)
    monkeypatch.chdir(tmp_path)
    store = SqlRuns(open_engine(url))
    now, facts = time.time(), []
    for row in range(200):
        at = now - (200 - row) * 1800.0
        failed = row in (195, 197, 199)
        facts.append(
            RunFact(
                f"r{row}",
                f"run-{row}",
                "main",
                "q",
                f"etl/{'bad' if row % 2 else 'good'}",
                "v1",
                "h",
                "FAILED" if failed else "COMPLETED",
                "ValueError: <n>" if failed else None,
                at,
                at,
                at + 5,
                at + 65,
                at + 600,
                None,
                None,
                1,
                2.0,
                3.0,
                "ValueError: 7" if failed else None,
            )
        )
    store.put(runs=facts)
    store.put_queues([QueueFact("main", "", now, None, 4, False)])
    return store


def test_report_in_words_and_in_json(history, capsys):
    assert main(["report", "--pool", "main", "--last", "30d"]) == 0
    out = capsys.readouterr().out
    assert "200 runs, 200 ended, 1.5% failed" in out
    assert "3 failures: ValueError: <n> in etl/bad" in out
    assert main(["report", "--pool", "main", "--last", "30d", "--by", "hour", "--money"]) == 0
    out = capsys.readouterr().out
    assert "overhead" in out
    assert "idle" in out
    assert main(["report", "--pool", "main", "--last", "30d", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["total"]["failure_usd"] == 9.0
    assert report["slots"] == 4.0
    assert report["utilisation"] == pytest.approx(200 * 60 / (4 * 100 * 3600), rel=1e-3)  # its first run was 100 h ago
    assert set(report["by"]["deployment"]) == {"etl/good", "etl/bad"}
    money = report["money"]
    total, per_day = money.pop("total_usd"), money.pop("usd_per_day")
    assert np.isclose(total, sum(money.values()))
    assert np.isclose(per_day * report["days"], total)


def test_health_is_a_finding_when_something_is_degraded(history, capsys):
    assert main(["health", "--pool", "main", "--last", "30d", "--json"]) == 1
    bad, good = json.loads(capsys.readouterr().out)
    assert (bad["name"], bad["status"]) == ("etl/bad", "degraded")
    assert "the last 3 runs failed" in bad["gates"]
    assert good["status"] == "healthy"
    assert main(["health", "--pool", "main", "--last", "30d", "--name", "etl/good"]) == 0
    assert "100 of 100 runs completed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["report", "--last", "soon"], "--last: got 'soon'"),
        (["report", "--rows", "0"], "--rows: got 0"),
        (["health", "--target", "1.5"], "--target: got 1.5"),
        (["health", "--name", "etl/none"], "no run of it"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(history, capsys, words, message):
    assert main(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("error: ")
    assert captured.out == ""


def test_an_empty_history_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PREFECT_INTELLIGENT_HISTORY_URL", f"sqlite:///{tmp_path}/h.db")
    monkeypatch.chdir(tmp_path)
    assert main(["report"]) == 1
    assert main(["health"]) == 1
    assert capsys.readouterr().out.count("not enough data") == 2


def test_sync_without_a_server_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PREFECT_INTELLIGENT_HISTORY_URL", f"sqlite:///{tmp_path}/new/h.db")
    monkeypatch.chdir(tmp_path)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert main(["sync"]) == 3
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_briefing_is_plain_text_in_tables(history):
    frame, now = history.run_frame(), time.time()
    report = make_report(frame, since_s=now - 30 * 86400, until_s=now, prices=Prices())
    report["causes"][0]["signature"] = "ValueError: <script>|\n[x](javascript:1)"
    text = to_markdown(report, all_health(frame, now, target=0.99)["deployments"], 30 * 86400)
    assert "200 runs, 1.5% failed" in text
    assert "etl/bad | degraded" in text
    assert "<script>" not in text.replace("\\<script\\>", "")
    (row,) = [line for line in text.splitlines() if "ValueError" in line]
    assert row.replace("\\|", "").count("|") == 5
    nothing = make_report(frame.iloc[:0], since_s=0.0, until_s=1.0, prices=Prices())
    assert to_markdown(nothing, [], 3600.0) == "Not enough data: no run in the last 1h.\n"
