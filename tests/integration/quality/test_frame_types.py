"""A pandas frame against declared types: by value, since a frame often cannot say what it holds."""

import datetime as dt
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pytest

from prefect_intelligent.domain.datasets import parse_dataset
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.quality.adapters.contracts.lint import load_contract
from prefect_intelligent.quality.adapters.editing.editor import RowEditor
from prefect_intelligent.quality.adapters.soda.checker import SodaChecker
from prefect_intelligent.quality.adapters.sources.frame_types import conversion_hint, with_casts
from prefect_intelligent.quality.gate import Gate, GateOutcome
from prefect_intelligent.quality.remediation import RemediationPolicy
from prefect_intelligent.testing.clock import ManualClock


def contract(kind):
    return load_contract(
        f"dataset: ds/main/orders\nchecks:\n  - schema:\ncolumns:\n  - name: x\n    data_type: {kind}\n"
    )


def verify(kind, values, **more):
    declared = contract(kind)
    dataset = with_casts(parse_dataset(pd.DataFrame({"x": pd.Series(values, **more)})), declared)
    return SodaChecker().verify(declared, dataset)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("integer", [1, 2]),
        ("bigint", [1.0, None, 3.0]),
        ("integer", [1.0, None, 3.0]),
        ("smallint", [None, 7.0]),
        ("double", [1, 2]),
        ("decimal", [1.25, None]),
        ("date", ["2026-01-31", None]),
        ("date", [pd.Timestamp("2026-01-31"), pd.NaT]),
        ("date", [dt.date(2026, 1, 31), None]),
        ("timestamp", ["2026-01-31 10:00:00", None]),
        ("timestamp", [pd.Timestamp("2026-01-31 10:00"), pd.NaT]),
        ("integer", [None, None]),
        ("date", [None, None]),
        ("varchar", ["a", None]),
    ],
)
def test_values_of_the_declared_type_pass_whatever_the_frame_calls_them(kind, values):
    found = verify(kind, values)
    assert found.ok, (found.sentence(), str(found.drift))


ZONED = pd.Series(pd.to_datetime(["2026-01-31 10:00", None], utc=True))
DAYS = ["2026-01-31", "2026-02-01"]
UUID = "123e4567-e89b-12d3-a456-426614174000"


@pytest.mark.parametrize(
    ("kind", "column"),
    [
        ("varchar", pd.Series(["a", None], dtype="category")),
        ("integer", pd.Series([1, None], dtype="category")),
        ("date", pd.Series(DAYS, dtype="category")),
        ("varchar(10)", pd.Series(["a", None], dtype="string")),
        ("decimal(10,2)", pd.Series([Decimal("1.25"), None])),
        ("decimal(10,2)", pd.Series([0.1, 2.55])),
        ("integer", pd.Series([Decimal(1), Decimal(2)])),
        ("timestamptz", ZONED),
        ("timestamptz", ZONED.dt.tz_convert("Europe/Berlin")),
        ("timestamptz", pd.Series(["2026-01-31T10:00:00Z", "2026-01-31 10:00:00+01:00", "2026-01-31"])),
        ("timestamp", ZONED),
        ("timestamp", pd.Series(["2026-01-31T10:00", "2026-01-31T10:00:00.123Z", None])),
        ("date", pd.Series([dt.date(2026, 1, 31), None, float("nan"), pd.NaT], dtype=object)),
        ("date", pd.Series([*DAYS, None, float("nan"), pd.NA], dtype=object)),
        ("date", pd.Series(pd.PeriodIndex(DAYS, freq="D"))),
        ("bool", pd.Series([True, pd.NA], dtype="boolean")),
        ("boolean", pd.Series([True, None, float("nan")], dtype=object)),
        ("boolean", pd.Series([1.0, 0.0, None])),
        ("integer", pd.Series([1, 2], dtype="UInt32")),
        ("integer", pd.Series([1, None], dtype="int64[pyarrow]")),
        ("decimal(10,2)", pd.Series([Decimal("1.25"), None], dtype=pd.ArrowDtype(pa.decimal128(10, 2)))),
        ("varchar", pd.Series(["a", None], dtype=pd.ArrowDtype(pa.large_string()))),
        ("double", pd.Series(pd.arrays.SparseArray([1.0, float("nan")]))),
        ("uuid", pd.Series([UUID, None])),
        ("json", pd.Series(['{"a": 1}', None])),
        *((kind, pd.Series([], dtype=own)) for kind in ("varchar", "boolean", "date") for own in (object, float)),
        *((kind, pd.Series([None, None], dtype=object)) for kind in ("varchar", "boolean", "timestamptz", "uuid")),
    ],
)
def test_every_dtype_of_pandas_that_holds_the_declared_values_passes(kind, column):
    declared = contract(kind)
    found = SodaChecker().verify(declared, with_casts(parse_dataset(pd.DataFrame({"x": column})), declared))
    assert found.ok, (found.sentence(), str(found.drift))


