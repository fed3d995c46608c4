"""Policies: from a census of a pool to the settings wanted, and the guard that turns those into permitted ones.

Read first:
    census.py          the figures of each queue and of the pool that every policy reads
    priority_rules.py  the rules that order queues: FIFO, EDF, ATC, ...; capacity_rules and limit_rules beside it
    guard.py           bounds, step size, starvation, work conservation, pins, fallback

Ports: `base.Policy`
Command: none, steering, replay and training call it
Explained in: docs/explanation/control-loop.md
"""

from prefect_intelligent.policy.base import Policy, Proposal, to_plan
from prefect_intelligent.policy.census import Census, P, Q, stack, take_census
from prefect_intelligent.policy.guard import Permitted, permit
from prefect_intelligent.policy.guard_state import GuardSettings, GuardState, Note, sentences
from prefect_intelligent.policy.rule_parameters import PARAMETER_RANGES, RuleParameters
from prefect_intelligent.policy.rule_policy import RULE_NAMES, RulePolicy, parse_policy

__all__ = [
    "PARAMETER_RANGES",
    "RULE_NAMES",
    "Census",
    "GuardSettings",
    "GuardState",
    "Note",
    "P",
    "Permitted",
    "Policy",
    "Proposal",
    "Q",
    "RuleParameters",
    "RulePolicy",
    "parse_policy",
    "permit",
    "sentences",
    "stack",
    "take_census",
    "to_plan",
]
