"""Every kind of dataset is edited in the same way: exactly the bad rows move, nothing is lost, all or nothing."""

import uuid
from collections import Counter

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from prefect_intelligent.domain.datasets import DataKind, parse_dataset
from prefect_intelligent.prefect_client.clock import SystemClock
from prefect_intelligent.quality.adapters.contracts.lint import load_contract
from prefect_intelligent.quality.adapters.editing.editor import RowEditor
from prefect_intelligent.quality.adapters.editing.quarantine import batches, release
from prefect_intelligent.quality.adapters.soda.checker import SodaChecker
from prefect_intelligent.quality.gate import Gate, GateOutcome
from prefect_intelligent.quality.model import Verdict
from prefect_intelligent.quality.remediation import (
    BudgetExceededError,
    CircuitState,
    RemediationPolicy,
    plan_steps,
    required_edits,
)

URL = "postgresql://postgres@127.0.0.1:5432/test"
CONTRACT = load_contract("""
dataset: ds/main/orders
checks:
  - failed_rows: {name: Sane, qualifier: sane, expression: amount > 1000}
columns:
  - name: order_id
    checks: [{missing: }, {duplicate: }]
  - name: country
    checks:
      - missing: {attributes: {remediation: impute, value: DE}}
      - invalid: {valid_values: [DE, FR]}
  - name: amount
    checks:
      - invalid: {valid_min: 0, attributes: {remediation: clip, min: 0}}
""")
DIRTY = pd.DataFrame(
    {
        "order_id": [1.0, 2, 2, None, 5, 6, 7, 8],
        "country": ["DE", "FR", "FR", "FR", None, "XX", "DE", "DE"],
        "amount": [10.0, 20, 30, 40, 50, 60, 7000, -80],
    },
    index=[3, 1, 4, 1, 5, 9, 2, 6],  # nobody promised a clean index
)
CLEAN = [(1.0, "DE", 10.0), (2.0, "FR", 20.0), (5.0, "DE", 50.0), (8.0, "DE", 0.0)]
HELD = {2.0: "columns.order_id.checks.duplicate", None: "columns.order_id.checks.missing"}
HELD |= {6.0: "columns.country.checks.invalid", 7.0: "checks.failed_rows.sane"}


def postgres():
    psycopg = pytest.importorskip("psycopg")
    try:
        return psycopg.connect(URL, autocommit=True, connect_timeout=2)
    except psycopg.OperationalError:
        pytest.skip("no PostgreSQL on 127.0.0.1:5432")


class Place:
    """A dataset of one kind, with ways to look at it and at its quarantine."""

    def __init__(self, kind, folder):
        self.kind, self.folder = kind, folder
        self.editor = RowEditor(folder / "store.duckdb")
        self.table = "orders"
        if kind == "pandas":
            self.data = DIRTY
        elif kind == "arrow":
            self.data = pa.Table.from_pandas(DIRTY, preserve_index=False)
        elif kind in ("parquet", "csv"):
            self.data = folder / f"orders.{kind}"
            DIRTY.to_parquet(self.data, index=False) if kind == "parquet" else DIRTY.to_csv(self.data, index=False)
        elif kind == "duckdb":
            self.data = f"{folder / 'w.duckdb'}::orders"
            with duckdb.connect(str(folder / "w.duckdb")) as con:
                con.register("dirty", DIRTY)
                con.execute("CREATE TABLE orders AS FROM dirty")
        else:
            self.table = f"orders_{uuid.uuid4().hex[:8]}"
            self.data = f"{URL}::{self.table}"
            with postgres() as con:
                con.execute(f"CREATE TABLE {self.table} (order_id float, country varchar, amount float)")
                for row in DIRTY.astype(object).where(DIRTY.notna(), None).itertuples(index=False):
                    con.execute(f"INSERT INTO {self.table} VALUES (%s, %s, %s)", tuple(row))
        self.dataset = parse_dataset(self.data)

    def rows(self, data=None):
        dataset = parse_dataset(data if data is not None else self.data)
        if dataset.kind is DataKind.POSTGRES:
            with postgres() as con:
                return con.execute(f"SELECT * FROM {self.table} ORDER BY order_id NULLS LAST, amount").fetchall()
        with duckdb.connect(":memory:" if dataset.kind is not DataKind.DUCKDB else dataset.location) as con:
            source = "orders"
            if dataset.kind is DataKind.FRAME:
                con.register("orders", dataset.frame)
            elif dataset.kind is not DataKind.DUCKDB:
                source = f"'{dataset.location}'"
            return con.execute(
                f"SELECT order_id, country, amount FROM {source} ORDER BY order_id NULLS LAST, amount"
            ).fetchall()

    def quarantine(self):
        columns = "order_id, country, amount, _dq_reasons, _dq_run_id, _dq_state"
        sql = f"SELECT {columns} FROM {self.table}__quarantine"
        if self.kind == "postgres":
            with postgres() as con:
                return con.execute(sql).fetchall()
        path = self.folder / "w.duckdb" if self.kind == "duckdb" else self.editor.quarantine_file(self.dataset)
        if not path.exists():
            return []
        with duckdb.connect(str(path), read_only=True) as con:
            there = con.execute("SELECT table_name FROM duckdb_tables()").fetchall()
            return con.execute(sql).fetchall() if (f"{self.table}__quarantine",) in there else []

    def close(self):
        if self.kind == "postgres":
            with postgres() as con:
                for suffix in ("", "__quarantine", "__good", "__bad_r"):
                    con.execute(f"DROP TABLE IF EXISTS {self.table}{suffix}")


