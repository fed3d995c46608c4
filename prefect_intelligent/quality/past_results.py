"""Results of the quality gate that were kept in the history, whichever version of the package wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.history.reading import read_each

KIND: Final = "quality"
"""Kind of these records; the pool of a record is the dataset's name."""

_OF_RESULT: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("run_id", "producer", "good", "quarantine", "after")),
    **dict.fromkeys(("verdict", "circuit"), "-"),
    **dict.fromkeys(("quarantined", "repaired"), 0),
    **dict.fromkeys(("steps", "log", "held", "unusual"), ()),
    "dataset": "?",
    "at_s": 0.0,
    "by_check": {},
    "dry_run": False,
}
_OF_VERIFICATION: Final[Mapping[str, Any]] = {"verdict": "-", "contract": "", "checks": (), "rows_tested": None}
_NUMBERS: Final = ("value", "rows_tested", "rows_failed")
_OF_CHECK: Final[Mapping[str, Any]] = {
    **dict.fromkeys((*_NUMBERS, "column", "threshold")),
    **dict.fromkeys(("name", "kind", "outcome", "severity"), "-"),
}


def past_results(
    history: HistoryStore, dataset: str | None = None, *, since_s: float | None = None, last: int | None = None
) -> list[dict[str, Any]]:
    """Results as `GateResult.to_record` writes them, oldest first.

    Fields that a result lacks have defaults; a result that cannot be read is left out.

    Args:
        history: Where they were kept.
        dataset: Of this one; None for all.
        since_s: From this instant on; None for all.
        last: Only so many of the newest; None for all.
    """
    return read_each(KIND, history.records(KIND, dataset, since_s, last=last), _read)


def _read(record: Mapping[str, Any]) -> dict[str, Any]:
    found = {**_OF_RESULT, **record, "outcome": str(record["outcome"])}
    found["at_s"] = float(found["at_s"])
    first = {**_OF_VERIFICATION, "started_s": found["at_s"], **found.get("first", {})}
    first["checks"] = [_read_check(check) for check in first["checks"]]
    return {**found, "first": first}


def _read_check(check: Mapping[str, Any]) -> dict[str, Any]:
    found = {**_OF_CHECK, **check, "id": str(check.get("id") or check["name"])}
    return found | {name: None if found[name] is None else float(found[name]) for name in _NUMBERS}