def test_an_instant_without_its_zone_is_that_of_utc_wherever_the_flow_runs():
    text = contract("timestamp").text
    check = "{expression: x <> TIMESTAMP '2026-01-31 10:00:00'}"
    declared = load_contract(text.replace("checks:\n", f"checks:\n  - failed_rows: {check}\n"))
    for column in (ZONED, ZONED.dt.tz_convert("Asia/Tokyo"), pd.Series(["2026-01-31T10:00:00Z"])):
        found = SodaChecker().verify(declared, with_casts(parse_dataset(pd.DataFrame({"x": column})), declared))
        assert found.ok, found.sentence()


@pytest.mark.parametrize("names", [["x", "x"], ["x", "X"]])
def test_a_declared_column_that_is_there_twice_is_refused(names):
    with pytest.raises(InvalidInputError, match="rename one"):
        with_casts(parse_dataset(pd.DataFrame([[1, 2]], columns=names)), contract("integer"))


def test_a_frame_without_columns_lacks_them():
    found = verify_frame(pd.DataFrame())
    assert not found.errors
    assert found.drift.removed == ("x",)


def test_a_column_that_is_the_index_is_named():
    frame = pd.DataFrame({"y": [1]}, index=pd.Index([5], name="x"))
    found = verify_frame(frame)
    assert "frame.reset_index()" in conversion_hint(found.drift, frame)


def verify_frame(frame):
    declared = contract("integer")
    return SodaChecker().verify(declared, with_casts(parse_dataset(frame), declared))


@pytest.mark.parametrize(
    ("kind", "values", "call"),
    [
        ("integer", [1.5, None], 'frame["x"] = frame["x"].astype("Int64")'),
        ("integer", ["1", "2"], 'frame["x"] = frame["x"].astype("Int64")'),
        ("date", ["31.01.2026"], 'frame["x"] = pandas.to_datetime(frame["x"])'),
        ("date", [pd.Timestamp("2026-01-31 10:00")], 'frame["x"] = pandas.to_datetime(frame["x"])'),
        ("timestamp", ["2026-01-31T19:00:00+09:00"], 'frame["x"] = pandas.to_datetime(frame["x"])'),
        ("date", [20260131], 'frame["x"] = pandas.to_datetime(frame["x"])'),
        ("double", ["1.5"], 'frame["x"] = pandas.to_numeric(frame["x"])'),
        ("boolean", [0, 2], 'frame["x"] = frame["x"].astype("boolean")'),
        ("varchar", [1, 2], 'frame["x"] = frame["x"].astype("string")'),
        ("uuid", ["nope"], ""),
    ],
)
def test_other_values_are_retyped_and_the_hint_names_the_call(kind, values, call):
    found = verify(kind, values)
    assert not found.ok
    assert "retyped: x" in str(found.drift)
    assert call in conversion_hint(found.drift)


def test_rows_are_edited_by_the_declared_type_and_the_frame_keeps_its_own(tmp_path):
    check = "{expression: x < DATE '2026-01-02', attributes: {remediation: quarantine}}"
    declared = load_contract(contract("date").text.replace("checks:\n", f"checks:\n  - failed_rows: {check}\n"))
    frame = pd.DataFrame({"x": ["2026-01-01", "2026-01-02", "2026-02-01"]}, index=[7, 8, 9])
    gate = Gate(
        checker=SodaChecker(),
        editor=RowEditor(tmp_path / "store.duckdb"),
        clock=ManualClock(),
        policy=RemediationPolicy(budget_percent=50),
    )
    result = gate.run(declared, with_casts(parse_dataset(frame), declared), run_id="r")
    assert result.outcome is GateOutcome.REMEDIED, result.sentence()
    assert result.data.frame["x"].to_dict() == {8: "2026-01-02", 9: "2026-02-01"}


def test_a_contract_of_checks_on_the_dataset_alone_is_verified():
    declared = load_contract(
        "dataset: ds/main/orders\nchecks:\n  - row_count: {threshold: {must_be_greater_than: 1}}\n"
    )
    checker = SodaChecker()
    assert checker.verify(declared, parse_dataset(pd.DataFrame({"x": [1, 2]}))).ok
    assert not checker.verify(declared, parse_dataset(pd.DataFrame({"x": [1]}))).ok
