"""The ladder with fakes: what is done, in which order, and what is never done."""

from dataclasses import dataclass, field, replace

import pytest

from prefect_intelligent.domain.datasets import DataKind, Dataset
from prefect_intelligent.errors import OrchestratorUnavailableError, PrefectIntelligentError, StoreError
from prefect_intelligent.quality.adapters.contracts.lint import parse_contract
from prefect_intelligent.quality.gate import Gate, GateOutcome
from prefect_intelligent.quality.model import (
    CheckOutcome,
    CheckResult,
    Contract,
    FailingRows,
    RemediationAction,
    Severity,
    Verification,
)
from prefect_intelligent.quality.remediation import BudgetExceededError, CircuitState, EditReport, RemediationPolicy
from prefect_intelligent.testing.clock import ManualClock
from prefect_intelligent.testing.history import InMemoryHistory
from prefect_intelligent.testing.quality import InMemoryDownstream, ScriptedChecker

CONTRACT = Contract(
    source="t",
    text="",
    dataset="ds/main/t",
    tree={"checks": [{"row_count": {"attributes": {"remediation": "rollback"}}}], "columns": [{"name": "a"}]},
)
DATA = Dataset(kind=DataKind.DUCKDB, location="w.duckdb", table="t")


def check(name="c", outcome=CheckOutcome.FAILED, **more) -> CheckResult:
    values = {
        "kind": "invalid",
        "column": "a",
        "rows": FailingRows(predicate="x"),
        "rows_tested": 100,
        "rows_failed": 1,
    }
    return CheckResult(id=name, name=name, outcome=outcome, at_s=0.0, **{**values, **more})


def verified(*checks: CheckResult, errors=()) -> Verification:
    return Verification(
        dataset="ds/main/t", contract="h", checks=checks, started_s=0.0, duration_s=0.1, errors=tuple(errors)
    )


GOOD = verified(check(outcome=CheckOutcome.PASSED))
BAD = verified(check())
BLOCKING = verified(check(severity=Severity.CRITICAL))


@dataclass
class Editor:
    """A `DatasetEditor` that notes what it is asked to do."""

    calls: list = field(default_factory=list)
    has_snapshot: bool = True
    error: Exception | None = None

    def edit(self, dataset, table, edits, *, run_id, at_s, budget_rows=None, dry_run=False):
        self.calls.append(("edit", [e.check.id for e in edits], budget_rows, dry_run))
        if self.error:
            raise self.error
        return EditReport(quarantined=1, by_check={e.check.id: 1 for e in edits}, quarantine="q")

    def save_snapshot(self, dataset, table):
        self.calls.append(("keep",))
        return True

    def restore_snapshot(self, dataset, table, run_id):
        self.calls.append(("restore", run_id))
        return self.has_snapshot


def gate(*results, editor=None, policy=None, history=None, downstream=None, clock=None):
    return Gate(
        checker=ScriptedChecker(*results),
        editor=editor or Editor(),
        clock=clock or ManualClock(),
        history=history,
        downstream=downstream,
        policy=policy or RemediationPolicy(),
    )


def test_good_data_passes_untouched_and_becomes_the_snapshot():
    editor = Editor()
    result = gate(GOOD, editor=editor).run(CONTRACT, DATA, run_id="r")
    assert (result.outcome, result.usable) == (GateOutcome.PASSED, True)
    assert editor.calls == [("keep",)]


@pytest.mark.parametrize(
    ("checks", "saved"),
    [
        ("columns: [{name: a}]\nchecks: [{row_count: }] # remediation: rollback", False),
        ("columns: [{name: rollback}]\nchecks: [{row_count: {name: rollback, attributes: {owner: rollback}}}]", False),
        ("columns: [{name: a, checks: [{missing: {attributes: {remediation: quarantine}}}]}]", False),
        ("columns: [{name: a, checks: [{missing: {attributes: {remediation: rollback}}}]}]", True),
        ("columns: [{name: a}]\nchecks: [{schema: }, {row_count: {attributes: {remediation: rollback}}}]", True),
        ('columns: [{name: a}]\nchecks: [{row_count: {attributes: {remediation: "roll\\x62ack"}}}]', True),
    ],
)
def test_only_a_check_that_declares_rollback_has_a_snapshot_saved(checks, saved):
    editor = Editor()
    contract = parse_contract(f"dataset: ds/main/t\n{checks}\n", "t")
    assert gate(GOOD, editor=editor).run(contract, DATA, run_id="r").outcome is GateOutcome.PASSED
    assert editor.calls == [("keep",)] * saved


def test_bad_rows_are_moved_and_the_rest_is_verified_again():
    editor = Editor()
    result = gate(BAD, GOOD, editor=editor).run(CONTRACT, DATA, run_id="r")
    assert result.outcome is GateOutcome.REMEDIED
    assert editor.calls == [("edit", ["c"], 5, False), ("keep",)]
    assert result.after == GOOD


def test_data_that_still_fails_is_blocked():
    result = gate(BAD, BAD).run(CONTRACT, DATA, run_id="r")
    assert (result.outcome, result.usable) == (GateOutcome.BLOCKED, False)


