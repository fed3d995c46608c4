"""Decisions and quality results are read as typed tables, also when there are none."""

from prefect_intelligent.analytics.frames import CHECKS, DECISIONS, decision_frame, quality_frame
from prefect_intelligent.quality.model import CheckOutcome, CheckResult, Verification
from prefect_intelligent.steering.decision_record import KIND, Decision
from prefect_intelligent.testing.history import InMemoryHistory


def test_decisions_are_a_row_each():
    history = InMemoryHistory()
    for at_s, pool in ((10.0, "main"), (20.0, "main"), (30.0, "other")):
        made = Decision(
            pool=pool,
            at_s=at_s,
            mode="auto",
            by="controller",
            policy="atc",
            rule="fifo",
            outcome="applied",
            planned=(("q", "priority", 3, 1), (None, "limit", None, 8)),
            applied=((None, "limit", None, 8),),
            reasons=("work waits", "a deadline is near"),
            own_ms=2.0,
        )
        history.append(KIND, pool, at_s, made.to_dict())
    found = decision_frame(history, pool="main", since_s=15.0)
    assert found["at_s"].tolist() == [20.0]
    row = found.iloc[0]
    assert (row["planned"], row["applied"], row["changes"]) == (2, 1, "pool limit none -> 8")
    assert row["reasons"] == "work waits; a deadline is near"
    assert len(decision_frame(history)) == 3


def test_quality_results_are_a_row_per_check():
    history = InMemoryHistory()
    checks = (
        CheckResult(
            id="a",
            name="no missing id",
            kind="missing",
            outcome=CheckOutcome.FAILED,
            at_s=5.0,
            value=3.0,
            rows_failed=3,
        ),
        CheckResult(id="b", name="few rows", kind="row_count", outcome=CheckOutcome.PASSED, at_s=5.0),
    )
    first = Verification(dataset="flights", contract="c1", checks=checks, started_s=5.0, duration_s=1.0).to_record()
    record = {"at_s": 6.0, "dataset": "flights", "outcome": "remedied", "quarantined": 3, "first": first}
    history.append("quality", "flights", 6.0, record)
    found = quality_frame(history)
    assert found["check"].tolist() == ["no missing id", "few rows"]
    assert found["result"].tolist() == ["remedied", "remedied"]
    assert found["rows_failed"].iloc[0] == 3.0
    assert found["value"].isna().tolist() == [False, True]


def test_no_record_is_an_empty_table_with_the_same_columns():
    for found, columns in ((decision_frame(InMemoryHistory()), DECISIONS), (quality_frame(InMemoryHistory()), CHECKS)):
        assert {name: str(kind) for name, kind in found.dtypes.items()} == columns
        assert found.empty
