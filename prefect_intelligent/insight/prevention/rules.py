"""The rules, in the order in which they may claim a failure: what has a name goes before what only keeps failing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prefect_intelligent.insight.prevention.circuits import keeps_failing
from prefect_intelligent.insight.prevention.hangs import hung_run
from prefect_intelligent.insight.prevention.hosts import flaky_host
from prefect_intelligent.insight.prevention.inputs import bad_input
from prefect_intelligent.insight.prevention.loads import overload
from prefect_intelligent.insight.prevention.measures import Standing
from prefect_intelligent.insight.prevention.memory import out_of_memory
from prefect_intelligent.insight.prevention.releases import bad_release
from prefect_intelligent.insight.prevention.times import bad_hour, passing_trouble
from prefect_intelligent.insight.prevention.watch import Watch

Rule = Callable[[Watch, Mapping[str, Standing]], Iterator[Standing]]
"""From what is known, and the measures of all rules by key, to those of this rule that begin, change or end."""

RULES: Final[Mapping[str, Rule]] = {
    "hung-run": hung_run,
    "out-of-memory": out_of_memory,
    "flaky-host": flaky_host,
    "bad-release": bad_release,
    "bad-input": bad_input,
    "overload": overload,
    "passing-trouble": passing_trouble,
    "bad-hour": bad_hour,
    "keeps-failing": keeps_failing,
}
"""Rule by name."""