@pytest.fixture(params=["pandas", "arrow", "parquet", "csv", "duckdb", "postgres"])
def place(request, tmp_path):
    found = Place(request.param, tmp_path)
    yield found
    found.close()


def plan(place):
    result = SodaChecker().verify(CONTRACT, place.dataset)
    steps = plan_steps(result, RemediationPolicy(budget_percent=60), CircuitState.CLOSED)
    return required_edits(result, steps)


def edit(place, **options):
    return place.editor.edit(
        place.dataset, place.table, plan(place), run_id=options.pop("run_id", "r"), at_s=1_767_268_800.0, **options
    )


def test_exactly_the_bad_rows_move_with_their_reasons_and_the_rest_passes(place):
    report = edit(place)
    assert (report.quarantined, report.repaired) == (4, 2)
    assert place.rows(report.data) == CLEAN
    held = [row for row in place.quarantine() if row[5] == "held"]
    assert {row[0]: row[3] for row in held} == {key: [reason] for key, reason in HELD.items()}
    assert {row[4] for row in held} == {"r"}
    again = SodaChecker().verify(CONTRACT, parse_dataset(report.data) if report.data is not None else place.dataset)
    assert again.verdict is Verdict.PASSED


def test_rows_before_a_repair_are_kept(place):
    edit(place)
    repaired = {row[0]: (row[1], row[2]) for row in place.quarantine() if row[5] == "repaired"}
    assert repaired == {5.0: (None, 50.0), 8.0: ("DE", -80.0)}


def test_a_dry_run_counts_and_changes_nothing(place):
    before = place.rows()
    report = edit(place, dry_run=True)
    assert (report.quarantined, report.repaired) == (4, 2)
    assert place.rows() == before
    if place.kind != "postgres":
        assert place.quarantine() == []


def test_beyond_the_budget_nothing_changes(place):
    before = place.rows()
    with pytest.raises(BudgetExceededError):
        edit(place, budget_rows=3)
    assert place.rows() == before


def test_the_same_run_does_not_quarantine_twice(place):
    edits = plan(place)
    for _ in range(2):
        place.editor.edit(place.dataset, place.table, edits, run_id="r", at_s=0.0)
    assert Counter(row[5] for row in place.quarantine()) == {"held": 4, "repaired": 2}


def test_a_rollback_puts_the_good_rows_back_and_keeps_the_bad_ones(place):
    good = place.editor.save_snapshot(place.dataset, place.table)
    assert good is (place.kind not in ("pandas", "arrow"))
    before = place.rows()
    edit(place)
    assert place.editor.restore_snapshot(place.dataset, place.table, "r") is good
    if good:
        assert place.rows() == before


def test_a_frame_keeps_its_order_types_and_index_at_scale(tmp_path):
    rng = np.random.default_rng(7)
    n = 400_000
    frame = pd.DataFrame(
        {
            "order_id": np.arange(n, dtype=np.int64),
            "country": pd.Categorical(rng.choice(["DE", "FR"], n)),
            "amount": rng.random(n).astype(np.float32),
        },
        index=np.arange(n) * 2,
    )
    bad = np.sort(rng.choice(n, 500, replace=False))
    frame.iloc[bad, 2] = 5_000.0
    dataset = parse_dataset(frame)
    result = SodaChecker().verify(CONTRACT, dataset)
    edits = required_edits(result, plan_steps(result, RemediationPolicy(), CircuitState.CLOSED))
    report = RowEditor(tmp_path / "s.duckdb").edit(dataset, "orders", edits, run_id="r", at_s=0.0)
    pd.testing.assert_frame_equal(report.data, frame.drop(index=frame.index[bad]))


