"""Verifies datasets against contracts with Soda.

Handled here because Soda does not (each has a test):

* Its telemetry is switched off before the import, which otherwise installs a global trace provider.
* It is not thread safe: there is one lock per process, and a copy of the context, or its log capture leaks.
* It executes SQL of the contract: each verification has a read-only, locked connection of its own (`sources.duckdb`).
* Its summary says PASSED when nothing was evaluated, and ERROR when another library logged one: the verdict is derived
  from the outcomes of the checks and from Soda's own errors.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from prefect_intelligent.domain.datasets import DataKind, Dataset
from prefect_intelligent.errors import MissingExtraError
from prefect_intelligent.quality.adapters.contracts.sql import check_variables
from prefect_intelligent.quality.adapters.contracts.yaml import canonical
from prefect_intelligent.quality.adapters.soda.failing_rows import ROWS_FAILED, failing_rows
from prefect_intelligent.quality.adapters.sources.duckdb import SourceError, columns_of, open_locked, tables_of
from prefect_intelligent.quality.adapters.sources.frame_types import column_names, type_named
from prefect_intelligent.quality.model import (
    CheckOutcome,
    CheckResult,
    Contract,
    SchemaDrift,
    Severity,
    Verification,
    parse_action,
    parse_severity,
    suggest_renames,
)

_LOCK = threading.Lock()
_OUTCOMES = {"PASSED": CheckOutcome.PASSED, "WARN": CheckOutcome.WARNED, "FAILED": CheckOutcome.FAILED}


class SodaChecker:
    """`QualityChecker` on soda-core with its DuckDB and PostgreSQL data sources.

    Args:
        timeout_s: Queries of one verification are interrupted after this; the verdict is then ERROR.
    """

    def __init__(self, timeout_s: float = 300.0) -> None:
        self.timeout_s = timeout_s

    def verify(
        self,
        contract: Contract,
        dataset: Dataset,
        *,
        variables: Mapping[str, str] | None = None,
        at_s: float | None = None,
    ) -> Verification:
        """Check the dataset against the contract; what keeps the checker from its work is in the result's `errors`.

        Args:
            contract: A linted contract.
            dataset: The data.
            variables: Values of `${var.NAME}` in the contract.
            at_s: Instant against which freshness is measured, Unix seconds; now by default.

        Raises:
            InvalidInputError: A variable is not declared, or its value is not safe in SQL.
        """
        values = check_variables(variables, contract.tree)
        began = time.time()
        at_s = began if at_s is None else at_s
        errors: tuple[str, ...] = ()
        try:
            if dataset.kind is DataKind.FRAME and not column_names(dataset.frame):  # DuckDB has no table without any
                drift = _missing_columns(contract, {})
                checks = _checks_without_columns(contract, drift, at_s)
            else:
                with self._source(contract, dataset) as source:
                    checks, errors, drift = self._verify(contract, source, values, at_s)
        except SourceError as exc:
            checks, errors, drift = (), (str(exc),), SchemaDrift()
        return Verification(
            dataset=contract.dataset,
            contract=contract.hash,
            checks=checks,
            started_s=began,
            duration_s=time.time() - began,
            errors=errors,
            drift=drift,
        )

    @contextlib.contextmanager
    def _source(self, contract: Contract, dataset: Dataset) -> Iterator[_Source]:
        """Open the dataset read-only, under the name of the contract's data source."""
        name, *prefix = contract.dataset.split("/")[:-1]
        table = dataset.table or contract.table
        if dataset.kind is DataKind.POSTGRES:
            from prefect_intelligent.quality.adapters.sources.postgres import open_read_only

            schema = dataset.schema or (prefix[-1] if prefix else "public")
            with open_read_only(dataset, self.timeout_s) as source:
                path = f"{name}/{source.database}/{schema}/{table}"
                columns = source.columns(schema, table)
                if not columns:
                    raise SourceError(f"{dataset}: no table {table!r} in schema {schema!r}")
                yield _Source(impl=source.soda(name), path=path, columns=columns)
            return
        schema = dataset.schema or "main"
        with open_locked(dataset, table, self.timeout_s) as con:
            columns = columns_of(con, table, schema)
            if not columns:
                raise SourceError(f"{dataset}: no table {table!r}; there are: {', '.join(tables_of(con)) or 'none'}")
            _import_soda()
            from soda_duckdb.common.data_sources.duckdb_data_source import DuckDBDataSourceImpl

            impl = DuckDBDataSourceImpl.from_existing_cursor(con, name=name)
            found = {column.lower(): kind for column, kind in columns.items()}
            as_declared = frozenset(
                str(c["name"])
                for c in contract.tree["columns"]
                if c.get("data_type") and type_named(con, str(c["data_type"])) == found.get(str(c["name"]).lower())
            )
            yield _Source(impl=impl, path=f"{name}/{schema}/{table}", columns=columns, as_declared=as_declared)

    def _verify(
        self, contract: Contract, source: _Source, variables: Mapping[str, str], at_s: float
    ) -> tuple[tuple[CheckResult, ...], tuple[str, ...], SchemaDrift]:
        drift = _missing_columns(contract, source.columns)
        if drift.removed:
            return _checks_without_columns(contract, drift, at_s), (), drift
        columns = [
            {k: v for k, v in c.items() if k != "data_type" or c["name"] not in source.as_declared}
            for c in contract.tree["columns"]
        ]
        text = canonical({**contract.tree, "dataset": source.path, "columns": columns})
        result, impls = _execute(text, source.impl, variables, at_s)
        drift = _schema_drift(result.check_results, drift)
        errors = tuple(
            str(record.getMessage()).splitlines()[0]
            for record in result.log_records or ()
            if record.levelno >= 40 and record.name.startswith("soda")
        )
        checks = tuple(
            _check(found, impls.get(found.check.identity), drift, at_s)
            for found in result.check_results
            if found.outcome.name != "EXCLUDED"
        )
        if not checks and not errors:
            errors = ("no check was evaluated",)
        return checks, errors, drift


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """An open data source: Soda's object for it, the dataset's path in it, its columns with their types.

    `as_declared` are columns of the contract whose type is the declared one, which Soda tells by its spelling.
    """

    impl: Any
    path: str
    columns: Mapping[str, str]
    as_declared: frozenset[str] = frozenset()


