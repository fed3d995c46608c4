"""The quality gate: verify, remedy what may be remedied, verify again, and say whether the data may be used."""

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
from prefect_intelligent.quality.model import SPLITS, Action, Contract, Outcome, Verdict, Verification
from prefect_intelligent.quality.past_results import KIND, past_results
from prefect_intelligent.quality.ports import DatasetEditor, Downstream, QualityChecker
from prefect_intelligent.quality.remediation import (
    CircuitState,
    EditReport,
    RemediationPolicy,
    RemediationStep,
    circuit_of,
    edits_of,
    plan_steps,
)

_KEPT = 500  # past results that are read for circuit and drift


class GateOutcome(StrEnum):
    """What became of the data."""

    PASSED = "passed"
    WARNED = "warned"
    REMEDIED = "remedied"  # it failed, was changed, and passes now
    ROLLED_BACK = "rolled-back"  # it failed, and the last good snapshot is back
    RETRY = "retry"  # it failed, and the run that made it is to run again
    BLOCKED = "blocked"  # it failed and may not be used
    ERROR = "error"  # nothing is known about it: it may not be used


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """What a gate found and did.

    Attributes:
        outcome: What became of the data.
        first: The verification before anything was changed.
        after: The one after; None if nothing was changed.
        steps: What was decided, per check.
        log: What was done, in order, one sentence each.
        report: What was changed in rows and values.
        circuit: State of the dataset's circuit before this gate.
        held: Deployments held because of it.
        dry_run: Whether nothing was to be changed.
        unusual: Values that pass their checks but are unlike their own past, one sentence each.
        data: The dataset as it is now; for a frame, the frame without its bad rows.
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
        """The newest verification."""
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
        """What this says about the data, for the circuit: bad unless it could be used as it was or after remedies."""
        if self.outcome is GateOutcome.ERROR:
            return None
        return self.outcome in (GateOutcome.PASSED, GateOutcome.WARNED, GateOutcome.REMEDIED)

    def to_record(self, run_id: str, at_s: float, producer: str | None = None) -> dict[str, Any]:
        """As plain JSON for the history and the spool."""
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
            "quarantine": self.report.place,
            "steps": [step.to_record() for step in self.steps],
            "log": list(self.log),
            "held": list(self.held),
            "unusual": list(self.unusual),
            "first": self.first.to_record(),
            "after": self.after.to_record() if self.after else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A gate with everything it needs.

    Attributes:
        checker: Verifies.
        editor: Changes rows; None leaves data alone.
        history: Past results, for the circuit; None starts afresh every time.
        downstream: Holds and retries runs; None leaves Prefect alone.
        clock: The time.
        policy: The limits.
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
        """Verify a dataset and act on what is found.

        Args:
            contract: What must hold.
            dataset: The data.
            run_id: Names this attempt: with the same id, nothing is done twice.
            producer: Flow run that made the data and may be run again; None if there is none.
            variables: Values of the contract's variables.
            dry_run: Say what would be done, do nothing.
        """
        now_s = self.clock.now_s()
        past = self._past(contract.dataset)
        circuit, _ = circuit_of(past, self.policy, now_s)
        first = self.checker.verify(contract, dataset, variables=variables)
        if first.ok:
            result = self._good(contract, dataset, first, circuit, dry_run)
        else:
            steps = plan_steps(first, self.policy, circuit)
            result = GateResult(
                outcome=GateOutcome.BLOCKED, first=first, steps=steps, circuit=circuit, dry_run=dry_run, data=dataset
            )
            result = self._edited(contract, result, run_id, variables)
            result = self._ended(contract, result, run_id, producer, past, variables)
        result = replace(result, unusual=find_drift(first, [r["first"] for r in past]))
        if self.history is not None and not dry_run:
            record = result.to_record(run_id, now_s, producer)
            if self.editor is None and record["good"] is False:
                record["good"] = None  # nobody tried to remedy it: a look does not open the circuit
            try:
                self.history.append(KIND, contract.dataset, now_s, record)
            except StoreError as exc:
                result = replace(result, log=(*result.log, f"not written to the history: {exc}"))
        return result

    def _past(self, dataset: str) -> Sequence[Mapping[str, Any]]:
        """Past results; none if the history cannot be read, because good data must not wait for it."""
        try:
            return () if self.history is None else past_results(self.history, dataset, last=_KEPT)
        except StoreError:
            return ()

    def _good(
        self, contract: Contract, dataset: Dataset, first: Verification, circuit: CircuitState, dry_run: bool
    ) -> GateResult:
        """The data is good: keep it as a snapshot if the contract wants roll-backs, and let downstream go on."""
        outcome = GateOutcome.WARNED if first.verdict is Verdict.WARNED else GateOutcome.PASSED
        steps = plan_steps(first, self.policy, circuit)
        log: list[str] = []
        if not dry_run:
            log += self._keep(contract, dataset)
            log += self._released(contract.dataset)
        return GateResult(
            outcome=outcome, first=first, steps=steps, log=tuple(log), circuit=circuit, dry_run=dry_run, data=dataset
        )

    def _edited(
        self, contract: Contract, result: GateResult, run_id: str, variables: Mapping[str, str] | None
    ) -> GateResult:
        """Apply the edits of the plan and verify again."""
        edits = edits_of(result.first, result.steps)
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
                replace(s, action=Action.BLOCK, reason=f"{reason} (else {s.action})") if s.action in SPLITS else s
                for s in result.steps
            )
            return replace(result, steps=steps, log=(*result.log, reason))
        verb = "would be" if result.dry_run else "were"
        log = (
            *result.log,
            f"{report.quarantined} rows {verb} moved to {report.place}, {report.repaired} rows {verb} repaired",
        )
        if result.dry_run:
            return replace(result, report=report, log=log)
        data = result.data if report.data is None else replace(result.data, frame=report.data)
        after = self.checker.verify(contract, data, variables=variables)
        return replace(result, report=report, log=(*log, f"verified again: {after.sentence()}"), data=data, after=after)

    def _blocked_regardless(self, result: GateResult) -> bool:
        """Whether a step blocks whatever the edits do: then rows stay where they are, for whoever looks into it."""
        return any(step.action in (Action.BLOCK, Action.ROLLBACK, Action.RETRY) for step in result.steps)

    def _ended(
        self,
        contract: Contract,
        result: GateResult,
        run_id: str,
        producer: str | None,
        past: Sequence[Mapping[str, Any]],
        variables: Mapping[str, str] | None,
    ) -> GateResult:
        """Decide what becomes of data that failed, climbing the ladder from the mildest step that is left."""
        if result.first.verdict is Verdict.ERROR or result.last.verdict is Verdict.ERROR:
            return self._blocked(contract, replace(result, outcome=GateOutcome.ERROR))
        if self._acceptable(result):
            outcome = GateOutcome.REMEDIED if result.after or result.report.by_check else GateOutcome.WARNED
            log = result.log
            if not result.dry_run:
                log = (*log, *self._keep(contract, result.data), *self._released(contract.dataset))
            return replace(result, outcome=outcome, log=log)
        actions = {step.action for step in result.steps}
        if Action.RETRY in actions and Action.BLOCK not in actions:
            tried = self._retried(result, run_id, producer, past)
            if tried.outcome is GateOutcome.RETRY:
                return tried
            result = tried
        if Action.ROLLBACK in actions and Action.BLOCK not in actions:
            rolled = self._rolled_back(contract, result, run_id, variables)
            if rolled.outcome is GateOutcome.ROLLED_BACK:
                return rolled
            result = rolled
        return self._blocked(contract, result)

    def _acceptable(self, result: GateResult) -> bool:
        """Whether nothing fails any more but what the contract tolerates."""
        mild = {s.check for s in result.steps if s.action in (Action.OBSERVE, Action.WARN)}
        if result.dry_run and result.report.by_check:
            mild |= set(result.report.by_check)
        checks = result.last.checks
        return all(c.id in mild for c in checks if c.outcome is Outcome.FAILED) and not any(
            c.outcome is Outcome.UNKNOWN for c in checks
        )

    def _retried(
        self, result: GateResult, run_id: str, producer: str | None, past: Sequence[Mapping[str, Any]]
    ) -> GateResult:
        name = producer or run_id
        before = sum(
            1 for r in past if r["outcome"] == GateOutcome.RETRY and name in (r.get("producer"), r.get("run_id"))
        )
        if before >= self.policy.retries:
            return replace(result, log=(*result.log, f"run {name} has been tried again {before} times: no more"))
        if producer is None or result.dry_run:
            # Inside the producing run: the error makes Prefect retry it.
            return replace(result, outcome=GateOutcome.RETRY, log=(*result.log, "the producing run is to run again"))
        try:
            if self.downstream is not None and self.downstream.retry(producer):
                return replace(result, outcome=GateOutcome.RETRY, log=(*result.log, f"run {producer} runs again"))
        except PrefectIntelligentError as exc:
            return replace(result, log=(*result.log, f"run {producer} could not be run again: {exc}"))
        return replace(result, log=(*result.log, f"run {producer} could not be run again"))

    def _rolled_back(
        self, contract: Contract, result: GateResult, run_id: str, variables: Mapping[str, str] | None
    ) -> GateResult:
        """Put the last good snapshot back, and look at it: of what was good then, only its age may have changed."""
        if result.dry_run:
            return replace(
                result, outcome=GateOutcome.ROLLED_BACK, log=(*result.log, "the last good snapshot would be put back")
            )
        try:
            if self.editor is None or not self.editor.restore_good(result.data, contract.table, run_id):
                return replace(result, log=(*result.log, "there is no good snapshot to go back to"))
        except PrefectIntelligentError as exc:
            return replace(result, log=(*result.log, f"the last good snapshot could not be put back: {exc}"))
        after = self.checker.verify(contract, result.data, variables=variables)
        log = (*result.log, "the last good snapshot was put back", f"verified again: {after.sentence()}")
        result = replace(result, log=log, after=after)
        if not after.ok and {c.kind for c in after.failed()} != {"freshness"}:
            return result
        return replace(result, outcome=GateOutcome.ROLLED_BACK)

    def _blocked(self, contract: Contract, result: GateResult) -> GateResult:
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
        return replace(result, outcome=outcome, held=held, log=(*result.log, f"held: {', '.join(held) or 'nothing'}"))

    def _keep(self, contract: Contract, dataset: Dataset) -> list[str]:
        if self.editor is None or "rollback" not in contract.text:
            return []
        try:
            return ["kept as the last good snapshot"] if self.editor.keep_good(dataset, contract.table) else []
        except PrefectIntelligentError as exc:
            return [f"no snapshot was kept: {exc}"]

    def _released(self, dataset: str) -> list[str]:
        if self.downstream is None:
            return []
        try:
            released = self.downstream.release(dataset)
        except PrefectIntelligentError as exc:
            # Good data stays good when Prefect cannot be asked; whoever is held waits for the next gate.
            return [f"nobody was released: {exc}"]
        return [f"released: {', '.join(released)}"] if released else []