def keyed(**columns) -> pd.DataFrame:
    return pd.DataFrame({"order_id": [1.0, 2, 2, 4], "country": "DE", "amount": 1.0} | columns)


def gate(data, folder, contract=CONTRACT, run_id="r"):
    """What a gate with one quarantine for all frames makes of a frame."""
    editor = RowEditor(folder / "store.duckdb")
    policy = RemediationPolicy(budget_percent=100)
    found = Gate(checker=SodaChecker(), editor=editor, clock=SystemClock(), policy=policy)
    return found.run(load_contract(contract), parse_dataset(data), run_id=run_id)


def stored(folder, what="*"):
    with duckdb.connect(str(folder / "store.duckdb"), read_only=True) as con:
        return con.execute(f"SELECT {what} FROM orders__quarantine ORDER BY _dq_run_id, _dq_id").fetchall()


def test_duplicates_alone_are_reduced(tmp_path):
    result = gate(keyed(), tmp_path)
    assert result.outcome is GateOutcome.REMEDIED
    assert result.data.frame["order_id"].tolist() == [1.0, 2.0, 4.0]


def test_quarantine_keeps_values_whose_type_has_changed(tmp_path):
    for run_id, value in (("1", 7), ("2", 2.7), ("3", "x"), ("4", None), ("5", 2**62 + 1)):
        bad = keyed(order_id=[1.0, 2, 3, None], extra=[value] * 4)
        assert gate(bad, tmp_path, run_id=run_id).outcome is GateOutcome.REMEDIED, value
    assert [row[0] for row in stored(tmp_path, "extra")] == ["7", "2.7", "x", None, "4611686018427387905"]


def test_a_run_that_is_tried_again_in_another_order_quarantines_once(tmp_path):
    bad = keyed(order_id=[None, None, None, 1.0], amount=[1.0, 2.0, 2.0, 3.0])
    for frame in (bad, bad.iloc[::-1].reset_index(drop=True)):
        assert gate(frame, tmp_path).report.quarantined == 3
    assert sorted(row[0] for row in stored(tmp_path, "amount")) == [1.0, 2.0, 2.0]


def test_frames_that_are_subclassed_sliced_or_reversed_are_read(tmp_path):
    class Own(pd.DataFrame):
        pass

    bad = keyed(order_id=[None, 2.0, 3.0, 4.0], country=["DE", "FR", "DE", "DE"])
    for frame in (Own(bad), bad.iloc[::-1], bad.iloc[::-1].reset_index(drop=True), bad.iloc[::2]):
        result = gate(frame, tmp_path)
        assert result.outcome is GateOutcome.REMEDIED
        pd.testing.assert_frame_equal(pd.DataFrame(result.data.frame), pd.DataFrame(frame[frame.order_id.notna()]))


def test_a_released_row_that_the_same_run_finds_again_is_held_again(tmp_path):
    path = tmp_path / "orders.parquet"
    keyed(order_id=[1.0, 2, 3, None]).to_parquet(path)
    for _ in range(2):
        assert gate(path, tmp_path).outcome is GateOutcome.REMEDIED
        assert [batch.state for batch in batches(parse_dataset(path))] == ["held"]
        assert release(parse_dataset(path)) == 1


@pytest.mark.parametrize(
    ("columns", "says"),
    [({"_DQ_id": 1}, "belong to the quarantine"), ({"_dq_row": 1}, "belong to the quarantine")],
)
def test_a_frame_with_names_of_the_quarantine_is_blocked_and_says_so(tmp_path, columns, says):
    result = gate(keyed(**columns), tmp_path)
    assert result.outcome is GateOutcome.BLOCKED
    assert says in result.log[-1]


def test_names_that_are_no_text_or_odd_are_kept(tmp_path):
    bad = keyed(order_id=[1.0, 2, 3, None])
    for name in (0, "dq_row", "n", "s", 'we"ird; --', "größe 漢字 🚀"):
        bad[name] = 1
    result = gate(bad, tmp_path)
    assert list(result.data.frame.columns) == list(bad.columns)
    assert len(result.data.frame) == 3


