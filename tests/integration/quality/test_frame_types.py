"""A pandas frame against declared types: by value, since a frame often cannot say what it holds."""

import datetime as dt

import pandas as pd
import pytest

from prefect_intelligent.domain.datasets import parse_dataset
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


@pytest.mark.parametrize(
    ("kind", "values", "call"),
    [
        ("integer", [1.5, None], 'frame["x"] = frame["x"].astype("Int64")'),
        ("integer", ["1", "2"], 'frame["x"] = frame["x"].astype("Int64")'),
        ("date", ["31.01.2026"], 'frame["x"] = pandas.to_datetime(frame["x"])'),
        ("date", [pd.Timestamp("2026-01-31 10:00")], 'frame["x"] = pandas.to_datetime(frame["x"])'),
        ("date", [20260131], 'frame["x"] = pandas.to_datetime(frame["x"])'),
        ("varchar", [1, 2], ""),
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
