"""Rule policies: a priority rule, a capacity rule and a queue-limit rule combined, and their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Final

import numpy as np

from prefect_intelligent.domain.queues import MAX_PRIORITY
from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.policy import general_rule
from prefect_intelligent.policy.backend import Column, Table, Values, columns, rows, run_batch
from prefect_intelligent.policy.base import Proposal
from prefect_intelligent.policy.capacity_rules import CAPACITY_RULES, slots_of_pool
from prefect_intelligent.policy.census import C, Census
from prefect_intelligent.policy.limit_rules import LIMIT_RULES, limit_of_queue
from prefect_intelligent.policy.priority_rules import PRIORITY_RULES, mean_estimate_s, score_queue
from prefect_intelligent.policy.rule_parameters import RuleNumbers, RuleParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class RulePolicy:
    """A policy made of three rules that share one set of parameters.

    Attributes:
        priority: Name in `PRIORITY_RULES`.
        capacity: Name in `CAPACITY_RULES`; "keep" leaves the pool limit alone.
        limits: Name in `LIMIT_RULES`; "limits-kept" leaves the queue limits alone.
        parameters: Parameters of the three rules.
        label: Name to show instead of the composed one, e.g. "tuned".
    """

    priority: str
    capacity: str = "keep"
    limits: str = "limits-kept"
    parameters: RuleParameters = field(default_factory=RuleParameters)
    label: str | None = None

    def __post_init__(self) -> None:
        for kind, name, known in (
            ("priority rule", self.priority, PRIORITY_RULES),
            ("capacity rule", self.capacity, CAPACITY_RULES),
            ("queue-limit rule", self.limits, LIMIT_RULES),
        ):
            if name not in known:
                raise UnknownNameError(kind, name, known)

    @property
    def name(self) -> str:
        """The label, or the names of the rules that do anything, joined by "+"."""
        if self.label is not None:
            return self.label
        capacity = f"fixed:{self.parameters.slots:g}" if self.capacity == "fixed" else self.capacity
        parts = [self.priority]
        if self.capacity != "keep":
            parts.append(capacity)
        if self.limits != "limits-kept":
            parts.append(self.limits)
        return "+".join(parts)

    @property
    def numbers(self) -> RuleNumbers:
        """The policy as numbers, the form that the functions of the rules take."""
        return _numbers(self)

    def propose(self, census: Census) -> Proposal:
        """The settings that the three rules want; absent queues get score 0 and limit 0."""
        shape = census.queues.shape[:-1]
        score, limit, pool_limit = np.empty(shape), np.empty(shape), np.empty(shape[:-1])
        run_batch(
            propose_pools,
            rows(census.queues, census.queues.shape, 2),
            rows(census.pool, census.pool.shape, 1),
            self.numbers,
            into=(rows(score, shape, 1), rows(limit, shape, 1), rows(pool_limit, shape[:-1], 0)),
        )
        return Proposal(score, limit, pool_limit)


@lru_cache(maxsize=256)
def _numbers(policy: RulePolicy) -> RuleNumbers:
    return RuleNumbers(
        priority=int(PRIORITY_RULES[policy.priority]),
        capacity=int(CAPACITY_RULES[policy.capacity]),
        limits=int(LIMIT_RULES[policy.limits]),
        **{name: float(value) for name, value in asdict(policy.parameters).items()},
    )


def propose_pool(table: Table, pool: Column, numbers: RuleNumbers, score: Values, limit: Values) -> float:
    """Write a score and a limit for each queue of a pool and return the pool limit."""
    mean_s = mean_estimate_s(table)
    for queue in range(len(score)):
        score[queue] = limit[queue] = 0.0
        if table[C.PRESENT][queue] > 0:
            score[queue] = score_queue(table, queue, mean_s, numbers)
            limit[queue] = limit_of_queue(table, queue, numbers)
    return slots_of_pool(table, pool, numbers)


def propose_pools(
    queues: Sequence[Sequence[Column]],
    figures: Sequence[Column],
    numbers: RuleNumbers,
    scores: Sequence[Values],
    limits: Sequence[Values],
    pool_limits: Values,
) -> None:
    """`propose_pool` for every pool of a batch."""
    for row in range(len(queues)):
        pool_limits[row] = propose_pool(columns(queues[row]), figures[row], numbers, scores[row], limits[row])


GENERAL: Final = RulePolicy(
    priority=general_rule.PRIORITY,
    capacity=general_rule.CAPACITY,
    limits=general_rule.LIMITS,
    parameters=general_rule.PARAMETERS,
    label=general_rule.NAME,
)
"""The rule of that name, see `general_rule`."""
RULE_NAMES: Final[tuple[str, ...]] = (
    general_rule.NAME,
    *PRIORITY_RULES,
    *(f"{priority}+{capacity}" for priority in ("edf", "atc") for capacity in CAPACITY_RULES if capacity != "keep"),
    "edf+reactive+share",
    "atc+urgency+share",
    "atc+lookahead+share",
)
"""Names worth offering on a command line. Any priority rule combines with any capacity rule and with "share"."""


def parse_policy(text: str, parameters: RuleParameters | None = None) -> RulePolicy:
    """The rule policy of a name such as "general", "edf", "atc+reactive", "edf+fixed:12" or "atc+lookahead+share".

    Args:
        text: "general", or a priority rule, then, in any order, at most one capacity rule and one queue-limit rule.
        parameters: Parameters of the rules; defaults if None.

    Raises:
        UnknownNameError: A part of the name is no rule.
        InvalidInputError: There are two rules of one kind, or the number of slots is not a whole number above 0.
    """
    if text.strip().lower() == general_rule.NAME:
        return GENERAL
    first, *rest = text.strip().lower().split("+")
    if first not in PRIORITY_RULES:
        raise UnknownNameError("policy", text, RULE_NAMES)
    policy = RulePolicy(priority=first, parameters=parameters or RuleParameters())
    return _with_parts(policy, rest, text)


def _with_parts(policy: RulePolicy, parts: Sequence[str], text: str) -> RulePolicy:
    """`policy` with the capacity and queue-limit rules named by `parts`."""
    for part in parts:
        name, _, number = part.partition(":")
        if name in CAPACITY_RULES and policy.capacity == "keep":
            policy = replace(policy, capacity=name)
            if number:
                if name != "fixed":
                    raise InvalidInputError("policy", text, "only 'fixed' takes a number, e.g. 'edf+fixed:12'")
                policy = replace(policy, parameters=replace(policy.parameters, slots=_whole(number, text)))
        elif part in LIMIT_RULES and policy.limits == "limits-kept":
            policy = replace(policy, limits=part)
        elif name in CAPACITY_RULES or part in LIMIT_RULES:
            raise InvalidInputError("policy", text, "name at most one capacity rule and one queue-limit rule")
        else:
            raise UnknownNameError("capacity or queue-limit rule", part, (*CAPACITY_RULES, *LIMIT_RULES))
    return policy


def _whole(number: str, text: str) -> float:
    """The number of slots in the name."""
    if not number.isdecimal() or not 1 <= int(number) <= MAX_PRIORITY:
        raise InvalidInputError(
            "policy", text, f"the number of slots must be whole and at least 1, at most {MAX_PRIORITY}"
        )
    return float(int(number))
