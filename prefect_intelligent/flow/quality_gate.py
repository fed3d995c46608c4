"""`quality_gate`: a Prefect task that checks data, remedies what the contract allows, and stops the flow otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext, TaskRunContext

from prefect_intelligent.domain.datasets import DataKind, parse_dataset
from prefect_intelligent.errors import CheckerError, DataQualityError, QualityError, RetryRunError
from prefect_intelligent.flow.hooks import note_quality
from prefect_intelligent.quality.adapters.contracts.lint import load_contract
from prefect_intelligent.quality.adapters.prefect_events import attach_quality, emit_quality
from prefect_intelligent.quality.adapters.sources.frame_types import conversion_hint, with_casts
from prefect_intelligent.quality.gate import GateOutcome, GateResult
from prefect_intelligent.quality.model import Contract
from prefect_intelligent.quality.remediation import RemediationPolicy
from prefect_intelligent.quality.run_scores import SCORES
from prefect_intelligent.wiring.quality import QualityParts, quality_parts

_ERRORS: dict[GateOutcome, type[QualityError]] = {
    GateOutcome.BLOCKED: DataQualityError,
    GateOutcome.RETRY: RetryRunError,
    GateOutcome.ERROR: CheckerError,
}


@task(name="quality-gate", cache_policy=NO_CACHE, persist_result=False)
def quality_gate(
    contract: str | Path | Contract,
    data: Any,
    *,
    variables: Mapping[str, str] | None = None,
    downstream: Sequence[str] = (),
    budget_percent: float = 5.0,
    policy: RemediationPolicy | None = None,
    quarantine: str | None = None,
    dry_run: bool = False,
) -> GateResult:
    """Check data against a contract; remedy what the contract allows; raise if it may not be used.

    Works for data that a flow is about to read as well as for data that it has written. Inside `with transaction():`
    the error rolls the transaction back.

    Args:
        contract: A Soda data contract: path of the YAML file, or its text.
        data: A pandas or Arrow frame, whose columns are compared by value with the declared types, or the place of
            the data ("warehouse.duckdb::flights", "x.parquet", ...).
        variables: Values of `${var.NAME}` in the contract.
        downstream: Deployments ("flow/deployment") to hold while the data is bad.
        budget_percent: Most rows that may be quarantined, in percent.
        policy: All limits at once, instead of the two before.
        quarantine: DuckDB file for the bad rows of frames.
        dry_run: Report what would be done; change nothing and raise nothing.

    Returns:
        What was found and done; `result.data.frame` is the frame without its bad rows.

    Raises:
        DataQualityError: The data is bad and may not be used.
        RetryRunError: It is bad and the contract asks for the run to be tried again.
        CheckerError: The checker could not do its work.
        InvalidInputError: Contract, data or a variable cannot be used.
    """
    limits = policy or RemediationPolicy(budget_percent=budget_percent, downstream=tuple(downstream))
    parsed = load_contract(contract)
    dataset = with_casts(parse_dataset(data), parsed)
    parts = quality_parts(limits, quarantine=quarantine)
    run_id = _run_id()
    result = parts.gate.run(parsed, dataset, run_id=run_id, variables=variables, dry_run=dry_run)
    report(result, run_id, parts)
    if not result.usable and not dry_run:
        hint = conversion_hint(result.last.drift, dataset.frame) if dataset.kind is DataKind.FRAME else ""
        raise _ERRORS[result.outcome](f"{result.sentence()}; {hint}" if hint else result.sentence(), result)
    return result


def report(result: GateResult, run_id: str, parts: QualityParts) -> None:
    """Report to Prefect (log, artifacts, event) and to the spool; a failure to report never changes the result.

    A dry run is only logged and attached as an artifact: no event that an automation would act on, and no metrics.
    """
    record = result.to_record(run_id, result.first.started_s)
    if not result.dry_run:
        event_id = f"quality:{run_id}:{result.first.contract}:{record['at_s']}"
        with contextlib.suppress(Exception):
            parts.spool.append("quality", record, event_id=event_id)
        emit_quality(record)
    with contextlib.suppress(Exception):
        logger = get_run_logger()
        (logger.info if result.usable else logger.error)(result.sentence())
    if not result.dry_run and result.outcome in SCORES:
        note_quality(run_id, SCORES[result.outcome])
    flow, own = FlowRunContext.get(), TaskRunContext.get()
    if own is not None:
        parent = own.task_run.flow_run_id
        attach_quality(record, result.sentence(), None if parent is None else str(parent), str(own.task_run.id))
    elif flow is not None and flow.flow_run is not None:
        attach_quality(record, result.sentence(), str(flow.flow_run.id))


def _run_id() -> str:
    """Id of the flow run, so that its retries do nothing twice; else of the task run; else a new one."""
    flow, own = FlowRunContext.get(), TaskRunContext.get()
    if flow is not None and flow.flow_run is not None:
        return str(flow.flow_run.id)
    if own is not None:
        return str(own.task_run.flow_run_id or own.task_run.id)
    return str(uuid4())