@dataclass
class _Capture:
    """Captures Soda's internal objects of one verification, from which the failing rows are derived."""

    impls: dict[str, Any] = field(default_factory=dict)

    def handle(self, contract_impl: Any, *_args: Any, **_kwargs: Any) -> None:
        self.impls = {impl.identity: (impl, contract_impl) for impl in contract_impl.all_check_impls}

    def provides_post_processing_stages(self) -> list[Any]:
        return []

    requires_result_handles = False


def _import_soda() -> None:
    """Import Soda with its telemetry off and without letting it load a `.env` file into the environment."""
    os.environ["SODA_CORE_TELEMETRY_ENABLED"] = "false"
    before = dict(os.environ)
    try:
        for module in ("soda_core.contracts.contract_verification", "soda_duckdb"):
            importlib.import_module(module)
    except ImportError as exc:
        raise MissingExtraError("checking data", "quality") from exc
    for name in set(os.environ) - set(before):
        del os.environ[name]


def _execute(text: str, impl: Any, variables: Mapping[str, str], at_s: float) -> tuple[Any, dict[str, Any]]:
    """Run Soda under the lock of the process, in a copy of the context."""
    from soda_core.common.yaml import ContractYamlSource
    from soda_core.contracts.contract_verification import ContractVerificationSession
    from soda_core.contracts.impl.contract_verification_impl import ContractVerificationHandlerRegistry

    capture = _Capture()

    def run() -> Any:
        return ContractVerificationSession.execute(
            contract_yaml_sources=[ContractYamlSource.from_str(text)],
            data_source_impls=[impl],
            variables=dict(variables),
            data_timestamp=datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )

    handlers = ContractVerificationHandlerRegistry.contract_verification_handlers
    with _LOCK:
        handlers.append(capture)
        try:
            session = contextvars.copy_context().run(run)
        except Exception as exc:
            raise SourceError(f"Soda: {str(exc).splitlines()[0] if str(exc) else type(exc).__name__}") from exc
        finally:
            handlers.remove(capture)
    return session.contract_verification_results[0], capture.impls


