"""Contract, check result and verification.

A verification holds the results of all checks of one contract on one dataset. An error of the checker is not bad data:
`Verdict` tells the two apart. What is done after a failure is in `quality/remediation.py`.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from prefect_intelligent.errors import InvalidInputError, UnknownNameError


class CheckOutcome(StrEnum):
    """Outcome of one check."""

    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"
    UNKNOWN = "unknown"  # not evaluated


class Verdict(StrEnum):
    """Outcome of a verification."""

    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"  # the data is bad
    ERROR = "error"  # the checker failed: nothing is known about the data


class Severity(StrEnum):
    """How much a failed check matters."""

    CRITICAL = "critical"
    MAJOR = "major"
    MINOR = "minor"


class RemediationAction(StrEnum):
    """What to do when a check fails, mildest first."""

    OBSERVE = "observe"  # record it
    WARN = "warn"  # record it and warn
    IMPUTE = "impute"  # replace a missing or invalid value by a declared one
    CLIP = "clip"  # move a number into the declared range
    CAST = "cast"  # replace a value that is not of the declared type by NULL
    DEDUPE = "dedupe"  # keep one row of each key, move the others to quarantine
    QUARANTINE = "quarantine"  # move the failing rows to quarantine
    RETRY = "retry"  # retry the flow run that made the data
    ROLLBACK = "rollback"  # restore the last good snapshot
    BLOCK = "block"  # the data may not be used


REPAIR_ACTIONS = frozenset({RemediationAction.IMPUTE, RemediationAction.CLIP, RemediationAction.CAST})
"""Actions that change values in place."""
QUARANTINE_ACTIONS = frozenset({RemediationAction.DEDUPE, RemediationAction.QUARANTINE})
"""Actions that move rows into quarantine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """A Soda data contract that has passed the lint.

    Attributes:
        source: Path or name, for messages.
        text: The YAML.
        dataset: Name of the dataset, "data source/.../table".
        tree: The parsed YAML.
    """

    source: str
    text: str
    dataset: str
    tree: Mapping[str, Any] = field(repr=False)

    @property
    def table(self) -> str:
        """Last part of the dataset's name."""
        return self.dataset.rsplit("/", 1)[-1]

    @property
    def required_columns(self) -> tuple[tuple[str, str | None], ...]:
        """Name and declared type of the required columns."""
        return tuple((c["name"], c.get("data_type")) for c in self.tree["columns"] if not c.get("optional"))

    @property
    def declared_actions(self) -> frozenset[RemediationAction]:
        """The actions that the checks of the dataset and of its columns declare for a failure."""
        levels = (self.tree, *(self.tree.get("columns") or ()))
        bodies = [body for level in levels for check in level.get("checks") or () for body in check.values()]
        attributes = [body.get("attributes") or {} for body in bodies if body]
        return frozenset(RemediationAction(found["remediation"]) for found in attributes if "remediation" in found)

    @property
    def hash(self) -> str:
        """First 12 hex digits of the SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingRows:
    """Which rows fail a check, in the SQL of the data source.

    Attributes:
        predicate: A boolean expression over one row, true for a failing row; "" if `keys` decide.
        keys: Columns that must be unique together (a duplicate check); else empty.
        scope: A boolean expression that selects the rows to look at (the filters of contract and check); "" is all.
    """

    predicate: str = ""
    keys: tuple[str, ...] = ()
    scope: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """Result of one check of a contract.

    Attributes:
        id: Stable name of the check within its contract, e.g. "columns.carrier.checks.invalid".
        name: For people.
        kind: missing, invalid, duplicate, failed_rows, row_count, freshness, schema, metric or aggregate.
        column: The column it is about; None for the dataset.
        outcome: Passed, warned, failed, or not evaluated.
        severity: How much a failure matters.
        action: The action that the contract declares for a failure; None leaves it to `remediation.default_action`.
        parameters: Parameters of the action, e.g. {"value": 0} for impute.
        threshold: The limit, as text.
        value: The number compared with the threshold; None if it was not measured.
        measured: All measured numbers, by name.
        rows_tested: Rows tested; None for a check that does not test rows.
        rows_failed: Rows that fail; None for a check that does not test rows.
        rows: How to select the failing rows; None if they cannot be selected.
        detail: Explanation beside the number, e.g. the difference of the schemas.
        at_s: When it was evaluated, Unix seconds.
    """

    id: str
    name: str
    kind: str
    outcome: CheckOutcome
    at_s: float
    column: str | None = None
    severity: Severity = Severity.MAJOR
    action: RemediationAction | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    threshold: str = ""
    value: float | None = None
    measured: Mapping[str, float] = field(default_factory=dict)
    rows_tested: int | None = None
    rows_failed: int | None = None
    rows: FailingRows | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaDrift:
    """How the columns of a dataset differ from its contract.

    Attributes:
        added: Columns that are not in the contract.
        removed: Required columns that are missing.
        retyped: Column, declared type, type found.
        renamed: Removed column and the added one that is probably the same column.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    retyped: tuple[tuple[str, str, str], ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()

    @property
    def breaks(self) -> bool:
        """Whether readers that rely on the contract fail: added columns do not break them."""
        return bool(self.removed or self.retyped)

    def __str__(self) -> str:
        parts = []
        if self.removed:
            parts.append("removed: " + ", ".join(self.removed))
        if self.retyped:
            parts.append("retyped: " + ", ".join(f"{c} ({was} -> {now})" for c, was, now in self.retyped))
        if self.renamed:
            parts.append("probably renamed: " + ", ".join(f"{old} -> {new}" for old, new in self.renamed))
        if self.added:
            parts.append("added: " + ", ".join(self.added))
        return "; ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The result of verifying one dataset against one contract.

    Attributes:
        dataset: Name of the dataset in the contract.
        contract: `Contract.hash`: results of different contracts are not comparable.
        checks: Results of all checks, in the order of the contract.
        started_s: When it began, Unix seconds.
        duration_s: Seconds it took.
        errors: Errors of the checker; empty unless the verdict is ERROR.
        drift: How the schema differs.
    """

    dataset: str
    contract: str
    checks: tuple[CheckResult, ...]
    started_s: float
    duration_s: float
    errors: tuple[str, ...] = ()
    drift: SchemaDrift = field(default_factory=SchemaDrift)

    @property
    def verdict(self) -> Verdict:
        """FAILED if a check failed; ERROR if the checker reported an error, or if checks were not evaluated."""
        outcomes = {check.outcome for check in self.checks}
        if self.errors or not outcomes:
            return Verdict.ERROR
        if CheckOutcome.FAILED in outcomes:
            return Verdict.FAILED
        if CheckOutcome.UNKNOWN in outcomes:
            return Verdict.ERROR
        return Verdict.WARNED if CheckOutcome.WARNED in outcomes else Verdict.PASSED

    @property
    def ok(self) -> bool:
        """Whether the verdict is PASSED or WARNED."""
        return self.verdict in (Verdict.PASSED, Verdict.WARNED)

    @property
    def rows_tested(self) -> int | None:
        """Rows of the dataset: the most that a check has tested; None if none counts rows."""
        return max((check.rows_tested for check in self.checks if check.rows_tested is not None), default=None)

    def failed(self) -> tuple[CheckResult, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.outcome is CheckOutcome.FAILED)

    def sentence(self) -> str:
        """The result in one line."""
        counts = {o: sum(c.outcome is o for c in self.checks) for o in CheckOutcome}
        text = ", ".join(f"{n} {o}" for o, n in counts.items() if n) or "no checks"
        why = f": {self.errors[0]}" if self.errors else ""
        return f"{self.dataset} {self.verdict} ({text}){why}"

    def to_record(self) -> dict[str, Any]:
        """As JSON values, for the spool, the history and `--json`."""
        return {
            "dataset": self.dataset,
            "contract": self.contract,
            "verdict": str(self.verdict),
            "started_s": self.started_s,
            "duration_s": self.duration_s,
            "errors": list(self.errors),
            "drift": str(self.drift),
            "rows_tested": self.rows_tested,
            "checks": [
                {
                    "id": c.id,
                    "name": c.name,
                    "kind": c.kind,
                    "column": c.column,
                    "outcome": str(c.outcome),
                    "severity": str(c.severity),
                    "action": None if c.action is None else str(c.action),
                    "threshold": c.threshold,
                    "value": c.value,
                    "measured": dict(c.measured),
                    "rows_tested": c.rows_tested,
                    "rows_failed": c.rows_failed,
                    "detail": c.detail,
                    "at_s": c.at_s,
                }
                for c in self.checks
            ],
        }


def suggest_renames(removed: Mapping[str, str | None], added: Mapping[str, str | None]) -> tuple[tuple[str, str], ...]:
    """Pairs (old, new) of columns that are probably the same, most similar first; each column is used once.

    Args:
        removed: Missing columns, with their type if known.
        added: Columns that are not in the contract, with their type if known.
    """

    def similarity(old: str, new: str) -> float:
        ratio = difflib.SequenceMatcher(None, old.lower(), new.lower()).ratio()
        words = set(old.lower().split("_")) & set(new.lower().split("_"))
        was, now = removed[old], added[new]
        return ratio + 0.2 * bool(words) - 0.3 * (was is not None and now is not None and was.lower() != now.lower())

    pairs = sorted(((similarity(o, n), o, n) for o in removed for n in added), reverse=True)
    chosen: list[tuple[str, str]] = []
    for score, old, new in pairs:
        if score >= 0.6 and all(old != o and new != n for o, n in chosen):
            chosen.append((old, new))
    return tuple(chosen)


def parse_severity(word: object, where: str) -> Severity:
    """The severity of that name; `where` is named in the error."""
    try:
        return Severity(str(word))
    except ValueError:
        raise UnknownNameError(f"severity of {where}", str(word), [str(s) for s in Severity]) from None


def parse_action(word: object, where: str) -> RemediationAction:
    """The action of that name; `where` is named in the error."""
    try:
        return RemediationAction(str(word))
    except ValueError:
        raise UnknownNameError(f"remediation of {where}", str(word), [str(a) for a in RemediationAction]) from None


STATISTICS = ("median", "mean", "mode")
"""What `impute` can compute from the good values of a column."""
_SQL_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_ ]*(\(\d+(, ?\d+)?\))?")


def check_parameters(action: RemediationAction | None, parameters: Mapping[str, Any], where: str) -> None:
    """Refuse an action whose parameters are missing or invalid.

    Raises:
        InvalidInputError: `impute` lacks `value` or `statistic`, `clip` lacks `min` or `max`, `cast` lacks `type`; or
            one of them is not of the right kind.
    """
    needed: dict[RemediationAction, tuple[str, ...]] = {
        RemediationAction.IMPUTE: ("value", "statistic"),
        RemediationAction.CLIP: ("min", "max"),
        RemediationAction.CAST: ("type",),
    }
    if action not in needed:
        return
    if not any(name in parameters for name in needed[action]):
        wanted = " or ".join(needed[action])
        raise InvalidInputError(f"attributes of {where}", dict(parameters), f"{action} needs {wanted}")
    for name in needed[action]:
        given = parameters.get(name)
        if isinstance(given, Mapping | list | tuple):
            raise InvalidInputError(f"{name} of {where}", given, "must be one value")
    if action is RemediationAction.IMPUTE and "statistic" in parameters and parameters["statistic"] not in STATISTICS:
        raise UnknownNameError(f"statistic of {where}", str(parameters["statistic"]), STATISTICS)
    if action is RemediationAction.CAST and not _SQL_TYPE.fullmatch(str(parameters["type"])):
        raise InvalidInputError(f"type of {where}", parameters["type"], "must be an SQL type, e.g. INTEGER")
    low, high = parameters.get("min"), parameters.get("max")
    if (
        action is RemediationAction.CLIP
        and isinstance(low, int | float)
        and isinstance(high, int | float)
        and low > high
    ):
        raise InvalidInputError(f"min of {where}", low, f"must not be above max, which is {high}")
