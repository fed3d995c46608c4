"""The general rule: what a controller follows without a setting, and what the shipped policy corrects.

`python -m rl.tune` searched its parameters over the days of training (a family of clusters, scenarios, days like batch
logs). Its figures as served, beside those of the untuned rules, are in docs/reference/shipped-policy.md.
"""

from __future__ import annotations

from typing import Final

from prefect_intelligent.policy.rule_parameters import RuleParameters

NAME: Final = "general"
"""Its name as a policy."""
PRIORITY: Final = "blend"
CAPACITY: Final = "lookahead"
LIMITS: Final = "share"
PARAMETERS: Final = RuleParameters(
    atc_k=0.4108534032439877,
    value_exponent=2.4550608222854025,
    duration_exponent=1.9928457130656354,
    backlog_exponent=0.7826184930966344,
    drain_s=32.14631293276515,
    busy_fraction=0.9092442294603182,
    slack_horizon_s=25967.707802428748,
    look_ahead=0.30828836768131584,
    lead_s=168.17543744143305,
    overdue_slots=1.8868066615929524,
    doubt=0.996147970867481,
    resource_share=0.831093083212469,
    dial_exponent=0.22189194303989246,
    slots=8.0,
)
