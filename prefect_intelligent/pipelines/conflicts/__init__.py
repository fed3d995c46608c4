"""Conflicts between deployments: one function per rule, from graph and inventory to findings with cost and fix.

Read first:
    findings.py     `Finding` and `Fix`, what rules return
    start_times.py  `Calendar`: when deployments start, scheduled or derived from an upstream schedule
    schedules.py    the rules about schedules, as an example of rules

Ports: none, rules are pure functions
Command: `prefect-intelligent graph check`
How-to: docs/how-to/find-conflicts.md
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final

from prefect_intelligent.errors import UnknownNameError
from prefect_intelligent.pipelines.conflicts.capacity import limit_too_low, over_capacity, overloaded, slot_deadlock
from prefect_intelligent.pipelines.conflicts.findings import Finding, Fix
from prefect_intelligent.pipelines.conflicts.schedules import duplicate_schedule, overlapping_writers, reads_too_early
from prefect_intelligent.pipelines.conflicts.schema_contracts import contract_break, parameter_break
from prefect_intelligent.pipelines.conflicts.start_times import Calendar
from prefect_intelligent.pipelines.conflicts.structure import (
    cycle,
    missing_producer,
    priority_inversion,
    two_writers,
)
from prefect_intelligent.pipelines.deployments import Inventory
from prefect_intelligent.pipelines.graph import Graph

ConflictRule = Callable[[Graph, Inventory, Calendar], Iterator[Finding]]

RULES: Final[Mapping[str, ConflictRule]] = {
    "cycle": cycle,
    "two-writers": two_writers,
    "missing-producer": missing_producer,
    "reads-too-early": reads_too_early,
    "overlapping-writers": overlapping_writers,
    "duplicate-schedule": duplicate_schedule,
    "slot-deadlock": slot_deadlock,
    "over-capacity": over_capacity,
    "limit-too-low": limit_too_low,
    "contract-break": contract_break,
    "parameter-break": parameter_break,
    "priority-inversion": priority_inversion,
}
"""All rules by id; the docstring of the function is the definition shown in the reference."""


def find_conflicts(graph: Graph, inventory: Inventory, ignore: Collection[str] = ()) -> list[Finding]:
    """Return all findings, the most expensive first, then by rule and subjects.

    Raises:
        UnknownNameError: `ignore` names a rule that does not exist.
    """
    for name in ignore:
        if name not in RULES:
            raise UnknownNameError("rule", name, RULES)
    calendar = Calendar(graph, inventory)
    found = [finding for rule in RULES if rule not in ignore for finding in RULES[rule](graph, inventory, calendar)]
    return sorted(found, key=lambda item: (-(item.cost_usd or 0.0), item.rule, item.subjects))


__all__ = ["RULES", "Calendar", "ConflictRule", "Finding", "Fix", "find_conflicts", "overloaded"]