def _check(found: Any, impl: Any, drift: SchemaDrift, at_s: float) -> CheckResult:
    """Translate Soda's result of one check."""
    soda_check = found.check
    attributes = dict(soda_check.attributes or {})
    measured = {k: float(v) for k, v in (found.diagnostic_metric_values or {}).items() if isinstance(v, int | float)}
    value = found.threshold_value
    failed = measured.get(ROWS_FAILED.get(soda_check.type, ""))
    tested = measured.get("check_rows_tested", measured.get("dataset_rows_tested"))
    outcome = _OUTCOMES.get(found.outcome.name, CheckOutcome.UNKNOWN)
    check = CheckResult(
        id=soda_check.relative_path,
        name=soda_check.name or soda_check.relative_path,
        kind=soda_check.type,
        column=soda_check.column_name,
        outcome=outcome,
        severity=parse_severity(attributes.get("severity", Severity.MAJOR), soda_check.relative_path),
        action=parse_action(attributes["remediation"], soda_check.relative_path)
        if "remediation" in attributes
        else None,
        parameters={k: v for k, v in attributes.items() if k not in ("severity", "remediation")},
        threshold=" ".join(str(soda_check.threshold or "").replace("level: fail", "").split()),
        value=float(value) if isinstance(value, int | float) else None,
        measured=measured,
        rows_tested=None if tested is None else int(tested),
        rows_failed=None if failed is None else int(failed),
        rows=failing_rows(impl[0], impl[1], attributes)
        if impl and outcome in (CheckOutcome.FAILED, CheckOutcome.WARNED)
        else None,
        detail=str(drift) if soda_check.type == "schema" else "",
        at_s=at_s,
    )
    if soda_check.type == "schema" and outcome is CheckOutcome.FAILED and not drift.breaks:
        # Columns were only added: readers that rely on the contract still work.
        outcomes = {"observe": CheckOutcome.PASSED, "warn": CheckOutcome.WARNED, "block": CheckOutcome.FAILED}
        return replace(check, outcome=outcomes[attributes.get("added", "warn")])
    return check


def _missing_columns(contract: Contract, columns: Mapping[str, str]) -> SchemaDrift:
    """Required columns that are missing, and columns that the contract does not name; case is ignored, as in SQL."""
    present = {name.lower(): (name, kind) for name, kind in columns.items()}
    required = dict(contract.required_columns)
    declared = {str(c["name"]).lower() for c in contract.tree["columns"]}
    removed = {name: kind for name, kind in required.items() if name.lower() not in present}
    added: dict[str, str | None] = {name: kind for low, (name, kind) in present.items() if low not in declared}
    return SchemaDrift(
        added=tuple(added), removed=tuple(removed), renamed=suggest_renames(removed, added) if removed else ()
    )


def _schema_drift(found: Any, drift: SchemaDrift) -> SchemaDrift:
    for result in found:
        if result.check.type == "schema" and hasattr(result, "column_data_type_mismatches"):
            return replace(
                drift,
                retyped=tuple(
                    (str(m.column), str(m.get_expected()), str(m.get_actual()))
                    for m in result.column_data_type_mismatches
                ),
            )
    return drift


def _checks_without_columns(contract: Contract, drift: SchemaDrift, at_s: float) -> tuple[CheckResult, ...]:
    """The results for a dataset that lacks columns: the schema check fails, the others are not evaluated."""
    checks = [
        CheckResult(
            id="checks.schema",
            name="Columns of the contract are there",
            kind="schema",
            outcome=CheckOutcome.FAILED,
            threshold="must be: 0",
            value=float(len(drift.removed)),
            measured={"schema_events_count": float(len(drift.removed) + len(drift.added))},
            detail=str(drift),
            at_s=at_s,
            **_attributes_of(contract, "schema"),
        )
    ]
    for column in contract.tree["columns"]:
        for item in column.get("checks") or ():
            ((kind, body),) = item.items()
            name = f"columns.{column['name']}.checks.{kind}"
            checks.append(
                CheckResult(
                    id=name + (f".{body['qualifier']}" if body and body.get("qualifier") else ""),
                    name=(body or {}).get("name") or name,
                    kind=kind,
                    column=str(column["name"]),
                    outcome=CheckOutcome.UNKNOWN,
                    detail="not evaluated: columns of the contract are missing",
                    at_s=at_s,
                )
            )
    return tuple(checks)


def _attributes_of(contract: Contract, kind: str) -> dict[str, Any]:
    for item in contract.tree.get("checks") or ():
        if kind in item:
            attributes = (item[kind] or {}).get("attributes") or {}
            return {
                "severity": parse_severity(attributes.get("severity", Severity.MAJOR), kind),
                "action": parse_action(attributes["remediation"], kind) if "remediation" in attributes else None,
            }
    return {}
