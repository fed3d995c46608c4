"""The `quality` command on files: exit codes, output, and that dry runs and refusals write nothing."""

import json

import duckdb
import pandas as pd
import pytest

from prefect_intelligent.cli import main
from prefect_intelligent.local.spool import Spool

CONTRACT = """
dataset: ds/main/orders
columns:
  - name: order_id
    checks: [{missing: {}}]
  - name: amount
    checks: [{invalid: {valid_min: 0}}]
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orders.yml").write_text(CONTRACT)
    frame = pd.DataFrame({"order_id": range(100), "amount": 1.0})
    frame.loc[7, "amount"] = -5
    frame.to_parquet("orders.parquet")
    with duckdb.connect("w.duckdb") as con:
        con.execute("CREATE TABLE orders AS FROM 'orders.parquet'")
    return tmp_path


def run(capsys, *words):
    code = main(["quality", *words])
    return code, capsys.readouterr()


def amounts(table="w.duckdb"):
    with duckdb.connect(table, read_only=True) as con:
        return con.execute("SELECT count(*), min(amount) FROM orders").fetchone()


def test_check_finds_remedies_and_releases(place, capsys):
    code, out = run(capsys, "check", "orders.yml", "w.duckdb::orders", "--json")
    assert (code, json.loads(out.out)["outcome"]) == (1, "blocked")
    assert amounts() == (100, -5.0)

    code, out = run(capsys, "check", "orders.yml", "w.duckdb::orders", "--remedy", "--dry-run", "--json")
    assert (code, json.loads(out.out)["quarantined"]) == (0, 1)
    assert amounts() == (100, -5.0)

    code, out = run(capsys, "check", "orders.yml", "w.duckdb::orders", "--remedy", "--run-id", "r1")
    assert code == 0
    assert "1 rows were moved" in out.out
    assert amounts() == (99, 1.0)

    code, out = run(capsys, "quarantine", "list", "w.duckdb", "--json")
    (batch,) = json.loads(out.out)["batches"]
    assert (batch["run_id"], batch["rows"], batch["state"]) == ("r1", 1, "held")
    code, out = run(capsys, "quarantine", "show", "w.duckdb::orders", "--json")
    (row,) = json.loads(out.out)["rows"]
    assert (row["order_id"], row["amount"]) == (7, -5.0)

    code, out = run(capsys, "quarantine", "release", "w.duckdb::orders", "--dry-run", "--json")
    assert (code, json.loads(out.out)["released"], amounts()) == (0, 1, (99, 1.0))
    code, out = run(
        capsys, "quarantine", "release", "w.duckdb::orders", "--set", "amount=5", "--contract", "orders.yml", "--json"
    )
    assert (code, json.loads(out.out)["outcome"]) == (0, "passed")
    assert amounts() == (100, 1.0)
    code, out = run(capsys, "quarantine", "list", "w.duckdb", "--json")
    assert json.loads(out.out)["batches"][0]["state"] == "released"

    code, out = run(capsys, "history", "--json")
    outcomes = [result["outcome"] for result in json.loads(out.out)["results"]]
    assert outcomes == ["passed", "remedied", "blocked"]
    spool = Spool(place / "home" / "spool")
    assert spool.seal()
    kinds = [entry.kind for segment in spool.segments() for entry in spool.read(segment)[0]]
    assert kinds == ["quality", "quality"]  # the check and the remedy; a dry run leaves no trace


def test_rows_of_a_file_are_released_into_the_file(place, capsys):
    assert run(capsys, "check", "orders.yml", "orders.parquet", "--remedy")[0] == 0
    assert len(pd.read_parquet("orders.parquet")) == 99
    assert run(capsys, "quarantine", "release", "orders.parquet", "--set", "amount=2")[0] == 0
    back = pd.read_parquet("orders.parquet")
    assert (len(back), back.loc[back.order_id == 7, "amount"].tolist()) == (100, [2.0])


def test_one_correction_for_several_rows_is_refused_until_they_are_named(place, capsys):
    frame = pd.read_parquet("orders.parquet")
    frame.loc[[7, 8], "amount"] = -5
    frame.to_parquet("orders.parquet")
    with duckdb.connect("w.duckdb") as con:
        con.execute("CREATE OR REPLACE TABLE orders AS FROM 'orders.parquet'")
    assert run(capsys, "check", "orders.yml", "w.duckdb::orders", "--remedy")[0] == 0
    for words in (["--set", "amount=5"], ["--set", "amount=5", "--dry-run"]):
        code, out = run(capsys, "quarantine", "release", "w.duckdb::orders", *words)
        assert code == 2
        assert "--id" in out.err
        assert amounts() == (98, 1.0)
    _, out = run(capsys, "quarantine", "show", "w.duckdb::orders", "--json")
    named = next(row["_dq_id"] for row in json.loads(out.out)["rows"] if row["order_id"] == 8)
    words = ["--set", "amount=5", "--id", str(named)]
    assert run(capsys, "quarantine", "release", "w.duckdb::orders", *words)[0] == 0
    with duckdb.connect("w.duckdb", read_only=True) as con:
        assert con.execute("SELECT order_id, amount FROM orders WHERE order_id IN (7, 8)").fetchall() == [(8, 5.0)]


def test_rows_that_are_released_unchanged_are_set_aside_again(place, capsys):
    run(capsys, "check", "orders.yml", "w.duckdb::orders", "--remedy")
    code, out = run(capsys, "quarantine", "release", "w.duckdb::orders", "--contract", "orders.yml")
    assert code == 0
    assert "1 rows quarantined" in out.out
    assert amounts() == (99, 1.0)


def test_a_new_contract_passes_on_the_data_it_was_made_from(place, capsys):
    assert run(capsys, "contract", "new", "w.duckdb::orders", "-o", "new.yml")[0] == 0
    assert run(capsys, "lint", "new.yml")[0] == 0
    assert run(capsys, "check", "new.yml", "w.duckdb::orders")[0] == 0
    code, out = run(capsys, "contract", "new", "w.duckdb::orders", "-o", "new.yml")
    assert code == 2
    assert "--force replaces it" in out.err


def test_profile_shows_every_column(place, capsys):
    code, out = run(capsys, "profile", "orders.parquet", "--json")
    found = json.loads(out.out)
    assert (code, found["rows"]) == (0, 100)
    assert [(c["name"], c["distinct"], c["missing"]) for c in found["columns"]] == [
        ("order_id", 100, 0),
        ("amount", 2, 0),
    ]


def test_lint_says_every_mistake_and_exits_with_1(place, capsys):
    (place / "bad.yml").write_text(CONTRACT.replace("valid_min", "valid_mn"))
    code, out = run(capsys, "lint", "orders.yml", "bad.yml")
    assert code == 1
    assert "did you mean 'valid_min'" in out.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["check", "nowhere.yml", "orders.parquet"], "nowhere.yml"),
        (["check", "orders.yml", "orders.xlsx"], "expected a data frame"),
        (["check", "orders.yml", "orders.parquet", "--var", "x"], "NAME=VALUE"),
        (["check", "orders.yml", "orders.parquet", "--budget-percent", "200"], "budget_percent"),
        (["profile", "w.duckdb"], "add ::TABLE, one of: orders"),
        (["quarantine", "list", "orders.parquet"], "nothing has been quarantined"),
        (["quarantine", "release", "w.duckdb::orders", "--set", "nope=1"], "orders__quarantine"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_code_2(place, capsys, words, says):
    code, out = run(capsys, *words)
    assert code == 2
    assert out.err.startswith("error: ")
    assert out.err.count("\n") == 1
    assert says in out.err


def test_data_that_cannot_be_read_is_not_good_data(place, capsys):
    code, out = run(capsys, "check", "orders.yml", "w.duckdb::nope", "--json")
    assert (code, json.loads(out.out)["outcome"]) == (1, "error")
