"""The shared kernel: queues, runs, terms, snapshots, plans and the one objective, as frozen values without I/O.

All instants are Unix seconds (UTC) as floats and end in `_s`; all money is in US dollars and ends in `_usd`. `None`
means unknown (for a limit: unlimited) and nothing else does.

Read first:
    snapshot.py   one work pool at one instant: its queues, runs, prices and shared resources
    plans.py      the settings wanted for a pool, and the changes that bring them into force
    objective.py  capacity cost + lateness cost + failure cost, the one definition

Ports: `clock.Clock`
Command: none, the features build on it
Explained in: docs/explanation/architecture.md
"""

from prefect_intelligent.domain.deadlines import ClockDeadline, Deadline, RelativeDeadline, parse_deadline
from prefect_intelligent.domain.deployments import Deployment
from prefect_intelligent.domain.objective import Cost, Prices, run_cost
from prefect_intelligent.domain.plans import Change, Plan, assign_priorities, diff
from prefect_intelligent.domain.queues import QueueSetting
from prefect_intelligent.domain.runs import Estimate, Run, RunPhase
from prefect_intelligent.domain.snapshot import PoolSetting, QueueState, Resource, Snapshot
from prefect_intelligent.domain.spans import parse_span
from prefect_intelligent.domain.terms import Terms

__all__ = [
    "Change",
    "ClockDeadline",
    "Cost",
    "Deadline",
    "Deployment",
    "Estimate",
    "Plan",
    "PoolSetting",
    "Prices",
    "QueueSetting",
    "QueueState",
    "RelativeDeadline",
    "Resource",
    "Run",
    "RunPhase",
    "Snapshot",
    "Terms",
    "assign_priorities",
    "diff",
    "parse_deadline",
    "parse_span",
    "run_cost",
]
