"""The benchmark's code runs on any log of its columns, and says what a log is too poor for."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks import prediction
from prefect_intelligent.forecasting import forecaster


def log(rows=800, users=8, failing=0.2, seed=0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    submit = np.cumsum(rng.exponential(900.0, rows)).astype(int)
    user = rng.integers(0, users, rows)
    bad = rng.random(rows) < failing * (0.5 + user / max(1, users - 1))
    return pd.DataFrame(
        {
            "job": np.arange(rows),
            "submit": submit,
            "wait": rng.integers(0, 300, rows),
            "run": np.exp(rng.normal(5 + 0.2 * (user % 8), 0.7)).astype(int),
            "procs": 1 << rng.integers(0, 4, rows),
            "reqtime": 3600,
            "status": np.where(bad, 0, 1),
            "user": user,
            "group": 1,
            "colour": "blue",
        }
    )


@pytest.fixture
def measured(monkeypatch, tmp_path, capsys):
    few = {name: getattr(forecaster, name) for name in ("_FAILURE", "_MEAN", "_QUANTILE")}
    for name, growth in few.items():
        monkeypatch.setattr(forecaster, name, forecaster.replace(growth, iterations=12))

    def measure(frame: pd.DataFrame) -> tuple[int, dict, str]:
        frame.to_csv(tmp_path / "log.csv", index=False)
        monkeypatch.setattr("sys.argv", ["prediction", "--trace", str(tmp_path / "log.csv"), "--json"])
        code = prediction.main()
        shown = capsys.readouterr()
        return code, json.loads(shown.out) if code == 0 else {}, shown.err

    return measure


@pytest.mark.parametrize(
    "frame",
    [
        log(),
        log(users=1),
        log(failing=0.01),
        log(rows=700, users=300),
        log()[["submit", "wait", "run", "status", "user"]],
    ],
    ids=["usual", "one user", "few failures", "users seen once", "least columns"],
)
def test_every_log_gives_all_figures_without_a_leak(measured, frame):
    code, found, _ = measured(frame)
    assert code == 0
    figures = found["figures"]
    assert figures["leaking_features"] == 0
    assert {"failure_auc", "failure_ap", "failure_brier", "ewma_auc"} <= figures.keys()
    assert np.isfinite(list(figures.values())).all()
    assert 0.8 < figures["p90_coverage"] <= 1.0


def test_a_log_with_one_outcome_says_so(measured):
    code, found, _ = measured(log(failing=0.0))
    assert code == 0
    assert "failure_auc" not in found["figures"]
    assert found["context"]["failure"].startswith("not enough data")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (log().drop(columns="wait"), "the column 'wait' is needed"),
        (log(rows=60), "not enough data: 200 are needed"),
        (log(rows=1), "not enough data"),
        (log(rows=0), "not enough data: it has no rows"),
        (log().assign(run=-1), "no row with a run time is left"),
        (log().assign(run="soon"), "column 'run'"),
        (log().assign(submit=np.nan), "column 'submit'"),
    ],
    ids=["column", "sixty rows", "one row", "no rows", "no run times", "text", "no instants"],
)
def test_a_log_that_cannot_be_used_is_one_line(measured, frame, message):
    code, _, err = measured(frame)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_a_file_that_is_no_table_is_one_line(monkeypatch, tmp_path, capsys):
    (tmp_path / "log.csv").write_text("")
    monkeypatch.setattr("sys.argv", ["prediction", "--trace", str(tmp_path / "log.csv")])
    assert prediction.main() == 2
    assert "cannot be read as a table" in capsys.readouterr().err
