"""The rules of prevention: from evidence and measures in force to measures that begin, change or end.

Read first:
    circuit_breaker.py   holds a deployment after consecutive failures and releases it after a successful probe
    flaky_hosts.py       compares failure rates of a host with those of other hosts
    transient_errors.py  adds retries for transient errors, and postpones runs out of an hour that keeps failing

Ports: none, rules are pure functions
Command: `prefect-intelligent prevent`
How-to: docs/how-to/prevent-failures.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prefect_intelligent.prevention.evidence import Evidence
from prefect_intelligent.prevention.measures import MeasureInForce
from prefect_intelligent.prevention.rules.bad_inputs import bad_input
from prefect_intelligent.prevention.rules.bad_releases import bad_release
from prefect_intelligent.prevention.rules.circuit_breaker import keeps_failing
from prefect_intelligent.prevention.rules.flaky_hosts import flaky_host
from prefect_intelligent.prevention.rules.hung_runs import hung_run
from prefect_intelligent.prevention.rules.out_of_memory import out_of_memory
from prefect_intelligent.prevention.rules.overload import overload
from prefect_intelligent.prevention.rules.stale_runs import stale_runs
from prefect_intelligent.prevention.rules.transient_errors import bad_hour, passing_trouble

PreventionRule = Callable[[Evidence, Mapping[str, MeasureInForce]], Iterator[MeasureInForce]]
"""From the evidence and the measures of all rules by key to the measures of this rule that begin, change or end."""

RULES: Final[Mapping[str, PreventionRule]] = {
    "hung-run": hung_run,
    "out-of-memory": out_of_memory,
    "flaky-host": flaky_host,
    "bad-release": bad_release,
    "bad-input": bad_input,
    "overload": overload,
    "passing-trouble": passing_trouble,
    "bad-hour": bad_hour,
    "stale-runs": stale_runs,
    "keeps-failing": keeps_failing,
}
"""All rules by name, in order of precedence: a failure that an earlier rule covers is ignored by later ones."""
