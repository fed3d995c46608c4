import pytest

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.quality.model import (
    CheckOutcome,
    CheckResult,
    FailingRows,
    RemediationAction,
    Severity,
    Verdict,
    Verification,
    suggest_renames,
)
from prefect_intelligent.quality.remediation import (
    CircuitState,
    RemediationPolicy,
    circuit_state,
    default_action,
    plan_steps,
    required_edits,
)

ROWS = FailingRows(predicate="a < 0")
POLICY = RemediationPolicy()


def check(name="c", outcome=CheckOutcome.FAILED, **more) -> CheckResult:
    values = {"kind": "invalid", "column": "a", "rows": ROWS, "rows_tested": 100, "rows_failed": 1, "at_s": 0.0}
    return CheckResult(id=name, name=name, outcome=outcome, **{**values, **more})


def verified(*checks: CheckResult, errors=()) -> Verification:
    return Verification(
        dataset="ds/main/t", contract="abc", checks=checks, started_s=0.0, duration_s=0.1, errors=tuple(errors)
    )


def actions(*checks: CheckResult, policy=POLICY, circuit=CircuitState.CLOSED) -> list[str]:
    return [str(step.action) for step in plan_steps(verified(*checks), policy, circuit)]


@pytest.mark.parametrize(
    ("checks", "errors", "verdict"),
    [
        ((), (), Verdict.ERROR),
        ((check(outcome=CheckOutcome.PASSED),), ("boom",), Verdict.ERROR),
        ((check(outcome=CheckOutcome.PASSED), check(outcome=CheckOutcome.UNKNOWN)), (), Verdict.ERROR),
        ((check(outcome=CheckOutcome.FAILED), check(outcome=CheckOutcome.UNKNOWN)), (), Verdict.FAILED),
        ((check(outcome=CheckOutcome.PASSED), check(outcome=CheckOutcome.WARNED)), (), Verdict.WARNED),
        ((check(outcome=CheckOutcome.PASSED),), (), Verdict.PASSED),
    ],
)
def test_the_verdict_fails_closed(checks, errors, verdict):
    assert verified(*checks, errors=errors).verdict is verdict


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (check(severity=Severity.MINOR), RemediationAction.WARN),
        (check(severity=Severity.MAJOR), RemediationAction.QUARANTINE),
        (check(severity=Severity.CRITICAL), RemediationAction.BLOCK),
        (check(rows=FailingRows(keys=("a",))), RemediationAction.DEDUPE),
        (check(rows=None, kind="freshness"), RemediationAction.BLOCK),
    ],
)
def test_defaults_follow_severity_and_whether_the_rows_are_known(given, expected):
    assert default_action(given) is expected


def test_what_the_contract_declares_wins_over_the_default():
    assert actions(check(severity=Severity.CRITICAL, action=RemediationAction.OBSERVE)) == ["observe"]


@pytest.mark.parametrize(
    "bad",
    [
        check(action=RemediationAction.QUARANTINE, rows=None),
        check(action=RemediationAction.CLIP, rows=None),
        check(action=RemediationAction.IMPUTE, column=None),
        check(action=RemediationAction.DEDUPE),
        check(action=RemediationAction.QUARANTINE, parameters={"budget_percent": 0.5}),
        check(rows_failed=6),
    ],
)
def test_what_cannot_be_done_or_costs_too_much_becomes_a_block_that_says_why(bad):
    (step,) = plan_steps(verified(bad), POLICY, CircuitState.CLOSED)
    assert step.action is RemediationAction.BLOCK
    assert "else" in step.reason


def test_one_split_over_the_budget_blocks_the_others_too():
    assert actions(check("a", rows_failed=50), check("b", rows_failed=1)) == ["block", "block"]


def test_an_open_circuit_blocks_everything_but_warnings():
    found = actions(check("a"), check("b", severity=Severity.MINOR), circuit=CircuitState.OPEN)
    assert sorted(found) == ["block", "warn"]


def test_an_error_of_the_checker_changes_nothing_and_blocks():
    steps = plan_steps(verified(check(), errors=("boom",)), POLICY, CircuitState.CLOSED)
    assert [s.action for s in steps] == [RemediationAction.BLOCK]


def test_repairs_come_before_splits_and_duplicates_come_last():
    checks = (
        check("dup", rows=FailingRows(keys=("a",))),
        check("bad"),
        check("low", action=RemediationAction.CLIP, parameters={"min": 0}),
    )
    edits = required_edits(verified(*checks), plan_steps(verified(*checks), POLICY, CircuitState.CLOSED))
    assert [e.check.id for e in edits] == ["low", "bad", "dup"]


def history(*good):
    return [{"run_id": f"r{i}", "good": g, "at_s": 100.0 * i} for i, g in enumerate(good)]


@pytest.mark.parametrize(
    ("records", "now_s", "state", "failures"),
    [
        (history(), 0, CircuitState.CLOSED, 0),
        (history(False, False), 300, CircuitState.CLOSED, 2),
        (history(False, False, False), 300, CircuitState.OPEN, 3),
        (history(False, None, False, None, False), 500, CircuitState.OPEN, 3),
        (history(False, False, True, False), 500, CircuitState.CLOSED, 1),
        (history(False, False, False), 200 + 3600, CircuitState.HALF_OPEN, 3),
    ],
)
def test_the_circuit_opens_after_failures_in_a_row_and_probes_later(records, now_s, state, failures):
    assert circuit_state(records, POLICY, now_s) == (state, failures)


def test_results_of_the_same_run_count_once():
    records = [{"run_id": "r", "good": False, "at_s": float(i)} for i in range(9)]
    assert circuit_state(records, POLICY, 10.0) == (CircuitState.CLOSED, 1)


@pytest.mark.parametrize("wrong", [{"budget_percent": 101}, {"retries": -1}, {"open_after": -1}])
def test_a_policy_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(InvalidInputError):
        RemediationPolicy(**wrong)


def test_renamed_columns_are_recognised_by_name_and_type():
    found = suggest_renames(
        {"dep_delay": "integer", "carrier": "varchar"}, {"departure_delay": "integer", "x": "varchar"}
    )
    assert found == (("dep_delay", "departure_delay"),)