def test_a_repaired_column_keeps_its_type_and_its_spelling(tmp_path):
    text = CONTRACT.text.replace(
        "- name: amount", "- name: at\n    checks: [{missing: {attributes: IMPUTE}}]\n  - name: amount"
    )
    text = text.replace("IMPUTE", "{remediation: impute, value: '2020-01-01T00:00:00Z'}")
    at = pd.to_datetime(["2026-01-01T00:00:00Z"] * 3 + [None]).tz_convert("Europe/Berlin")
    bad = keyed(order_id=[1.0, 2, 3, 4], amount=[1, 2, 3, -4], AT=at)
    result = gate(bad, tmp_path, contract=load_contract(text))
    assert result.report.repaired == 2
    pd.testing.assert_series_equal(result.data.frame.dtypes, bad.dtypes)
    assert result.data.frame["AT"].iloc[3] == pd.Timestamp("2020-01-01T00:00:00Z")


def test_a_csv_file_keeps_the_text_of_its_good_rows(tmp_path):
    path = tmp_path / "orders.csv"
    good = '007;DE;1.50;"a;b";01/02/2024\n'
    path.write_text(f"order_id;country;amount;note;day\n{good}008;XX;2.00;;25/02/2024\n009;DE;-3.00;;26/02/2024\n")
    assert gate(path, tmp_path).report.quarantined == 1
    assert path.read_text() == f"order_id;country;amount;note;day\n{good}009;DE;0.0;;26/02/2024\n"
    assert release(parse_dataset(path)) == 1
    assert path.read_text().endswith("008;XX;2.0;;25/02/2024\n")


def test_a_csv_file_without_a_header_gets_none(tmp_path):
    path = tmp_path / "orders.csv"
    path.write_text("1,2\n3,-4\n")
    text = "dataset: ds/main/orders\ncolumns:\n  - name: column1\n    checks: [{invalid: {valid_min: 0}}]\n"
    assert gate(path, tmp_path, contract=text).report.quarantined == 1
    assert path.read_text() == "1,2\n"


def test_a_parquet_file_keeps_its_index_its_zones_and_its_categories(tmp_path):
    path = tmp_path / "orders.parquet"
    at = pd.to_datetime(["2026-01-01"] * 4).tz_localize("Europe/Berlin")
    whole = keyed(order_id=[1.0, 2, 3, None], at=at, kind=pd.Categorical(list("xyxy")))
    whole.index = [5, 6, 7, 8]
    whole.to_parquet(path)
    gate(path, tmp_path)
    pd.testing.assert_frame_equal(pd.read_parquet(path), whole.iloc[:3])
    release(parse_dataset(path))
    pd.testing.assert_frame_equal(pd.read_parquet(path), whole)


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("CREATE TABLE orders AS SELECT 1 AS rowid, * FROM bad", "hides the numbers of the rows"),
        ("CREATE TABLE b AS FROM bad; CREATE VIEW orders AS FROM b", "is a view"),
    ],
)
def test_a_table_whose_rows_cannot_be_told_apart_is_left_alone(tmp_path, sql, says):
    path = tmp_path / "w.duckdb"
    with duckdb.connect(str(path)) as con:
        con.register("bad", keyed())
        con.execute(sql)
    result = gate(f"{path}::orders", tmp_path)
    assert result.outcome is GateOutcome.BLOCKED
    assert says in result.log[-1]
    with duckdb.connect(str(path), read_only=True) as con:
        assert con.execute("SELECT count(*) FROM orders").fetchall() == [(4,)]


def test_a_rollback_brings_a_renamed_column_back(tmp_path):
    path = tmp_path / "w.duckdb"
    with duckdb.connect(str(path)) as con:
        con.register("good", keyed())
        con.execute("CREATE TABLE orders AS FROM good")
    editor, dataset = RowEditor(tmp_path / "store.duckdb"), parse_dataset(f"{path}::orders")
    assert editor.save_snapshot(dataset, "orders")
    with duckdb.connect(str(path)) as con:
        con.execute("ALTER TABLE orders RENAME country TO country_code")
    assert editor.restore_snapshot(dataset, "orders", "r")
    with duckdb.connect(str(path), read_only=True) as con:
        assert con.execute("SELECT country, count(country_code) FROM orders GROUP BY 1").fetchall() == [("DE", 0)]
        assert con.execute("SELECT count(country_code) FROM orders__bad_r").fetchall() == [(4,)]