def test_rows_are_left_alone_when_the_data_is_blocked_anyway():
    editor = Editor()
    both = verified(check("row"), check("stale", kind="freshness", rows=None))
    result = gate(both, editor=editor).run(CONTRACT, DATA, run_id="r")
    assert result.outcome is GateOutcome.BLOCKED
    assert editor.calls == []


@pytest.mark.parametrize("error", [BudgetExceededError(9, 5)])
def test_a_budget_found_exceeded_while_editing_blocks(error):
    result = gate(BAD, editor=Editor(error=error)).run(CONTRACT, DATA, run_id="r")
    assert result.outcome is GateOutcome.BLOCKED
    assert result.steps[0].action is RemediationAction.BLOCK
    assert "nothing was changed" in result.log[-1]


def test_an_error_of_the_checker_is_told_apart_and_changes_nothing():
    editor = Editor()
    result = gate(verified(errors=("no such file",)), editor=editor).run(CONTRACT, DATA, run_id="r")
    assert (result.outcome, result.good) == (GateOutcome.ERROR, None)
    assert editor.calls == []
    assert "no such file" in result.sentence()


def test_a_tolerated_failure_warns_and_passes():
    result = gate(verified(check(severity=Severity.MINOR))).run(CONTRACT, DATA, run_id="r")
    assert (result.outcome, result.usable) == (GateOutcome.WARNED, True)


def test_a_dry_run_edits_nothing_and_records_nothing():
    editor, history, downstream = Editor(), InMemoryHistory(), InMemoryDownstream(known=["f/d"])
    policy = RemediationPolicy(downstream=("f/d",))
    one = gate(BAD, editor=editor, history=history, downstream=downstream, policy=policy)
    assert one.run(CONTRACT, DATA, run_id="r", dry_run=True).outcome is GateOutcome.REMEDIED
    assert editor.calls == [("edit", ["c"], 5, True)]
    two = gate(BLOCKING, history=history, downstream=downstream, policy=policy)
    assert two.run(CONTRACT, DATA, run_id="r", dry_run=True).log == ("would be held: f/d",)
    assert downstream.holds == {}
    assert history.records("quality") == []


def test_blocked_data_holds_downstream_and_good_data_releases_it():
    downstream = InMemoryDownstream(known=["mart/nightly"])
    policy = RemediationPolicy(downstream=("mart/nightly", "gone/deployment"))
    result = gate(BLOCKING, downstream=downstream, policy=policy).run(CONTRACT, DATA, run_id="r")
    assert result.held == ("mart/nightly",)
    assert downstream.holds == {"mart/nightly": {"ds/main/t"}}
    result = gate(GOOD, downstream=downstream, policy=policy).run(CONTRACT, DATA, run_id="r2")
    assert downstream.holds == {}
    assert "released: mart/nightly" in result.log


def test_a_retry_runs_the_producer_again_as_often_as_allowed_then_blocks():
    history, downstream, clock = InMemoryHistory(), InMemoryDownstream(), ManualClock()
    retry = verified(check(action=RemediationAction.RETRY, rows=None))
    outcomes = []
    for n in range(2):
        one = gate(retry, history=history, downstream=downstream, clock=clock)
        outcomes.append(one.run(CONTRACT, DATA, run_id=f"check-{n}", producer="run-1").outcome)
        clock.sleep(60)
    assert outcomes == [GateOutcome.RETRY, GateOutcome.BLOCKED]
    assert downstream.retried == ["run-1"]


@pytest.mark.parametrize(("has_snapshot", "outcome"), [(True, GateOutcome.ROLLED_BACK), (False, GateOutcome.BLOCKED)])
def test_a_rollback_needs_a_snapshot(has_snapshot, outcome):
    editor = Editor(has_snapshot=has_snapshot)
    failing = verified(check(action=RemediationAction.ROLLBACK, rows=None))
    result = gate(failing, GOOD, editor=editor).run(CONTRACT, DATA, run_id="r")
    assert result.outcome is outcome
    assert editor.calls == [("restore", "r")]


@pytest.mark.parametrize(("kind", "outcome"), [("freshness", "rolled-back"), ("row_count", "blocked")])
def test_a_snapshot_may_be_old_but_not_bad(kind, outcome):
    failing = verified(check(action=RemediationAction.ROLLBACK, rows=None))
    again = verified(check(action=RemediationAction.ROLLBACK, rows=None, kind=kind))
    result = gate(failing, again).run(CONTRACT, DATA, run_id="r")
    assert (str(result.outcome), result.after) == (outcome, again)


def test_a_snapshot_that_does_not_fit_any_more_blocks_and_holds():
    class Unfit(Editor):
        def restore_snapshot(self, *_):
            raise PrefectIntelligentError("column a was BIGINT and is VARCHAR")

        save_snapshot = restore_snapshot

    downstream = InMemoryDownstream(known=["f/d"])
    policy = RemediationPolicy(downstream=("f/d",))
    failing = verified(check(action=RemediationAction.ROLLBACK, rows=None))
    result = gate(failing, editor=Unfit(), downstream=downstream, policy=policy).run(CONTRACT, DATA, run_id="r")
    assert (result.outcome, result.held) == (GateOutcome.BLOCKED, ("f/d",))
    assert "could not be put back: column a" in result.log[0]
    assert gate(GOOD, editor=Unfit()).run(CONTRACT, DATA, run_id="r").outcome is GateOutcome.PASSED


