"""Queue-limit rules: how many runs of a queue may be active at once.

Each is a pure function of one pool's census, at least 1 where it sets anything, `inf` for unlimited.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from prefect_intelligent.policy.backend import Table, rounded
from prefect_intelligent.policy.census import C
from prefect_intelligent.policy.rule_parameters import RuleNumbers


class Limits(IntEnum):
    """The queue-limit rules by number."""

    KEPT = 0
    SHARE = 1


LIMIT_RULES: Final[Mapping[str, Limits]] = MappingProxyType({"limits-kept": Limits.KEPT, "share": Limits.SHARE})
"""Every queue-limit rule by the name it has on the command line."""


def limit_of_queue(table: Table, queue: int, numbers: RuleNumbers) -> float:
    """The limit wanted by the rule that `numbers.limits` names."""
    if numbers.limits == Limits.SHARE:
        return resource_share(table, queue, numbers)
    return table[C.LIMIT][queue]


def resource_share(table: Table, queue: int, numbers: RuleNumbers) -> float:
    """A shared resource's capacity, split evenly among the queues that have runs waiting or active on it.

    max(1, round(share * capacity / queues)). Past its capacity a resource slows every run on it down, so that one more
    slot slows the others more than it adds; in trials this limit was worth more than any ordering. Queues without a
    resource keep their limit.
    """
    resource, waiting, active = table[C.RESOURCE], table[C.WAITING], table[C.ACTIVE]
    shared = resource[queue]
    if not shared > 0:
        return table[C.LIMIT][queue]
    sharing = 0
    for other in range(len(resource)):
        if resource[other] == shared and waiting[other] + active[other] > 0:
            sharing += 1
    capacity = table[C.RESOURCE_CAPACITY][queue]
    return max(1.0, rounded(numbers.resource_share * capacity / max(1, sharing)))
