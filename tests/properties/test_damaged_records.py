"""Whatever stands in a record, a controller steers on: what cannot be read is left out."""

import copy
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_intelligent.analytics.alert_events import open_alerts
from prefect_intelligent.analytics.frames import decision_frame, quality_frame
from prefect_intelligent.domain import QueueSetting
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.history.reading import read_latest
from prefect_intelligent.local.spool import Entry
from prefect_intelligent.pipelines.rollout.transactions import Transactions
from prefect_intelligent.pipelines.rollout.version_store import VersionStore
from prefect_intelligent.policy import parse_policy
from prefect_intelligent.policy.guard_state import GuardSettings
from prefect_intelligent.prevention.engine import read_measures
from prefect_intelligent.recommendations.apply import last_applied
from prefect_intelligent.steering.controller_state import request_release
from prefect_intelligent.steering.decide import ControllerConfig
from prefect_intelligent.steering.decision_record import KIND as DECISION
from prefect_intelligent.steering.decision_record import read_decision
from prefect_intelligent.steering.dedicated_queues import undo_adoption
from prefect_intelligent.steering.kill_switch import read_switch, set_switch
from prefect_intelligent.steering.reconcile import reconcile
from prefect_intelligent.steering.restore import restore
from prefect_intelligent.testing.clock import ManualClock
from prefect_intelligent.testing.history import InMemoryHistory
from prefect_intelligent.testing.orchestrator import InMemoryOrchestrator
from prefect_intelligent.testing.pipelines import FakePipelineServer
from prefect_intelligent.tracking.metrics import deciding_policy, record_datasets, record_metrics, stream_name
from tests.stored_state import fixture_records

RULE = parse_policy("edf")
CHARTER = ControllerConfig(policy=RULE, rule=RULE, guard=GuardSettings(interval_s=0.0, hysteresis=0.0))
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=3),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)  # fmt: skip
RECORDS = fixture_records()
"""(kind, pool, at_s, record) of the history that commit d3fb4ea wrote."""


def places(value, path=()):
    """Paths to everything in a record."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


@st.composite
def damaged(draw, record):
    """The record with one thing taken out, put in, or replaced."""
    path = draw(st.sampled_from([path for path in places(record) if path]))
    made = copy.deepcopy(record)
    at = made
    for key in path[:-1]:
        at = at[key]
    how = draw(st.sampled_from(("without", "junk", "more")))
    if how == "without":
        del at[path[-1]]
    elif how == "junk":
        at[path[-1]] = draw(JUNK)
    elif isinstance(at, dict):
        at["field of a newer version"] = draw(JUNK)
    else:
        at.append(draw(JUNK))
    return made


def history_of(pool, at, record):
    """What d3fb4ea has kept of the pool (and of what belongs to no pool), with another record in one place."""
    history = InMemoryHistory()
    for number, (kind, owner, at_s, kept) in enumerate(RECORDS):
        if owner in (pool, "pipelines", "ds/main/t"):
            history.append(kind, owner, at_s, record if number == at else kept)
    return history


def pool_of(name):
    queues = [QueueSetting(name=n, priority=p) for n, p in (("bulk", 10), ("default", 40), ("gold", 3), ("ml", 1))]
    pool = InMemoryOrchestrator(queues, pool=name)
    pool.edit_pool(lambda setting: replace(setting, limit=4))
    return pool


@pytest.mark.parametrize("kind", sorted({kind for kind, *_ in RECORDS}))
@settings(max_examples=10)
@given(data=st.data())
def test_a_damaged_record_ends_nothing(kind, data):
    number = data.draw(st.sampled_from([number for number, row in enumerate(RECORDS) if row[0] == kind]))
    _, owner, _, record = RECORDS[number]
    name = owner if owner in ("warehouse", "lake", "mill") else "warehouse"
    history = history_of(name, number, data.draw(damaged(record)))
    pool = pool_of(name)
    set_switch(history, name, "on", pool.clock.now_s(), "me")
    reconcile(pool, history, pool.clock, CHARTER)
    request_release(history, name, ["ml"], pool.clock.now_s())
    reconcile(pool, history, pool.clock, CHARTER)
    read_latest(history, DECISION, name, read_decision)
    decision_frame(history), quality_frame(history)
    read_measures(history, name), open_alerts(history, name)
    try:
        last_applied(name, history)
    except InvalidInputError:
        assert name != "mill" or kind == "recommendation-applied"
    transactions = Transactions(FakePipelineServer(), history, ManualClock())
    transactions.intents()
    transactions.recover()
    versions = VersionStore(history, None, ManualClock())
    versions.all(), versions.tags()
    undo_adoption(pool, history, pool.clock)
    restore(pool, history, pool.clock, by="me")
    entry = Entry(id="e", at_s=0.0, kind=kind, record=json.loads(json.dumps(record)))
    record_metrics(entry), record_datasets(entry), stream_name(entry), deciding_policy(entry)


@pytest.mark.parametrize("record", [{}, {"position": "sideways"}, {"position": None}])
def test_a_switch_that_cannot_be_read_is_off(record):
    history = InMemoryHistory()
    history.append("switch", "pool", 0.0, {"position": "on"})
    history.append("switch", "pool", 0.0, record)
    assert read_switch(history, "pool") == "off"
    set_switch(history, "pool", "on", 0.0, "me")
    assert read_switch(history, "pool") == "on"
