"""Policies: from a census of the queues to a proposal, and the guard that turns proposals into permitted plans."""

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
