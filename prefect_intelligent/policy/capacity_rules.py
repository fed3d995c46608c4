"""CapacityRule rules: how many slots the pool should have.

Each is a pure function of one pool's census, at least 1, `inf` for unlimited. They have no state: cooldown, step size
and hysteresis are the guard's. Work that may not be served (queues that a person has paused or set to limit 0) needs no
capacity, and a queue on a shared resource needs no more than that resource's capacity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from prefect_intelligent.policy.backend import Column, Table, ceiling, rounded, within
from prefect_intelligent.policy.census import C, P
from prefect_intelligent.policy.priority_rules import most_urgent
from prefect_intelligent.policy.rule_parameters import RuleNumbers


class CapacityRule(IntEnum):
    """The capacity rules by number."""

    KEEP = 0
    FIXED = 1
    REACTIVE = 2
    URGENCY = 3
    LOOK_AHEAD = 4


CAPACITY_RULES: Final[Mapping[str, CapacityRule]] = MappingProxyType(
    {
        "keep": CapacityRule.KEEP,
        "fixed": CapacityRule.FIXED,
        "reactive": CapacityRule.REACTIVE,
        "urgency": CapacityRule.URGENCY,
        "lookahead": CapacityRule.LOOK_AHEAD,
    }
)
"""Every capacity rule by the name it has on the command line."""
_MOST_SPREAD: Final = 4.0
"""Log standard deviations beyond this count as this."""


def slots_of_pool(table: Table, pool: Column, numbers: RuleNumbers) -> float:
    """The slots wanted by the rule that `numbers.capacity` names.

    Where an idle slot costs nothing (serverless, processes on a machine of one's own) there is nothing to save: the
    rules that follow demand never lower the limit.
    """
    rule = numbers.capacity
    if rule == CapacityRule.KEEP:
        return pool[P.LIMIT]
    if rule == CapacityRule.FIXED:
        return max(1.0, rounded(numbers.slots))
    demand = 0.0
    for queue in range(len(table[C.PRESENT])):
        if table[C.PRESENT][queue] > 0 and table[C.PAUSED][queue] == 0 and table[C.LIMIT][queue] > 0:
            if rule == CapacityRule.REACTIVE:
                wanted = reactive(table, queue, numbers)
            elif rule == CapacityRule.URGENCY:
                wanted = urgency(table, queue, numbers)
            else:
                wanted = look_ahead(table, queue, pool, numbers)
            demand += min(wanted, table[C.RESOURCE_CAPACITY][queue])
    dial = max(1e-3, pool[P.LATENESS_WEIGHT]) ** numbers.dial_exponent
    wanted = max(1.0, ceiling(demand * dial + numbers.busy_fraction * pool[P.ACTIVE] - 1e-9))
    return max(wanted, pool[P.LIMIT]) if pool[P.IDLE_FRACTION] <= 0.0 else wanted


def reactive(table: Table, queue: int, numbers: RuleNumbers) -> float:
    """Enough to start the waiting work within `drain_s`, as KEDA and the HPA scale on backlog per replica.

    ceil(waiting work / drain + busy_fraction * active), summed over the queues.
    """
    return table[C.WAITING_WORK_S][queue] / numbers.drain_s


def urgency(table: Table, queue: int, numbers: RuleNumbers) -> float:
    """Reactive, but a queue's work counts over the slack it has: work / clip(slack, drain, horizon).

    Work that is due soon needs slots now, work with slack does not (a fluid form of the real-time demand bound; Baruah
    1990).
    """
    if table[C.WAITING_WORK_S][queue] == 0:
        return 0.0
    horizon_s = max(numbers.drain_s, numbers.slack_horizon_s)
    return table[C.WAITING_WORK_S][queue] / within(most_urgent(table, queue).slack_s, numbers.drain_s, horizon_s)


def look_ahead(table: Table, queue: int, pool: Column, numbers: RuleNumbers) -> float:
    """Urgency-weighted, plus the runs that Prefect has already scheduled to start within `lead_s`.

    Adds look_ahead * upcoming work / clip(slack of the next run, drain, horizon) where the next run is that near. Work
    of uncertain length counts exp(doubt * spread) times, since estimates are medians and long runs hold their slots.
    Each overdue run adds overdue_slots slots, or the share of that by which its lateness pays for a slot.
    """
    wanted = urgency(table, queue, numbers)
    if table[C.NEXT_IN_S][queue] <= numbers.lead_s:
        horizon_s = max(numbers.drain_s, numbers.slack_horizon_s)
        slack_s = within(table[C.NEXT_SLACK_S][queue], numbers.drain_s, horizon_s)
        wanted += numbers.look_ahead * table[C.UPCOMING_WORK_S][queue] / slack_s
    if numbers.doubt != 0.0:
        wanted *= math.exp(numbers.doubt * within(table[C.SPREAD][queue], 0.0, _MOST_SPREAD))
    if numbers.overdue_slots > 0.0:
        late_usd = table[C.USD_PER_HOUR][queue] * pool[P.LATENESS_WEIGHT]
        pays = within(late_usd / max(pool[P.SLOT_USD_PER_HOUR], 1e-6), 0.0, 1.0)
        wanted += numbers.overdue_slots * pays * table[C.LATE][queue]
    return wanted