def test_looking_at_bad_data_does_not_open_its_circuit():
    history, clock = InMemoryHistory(), ManualClock()
    for n in range(5):
        look = replace(gate(BAD, history=history, clock=clock), editor=None)
        assert look.run(CONTRACT, DATA, run_id=f"look{n}").outcome is GateOutcome.BLOCKED
        clock.sleep(60)
    assert gate(BAD, GOOD, history=history, clock=clock).run(CONTRACT, DATA, run_id="r").circuit is CircuitState.CLOSED


def test_an_open_circuit_probes_although_runs_keep_coming():
    history, clock, states = InMemoryHistory(), ManualClock(), []
    for n in range(20):
        states.append(gate(BAD, BAD, history=history, clock=clock).run(CONTRACT, DATA, run_id=f"r{n}").circuit)
        clock.sleep(600)
    # Three failures; the next attempt an hour after the third, and again an hour after that one.
    assert [n for n, state in enumerate(states) if state is CircuitState.HALF_OPEN] == [8, 14]


def test_a_history_that_does_not_answer_changes_no_verdict():
    class Broken(InMemoryHistory):
        def append(self, *_args, **_options):
            raise StoreError("database is locked")

        records = append

    result = gate(BAD, GOOD, history=Broken()).run(CONTRACT, DATA, run_id="r")
    assert result.outcome is GateOutcome.REMEDIED
    assert result.log[-1] == "not written to the history: database is locked"


def test_the_circuit_opens_stays_open_probes_and_closes():
    history, clock, editor = InMemoryHistory(), ManualClock(), Editor()
    for n in range(3):
        gate(BAD, BAD, history=history, clock=clock).run(CONTRACT, DATA, run_id=f"r{n}")
        clock.sleep(60)
    result = gate(BAD, GOOD, history=history, clock=clock, editor=editor).run(CONTRACT, DATA, run_id="r3")
    assert (result.circuit, result.outcome, editor.calls) == (CircuitState.OPEN, GateOutcome.BLOCKED, [])
    clock.sleep(3600)
    probe = gate(BAD, GOOD, history=history, clock=clock, editor=editor).run(CONTRACT, DATA, run_id="r4")
    assert (probe.circuit, probe.outcome) == (CircuitState.HALF_OPEN, GateOutcome.REMEDIED)
    after = gate(BAD, GOOD, history=history, clock=clock).run(CONTRACT, DATA, run_id="r5")
    assert after.circuit is CircuitState.CLOSED


def test_each_result_is_a_record_with_every_step_and_its_reason():
    history = InMemoryHistory()
    gate(BAD, GOOD, history=history).run(CONTRACT, DATA, run_id="r")
    record = history.latest("quality", "ds/main/t")
    assert record is not None
    assert record["outcome"] == "remedied"
    assert record["steps"] == [
        {"check": "c", "action": "quarantine", "reason": "default for a major invalid check", "rows": 1}
    ]
    assert record["first"]["verdict"] == "failed"
    assert record["after"]["verdict"] == "passed"


class Unreachable(InMemoryDownstream):
    """A Prefect that does not answer."""

    def hold(self, *_):
        raise OrchestratorUnavailableError("no answer")

    release = retry = hold


def test_a_prefect_that_does_not_answer_changes_no_verdict():
    policy = RemediationPolicy(downstream=("f/d",))
    good = gate(GOOD, downstream=Unreachable(), policy=policy).run(CONTRACT, DATA, run_id="r")
    assert good.outcome is GateOutcome.PASSED
    assert "nobody was released" in good.log[-1]
    bad = gate(BLOCKING, downstream=Unreachable(), policy=policy).run(CONTRACT, DATA, run_id="r")
    assert (bad.outcome, bad.held) == (GateOutcome.BLOCKED, ())
    assert "NOT held: f/d" in bad.log[-1]
    retry = verified(check(action=RemediationAction.RETRY, rows=None))
    again = gate(retry, downstream=Unreachable()).run(CONTRACT, DATA, run_id="c", producer="run-1")
    assert again.outcome is GateOutcome.BLOCKED


def test_an_unusual_value_is_reported_and_blocks_nothing():
    history, clock = InMemoryHistory(), ManualClock()
    for n in range(12):
        usual = verified(check(outcome=CheckOutcome.PASSED, value=float(n % 3), rows_tested=1000 + n))
        gate(usual, history=history, clock=clock).run(CONTRACT, DATA, run_id=f"r{n}")
        clock.sleep(3600)
    half = verified(check(outcome=CheckOutcome.PASSED, value=1.0, rows_tested=500))
    result = gate(half, history=history, clock=clock).run(CONTRACT, DATA, run_id="half")
    assert result.outcome is GateOutcome.PASSED
    assert [text.split()[0] for text in result.unusual] == ["rows"]
