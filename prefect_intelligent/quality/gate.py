"""The quality gate: verify a dataset, remedy what may be remedied, verify again, and decide whether it may be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from prefect_intelligent.domain.clock import Clock
from prefect_intelligent.domain.datasets import DataKind, Dataset
from prefect_intelligent.errors import PrefectIntelligentError, StoreError
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.quality.drift import find_drift
from prefect_intelligent.quality.model import (
    QUARANTINE_ACTIONS,
    CheckOutcome,
    Contract,
    RemediationAction,
    Verdict,
    Verification,
)
from prefect_intelligent.quality.past_results import KIND, past_results
from prefect_intelligent.quality.ports import DatasetEditor, Downstream, QualityChecker
from prefect_intelligent.quality.remediation import (
    CircuitState,
    EditReport,
    RemediationPolicy,
    RemediationStep,
    circuit_state,
    plan_steps,
    required_edits,
)

_KEPT = 500  # past results that are read for circuit and drift


class GateOutcome(StrEnum):
    """Outcome of a gate."""

    PASSED = "passed"
    WARNED = "warned"
    REMEDIED = "remedied"  # it failed, was edited, and passes now
    ROLLED_BACK = "rolled-back"  # it failed, and the last good snapshot was restored
    RETRY = "retry"  # it failed, and the run that made it is retried
    BLOCKED = "blocked"  # it failed and may not be used
    ERROR = "error"  # the checker failed: the data may not be used


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """What a gate found and did.

    Attributes:
        outcome: Whether the data may be used, and why.
        first: The verification before any change.
        after: The verification after the last change; None if nothing was changed.
        steps: The planned action per check.
        log: What was done, in order, one sentence each.
        report: Rows quarantined and repaired.
        circuit: State of the dataset's circuit breaker before this gate.
        held: Deployments held because of this dataset.
        dry_run: Whether nothing was to be changed.
        unusual: Values that pass their checks but drift from their own past, one sentence each.
        data: The dataset after the gate; a frame without its quarantined rows.
    """

    outcome: GateOutcome
    first: Verification
    after: Verification | None = None
    steps: tuple[RemediationStep, ...] = ()
    log: tuple[str, ...] = ()
    report: EditReport = field(default_factory=EditReport)
    circuit: CircuitState = CircuitState.CLOSED
    held: tuple[str, ...] = ()
    dry_run: bool = False
    unusual: tuple[str, ...] = ()
    data: Dataset = field(default=Dataset(kind=DataKind.FRAME), repr=False)

    @property
    def usable(self) -> bool:
        """Whether the data may be passed on."""
        return self.outcome in (
            GateOutcome.PASSED,
            GateOutcome.WARNED,
            GateOutcome.REMEDIED,
            GateOutcome.ROLLED_BACK,
        )

    @property
    def last(self) -> Verification:
        """The last verification."""
        return self.after or self.first

    def sentence(self) -> str:
        """The result in one line."""
        parts = [f"{self.first.dataset} {self.outcome}"]
        if self.report.quarantined:
            parts.append(f"{self.report.quarantined} rows quarantined")
        if self.report.repaired:
            parts.append(f"{self.report.repaired} rows repaired")
        if not self.usable:
            parts += [f"{c.name} ({c.kind}): {c.detail or c.rows_failed or c.value}" for c in self.last.failed()[:3]]
            parts += list(self.last.errors[:1])
        return "; ".join(parts)

    @property
    def good(self) -> bool | None:
        """For the circuit breaker: whether the data was good or could be remedied; None after an error of the checker.

        Data that was rolled back counts as bad.
        """
        if self.outcome is GateOutcome.ERROR:
            return None
        return self.outcome in (GateOutcome.PASSED, GateOutcome.WARNED, GateOutcome.REMEDIED)

    def to_record(self, run_id: str, at_s: float, producer: str | None = None) -> dict[str, Any]:
        """As JSON values, for the history and the spool."""
        return {
            "run_id": run_id,
            "producer": producer,
            "good": self.good,
            "at_s": at_s,
            "dataset": self.first.dataset,
            "outcome": str(self.outcome),
            "verdict": str(self.first.verdict),
            "dry_run": self.dry_run,
            "circuit": str(self.circuit),
            "quarantined": self.report.quarantined,
            "repaired": self.report.repaired,
            "by_check": dict(self.report.by_check),
            "quarantine": self.report.quarantine,
            "steps": [step.to_record() for step in self.steps],
            "log": list(self.log),
            "held": list(self.held),
            "unusual": list(self.unusual),
            "first": self.first.to_record(),
            "after": self.after.to_record() if self.after else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A quality gate.

    Attributes:
        checker: Verifies datasets.
        clock: The time.
        editor: Edits rows; None changes no data.
        history: Past results, for circuit breaker and drift; None has no past.
        downstream: Holds deployments and retries runs; None changes nothing in Prefect.
        policy: Limits of remediation.
    """

    checker: QualityChecker
    clock: Clock
    editor: DatasetEditor | None = None
    history: HistoryStore | None = None
    downstream: Downstream | None = None
    policy: RemediationPolicy = field(default_factory=RemediationPolicy)

    def run(
        self,
        contract: Contract,
        dataset: Dataset,
        *,
        run_id: str,
        producer: str | None = None,
        variables: Mapping[str, str] | None = None,
        dry_run: bool = False,
    ) -> GateResult:
        """Verify a dataset and act on the result.

        Args:
            contract: The checks.
            dataset: The data.
            run_id: Id of this attempt: repeated with the same id, it quarantines no row twice.
            producer: Flow run that made the data and may be retried; None if there is none.
            variables: Values of the contract's variables.
            dry_run: Report what would be done without doing it.
        """
        now_s = self.clock.now_s()
        past = self._past(contract.dataset)
        circuit, _ = circuit_state(past, self.policy, now_s)
        first = self.checker.verify(contract, dataset, variables=variables)
        if first.ok:
            result = self._pass(contract, dataset, first, circuit, dry_run)
        else:
            steps = plan_steps(first, self.policy, circuit)
            result = GateResult(
                outcome=GateOutcome.BLOCKED, first=first, steps=steps, circuit=circuit, dry_run=dry_run, data=dataset
            )
            result = self._apply_edits(contract, result, run_id, variables)
            result = self._escalate(contract, result, run_id, producer, past, variables)
        result = replace(result, unusual=find_drift(first, [r["first"] for r in past]))
        if self.history is not None and not dry_run:
            record = result.to_record(run_id, now_s, producer)
            if self.editor is None and record["good"] is False:
                record["good"] = None  # without an editor nothing was attempted, which must not open the circuit
            try:
                self.history.append(KIND, contract.dataset, now_s, record)
            except StoreError as exc:
                result = replace(result, log=(*result.log, f"not written to the history: {exc}"))
        return result

    def _past(self, dataset: str) -> Sequence[Mapping[str, Any]]:
        """Past results; none if the history cannot be read, so that it never blocks good data."""
        try:
            return () if self.history is None else past_results(self.history, dataset, last=_KEPT)
        except StoreError:
            return ()

    def _pass(
        self, contract: Contract, dataset: Dataset, first: Verification, circuit: CircuitState, dry_run: bool
    ) -> GateResult:
        """The data is good: save it as a snapshot if the contract declares rollbacks, and release what is held."""
        outcome = GateOutcome.WARNED if first.verdict is Verdict.WARNED else GateOutcome.PASSED
        steps = plan_steps(first, self.policy, circuit)
        log: list[str] = []
        if not dry_run:
            log += self._save_snapshot(contract, dataset)
            log += self._release_downstream(contract.dataset)
        return GateResult(
            outcome=outcome, first=first, steps=steps, log=tuple(log), circuit=circuit, dry_run=dry_run, data=dataset
        )

    def _apply_edits(
        self, contract: Contract, result: GateResult, run_id: str, variables: Mapping[str, str] | None
    ) -> GateResult:
        """Apply the edits of the steps and verify again."""
        edits = required_edits(result.first, result.steps)
        if not edits:
            return result
        if self.editor is None:
            return replace(result, log=(*result.log, "nothing may be changed here: no editor"))
        if self._blocked_regardless(result):
            return replace(result, log=(*result.log, "rows were left alone: the data will be blocked anyway"))
        rows = result.first.rows_tested
        budget = None if rows is None else int(rows * self.policy.budget_percent / 100)
        try:
            report = self.editor.edit(
                result.data,
                contract.table,
                edits,
                run_id=run_id,
                at_s=self.clock.now_s(),
                budget_rows=budget,
                dry_run=result.dry_run,
            )
        except PrefectIntelligentError as exc:
            reason = f"{exc}; nothing was changed"
            steps = tuple(
                replace(s, action=RemediationAction.BLOCK, reason=f"{reason} (else {s.action})")
                if s.action in QUARANTINE_ACTIONS
                else s
                for s in result.steps
            )
            return replace(result, steps=steps, log=(*result.log, reason))
        verb = "would be" if result.dry_run else "were"
        log = (
            *result.log,
            f"{report.quarantined} rows {verb} moved to {report.quarantine}, {report.repaired} rows {verb} repaired",
        )
        if result.dry_run:
            return replace(result, report=report, log=log)
        data = result.data if report.data is None else replace(result.data, frame=report.data)
        after = self.checker.verify(contract, data, variables=variables)
        return replace(result, report=report, log=(*log, f"verified again: {after.sentence()}"), data=data, after=after)

    def _blocked_regardless(self, result: GateResult) -> bool:
        """Whether a step blocks or replaces the data whatever the edits do; then rows are left for investigation."""
        return any(
            step.action in (RemediationAction.BLOCK, RemediationAction.ROLLBACK, RemediationAction.RETRY)
            for step in result.steps
        )

    def _escalate(
        self,
        contract: Contract,
        result: GateResult,
        run_id: str,
        producer: str | None,
        past: Sequence[Mapping[str, Any]],
        variables: Mapping[str, str] | None,
    ) -> GateResult:
        """Decide about data that failed: accept it after the edits, else retry, else roll back, else block."""
        if result.first.verdict is Verdict.ERROR or result.last.verdict is Verdict.ERROR:
            return self._block(contract, replace(result, outcome=GateOutcome.ERROR))
        if self._acceptable(result):
            outcome = GateOutcome.REMEDIED if result.after or result.report.by_check else GateOutcome.WARNED
            log = result.log
            if not result.dry_run:
                saved = self._save_snapshot(contract, result.data)
                log = (*log, *saved, *self._release_downstream(contract.dataset))
            return replace(result, outcome=outcome, log=log)
        actions = {step.action for step in result.steps}
        if RemediationAction.RETRY in actions and RemediationAction.BLOCK not in actions:
            result = self._retry(result, run_id, producer, past)
            if result.outcome is GateOutcome.RETRY:
                return result
        if RemediationAction.ROLLBACK in actions and RemediationAction.BLOCK not in actions:
            result = self._roll_back(contract, result, run_id, variables)
            if result.outcome is GateOutcome.ROLLED_BACK:
                return result
        return self._block(contract, result)

    def _acceptable(self, result: GateResult) -> bool:
        """Whether every check was evaluated and only checks whose action is to observe or to warn still fail."""
        tolerated = {s.check for s in result.steps if s.action in (RemediationAction.OBSERVE, RemediationAction.WARN)}
        if result.dry_run and result.report.by_check:
            tolerated |= set(result.report.by_check)
        checks = result.last.checks
        return all(c.id in tolerated for c in checks if c.outcome is CheckOutcome.FAILED) and not any(
            c.outcome is CheckOutcome.UNKNOWN for c in checks
        )

    def _retry(
        self, result: GateResult, run_id: str, producer: str | None, past: Sequence[Mapping[str, Any]]
    ) -> GateResult:
        """Retry the run that made the data, up to `policy.retries` times; the outcome is RETRY if it is retried."""
        name = producer or run_id
        before = sum(
            1 for r in past if r["outcome"] == GateOutcome.RETRY and name in (r.get("producer"), r.get("run_id"))
        )
        if before >= self.policy.retries:
            return replace(result, log=(*result.log, f"run {name} has been tried again {before} times: no more"))
        if producer is None or result.dry_run:
            # Without a producer the gate runs inside the producing run: its error makes Prefect retry it.
            return replace(result, outcome=GateOutcome.RETRY, log=(*result.log, "the producing run is to run again"))
        try:
            if self.downstream is not None and self.downstream.retry(producer):
                return replace(result, outcome=GateOutcome.RETRY, log=(*result.log, f"run {producer} runs again"))
        except PrefectIntelligentError as exc:
            return replace(result, log=(*result.log, f"run {producer} could not be run again: {exc}"))
        return replace(result, log=(*result.log, f"run {producer} could not be run again"))

    def _roll_back(
        self, contract: Contract, result: GateResult, run_id: str, variables: Mapping[str, str] | None
    ) -> GateResult:
        """Restore the last good snapshot and verify it; of its checks only freshness may fail."""
        if result.dry_run:
            return replace(
                result, outcome=GateOutcome.ROLLED_BACK, log=(*result.log, "the last good snapshot would be put back")
            )
        try:
            if self.editor is None or not self.editor.restore_snapshot(result.data, contract.table, run_id):
                return replace(result, log=(*result.log, "there is no good snapshot to go back to"))
        except PrefectIntelligentError as exc:
            return replace(result, log=(*result.log, f"the last good snapshot could not be put back: {exc}"))
        after = self.checker.verify(contract, result.data, variables=variables)
        log = (*result.log, "the last good snapshot was put back", f"verified again: {after.sentence()}")
        result = replace(result, log=log, after=after)
        if not after.ok and {c.kind for c in after.failed()} != {"freshness"}:
            return result
        return replace(result, outcome=GateOutcome.ROLLED_BACK)

    def _block(self, contract: Contract, result: GateResult) -> GateResult:
        """Block the data and hold the deployments downstream."""
        outcome = result.outcome if result.outcome is GateOutcome.ERROR else GateOutcome.BLOCKED
        if self.downstream is None or not self.policy.downstream:
            return replace(result, outcome=outcome)
        names = ", ".join(self.policy.downstream)
        if result.dry_run:
            return replace(result, outcome=outcome, log=(*result.log, f"would be held: {names}"))
        try:
            held = self.downstream.hold(contract.dataset, self.policy.downstream)
        except PrefectIntelligentError as exc:
            return replace(result, outcome=outcome, log=(*result.log, f"NOT held: {names} ({exc})"))
        log = (*result.log, f"held: {', '.join(held) or 'nothing'}")
        if missed := [name for name in self.policy.downstream if name not in held]:
            log = (*log, f"NOT held, there is no such deployment: {', '.join(missed)}")
        return replace(result, outcome=outcome, held=held, log=log)

    def _save_snapshot(self, contract: Contract, dataset: Dataset) -> list[str]:
        """Save good data as the last good snapshot if a check declares rollback; returns lines for the log."""
        if self.editor is None or RemediationAction.ROLLBACK not in contract.declared_actions:
            return []
        try:
            return ["kept as the last good snapshot"] if self.editor.save_snapshot(dataset, contract.table) else []
        except PrefectIntelligentError as exc:
            return [f"no snapshot was kept: {exc}"]

    def _release_downstream(self, dataset: str) -> list[str]:
        """Release the deployments that the dataset held; returns lines for the log."""
        if self.downstream is None:
            return []
        try:
            released = self.downstream.release(dataset)
        except PrefectIntelligentError as exc:
            # The data stays good when Prefect does not answer; held deployments are released by the next gate.
            return [f"nobody was released: {exc}"]
        return [f"released: {', '.join(released)}"] if released else []
