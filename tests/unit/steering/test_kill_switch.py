"""Who may write to a pool, and what is kept of it on the server."""

import json
import math
from dataclasses import replace

import pytest

from prefect_intelligent.domain import Deployment, PoolSetting, QueueSetting
from prefect_intelligent.errors import OrchestratorUnavailableError
from prefect_intelligent.policy import parse_policy
from prefect_intelligent.steering.baseline import KIND as BASELINE
from prefect_intelligent.steering.baseline import (
    mark_restored,
    read_baseline,
    record_edits,
    record_reverted_edits,
    save_baseline,
)
from prefect_intelligent.steering.decide import ControllerConfig, LimitBounds
from prefect_intelligent.steering.dedicated_queues import adopt, plan_adoption
from prefect_intelligent.steering.kill_switch import (
    read_switch,
    set_if_unset,
    set_switch,
    unset_unless_off,
    who_steers,
)
from prefect_intelligent.steering.manual_overrides import values_of
from prefect_intelligent.steering.pool_records import PoolRecords
from prefect_intelligent.steering.reconcile import reconcile
from prefect_intelligent.steering.restore import plan_restoration, restore
from prefect_intelligent.testing.history import InMemoryHistory
from prefect_intelligent.testing.orchestrator import InMemoryOrchestrator
from prefect_intelligent.wiring.pool_records import settings_given

FIXED = parse_policy("fifo+fixed:1")


class Server:
    """Notes of a pool in memory."""

    def __init__(self):
        self.notes, self.down = {}, False

    def read(self, name):
        self._check()
        return self.notes.get(name)

    def write(self, name, note):
        self._check()
        self.notes[name] = json.loads(json.dumps(note))

    def _check(self):
        if self.down:
            raise OrchestratorUnavailableError("503")


def records(server, history=None):
    return PoolRecords(history or InMemoryHistory(), server, "pool")


def make_pool():
    return InMemoryOrchestrator([QueueSetting(name="a", priority=10)], pool=PoolSetting(name="pool", limit=4))


def decide(pool, history, **more):
    pool.clock.sleep(1000.0)
    return reconcile(pool, history, pool.clock, ControllerConfig(policy=FIXED, rule=FIXED, **more))


def test_a_pool_that_nobody_has_switched_on_is_observed_and_not_touched():
    pool, history = make_pool(), records(Server())
    before = values_of(*pool.settings())
    assert decide(pool, history).outcome == "off"
    assert decide(pool, history, mode="shadow").outcome == "recorded"
    assert values_of(*pool.settings()) == before
    set_switch(history, "pool", "on", 0.0, "me")
    assert decide(pool, history).outcome == "applied"


def test_a_start_in_auto_turns_on_what_is_unset_and_not_what_is_off():
    history = records(Server())
    set_if_unset(history, "pool", "on", 0.0, "me")
    assert read_switch(history, "pool") == "on"
    set_switch(history, "pool", "off", 0.0, "me")
    set_if_unset(history, "pool", "on", 0.0, "me")
    assert read_switch(history, "pool") == "off"


def test_putting_back_ends_on_and_leaves_off():
    history = records(Server())
    set_switch(history, "pool", "on", 0.0, "me")
    unset_unless_off(history, "pool", 0.0, "me")
    assert read_switch(history, "pool") == "unset"
    set_switch(history, "pool", "off", 0.0, "me")
    unset_unless_off(history, "pool", 0.0, "me")
    assert read_switch(history, "pool") == "off"


def test_the_switch_is_the_servers_whatever_a_history_says():
    server, mine = Server(), InMemoryHistory()
    set_switch(records(server, mine), "pool", "on", 0.0, "me")
    assert read_switch(records(server), "pool") == "on"
    assert mine.latest("switch", "pool")["position"] == "on"
    assert read_switch(records(Server(), mine), "pool") == "unset"


@pytest.mark.parametrize(("position", "means"), [("on", "unset"), ("restored", "unset"), ("off", "off"), (7, "off")])
def test_a_switch_of_an_earlier_version_counts_only_where_it_forbids(position, means):
    history = InMemoryHistory()
    history.append("switch", "pool", 0.0, {"position": position})
    assert read_switch(records(Server(), history), "pool") == means


@pytest.mark.parametrize("note", [{}, {"position": "sideways"}, {"position": None}])
def test_a_switch_on_the_server_that_cannot_be_read_is_off(note):
    server = Server()
    server.notes["switch"] = note
    assert read_switch(records(server), "pool") == "off"


def test_a_lost_history_loses_no_original():
    pool, server = make_pool(), Server()
    before = values_of(*pool.settings())
    set_switch(records(server), "pool", "on", 0.0, "me")
    assert decide(pool, records(server)).outcome == "applied"
    lost = records(server)
    assert {change.after for change in plan_restoration(pool, lost).changes} == {4}
    restore(pool, lost, pool.clock, by="me")
    assert values_of(*pool.settings()) == before
    assert server.notes[BASELINE] == {"records": []}
    assert read_baseline(records(server), "pool") == {}


def test_a_lost_history_goes_on_from_what_the_server_knows():
    server, first = Server(), {(None, "limit"): 4, ("a", "limit"): None, ("a", "priority"): 10}
    save_baseline(records(server), "pool", first, [(None, "limit")], 0.0)
    later = records(server, InMemoryHistory())
    record_edits(later, "pool", {("a", "limit"): 3}, 1.0, again=False)
    save_baseline(later, "pool", {(None, "limit"): 1, ("a", "limit"): 1}, [(None, "limit")], 2.0)
    wanted = first | {("a", "limit"): 3}
    assert read_baseline(later, "pool") == wanted
    assert read_baseline(records(server), "pool") == wanted


def test_the_settings_given_are_those_without_what_steering_has_changed():
    pool, history = make_pool(), records(Server())
    before = pool.settings()
    set_switch(history, "pool", "on", 0.0, "me")
    assert decide(pool, history).outcome == "applied"
    assert pool.settings() != before
    assert settings_given(history, *pool.settings()) == before
    pool.edit("a", lambda queue: replace(queue, limit=3))
    decide(pool, history)
    given = settings_given(history, *pool.settings())
    assert (given[0].limit, given[1][0].limit) == (4, 3)


@pytest.mark.parametrize(
    ("bounds", "given", "found"),
    [
        (LimitBounds(), 4, (1.0, 4.0)),
        (LimitBounds(), None, (1.0, math.inf)),
        (LimitBounds(least=2, most=9), 4, (2.0, 9.0)),
        (LimitBounds(least=6), 4, (6.0, 6.0)),
    ],
)
def test_a_pool_gets_no_more_than_it_was_given_unless_a_bound_says_so(bounds, given, found):
    assert bounds.of_pool(given) == found


def test_what_a_person_has_set_and_taken_back_is_known_without_the_history():
    server, first = Server(), {(None, "limit"): 4, ("a", "limit"): None, ("a", "priority"): 10}

    def anew():
        return records(server)

    save_baseline(anew(), "pool", first, [(None, "limit")], 0.0)
    record_edits(anew(), "pool", {("a", "limit"): 3}, 1.0, again=False)
    record_edits(anew(), "pool", {("a", "limit"): 7, ("a", "priority"): 2}, 2.0, again=False)
    assert read_baseline(anew(), "pool") == first | {("a", "limit"): 7, ("a", "priority"): 2}
    record_reverted_edits(anew(), "pool", {("a", "limit"): 7}, 3.0)
    assert read_baseline(anew(), "pool") == first | {("a", "limit"): 3, ("a", "priority"): 2}
    record_reverted_edits(anew(), "pool", {("a", "limit"): 3, ("a", "priority"): 2}, 4.0)
    assert read_baseline(anew(), "pool") == first


def test_two_machines_with_histories_of_their_own_go_back_to_the_same():
    pool, server = make_pool(), Server()
    before = values_of(*pool.settings())
    one, two = InMemoryHistory(), InMemoryHistory()
    set_switch(records(server, one), "pool", "on", 0.0, "me")
    assert decide(pool, records(server, one)).outcome == "applied"
    decide(pool, records(server, two), pool_bounds=LimitBounds(least=2))
    assert read_baseline(records(server, two), "pool") == before
    restore(pool, records(server, two), pool.clock, by="me")
    assert values_of(*pool.settings()) == before
    assert not plan_restoration(pool, records(server, one)).touched


def test_a_lost_history_loses_no_adoption():
    pool, server = make_pool(), Server()
    pool.deploy(Deployment(name="etl/nightly", queue="a"))
    before = pool.settings()
    adopt(pool, records(server), pool.clock, plan_adoption(pool.deployments(), pool.settings()[1], "deployment"))
    assert pool.deployments()[0].queue == "pi-etl-nightly"
    restore(pool, records(server), pool.clock, by="me")
    assert pool.deployments()[0].queue == "a"
    assert pool.settings() == before


def refuse(*_):
    raise OrchestratorUnavailableError("503")


def test_nothing_is_written_to_the_pool_while_its_originals_cannot_be_kept():
    pool, server, history = make_pool(), Server(), InMemoryHistory()
    set_switch(history, "pool", "on", 0.0, "me")

    class Torn(PoolRecords):
        def latest(self, kind, pool):
            return history.latest(kind, pool)

    torn = Torn(history, server, "pool")
    before = values_of(*pool.settings())
    server.write = refuse
    with pytest.raises(OrchestratorUnavailableError):
        decide(pool, torn)
    assert values_of(*pool.settings()) == before
    assert history.records(BASELINE, "pool") == []


def test_records_of_another_pool_are_the_historys_alone():
    server, history = Server(), InMemoryHistory()
    mine = records(server, history)
    set_switch(mine, "other", "on", 0.0, "me")
    save_baseline(mine, "other", {(None, "limit"): 4}, [(None, "limit")], 0.0)
    assert server.notes == {}
    assert read_switch(mine, "other") == "on"


@pytest.mark.parametrize(
    ("position", "led", "says"),
    [
        ("on", True, "a controller steers it"),
        ("on", False, "hooks of decorated flows"),
        ("off", True, "nobody steers: it is switched off"),
        ("unset", False, "nobody steers: steering is not switched on"),
        ("unset", True, "a controller leads and only watches"),
    ],
)
def test_who_steers_is_said_in_one_sentence(position, led, says):
    assert says in who_steers(position, led=led)


def test_what_a_history_of_before_says_goes_to_the_server_with_the_first_write():
    server, old = Server(), InMemoryHistory()
    save_baseline(old, "pool", {(None, "limit"): 9}, [(None, "limit")], 0.0)
    mark_restored(old, "pool", 1.0)
    save_baseline(old, "pool", {(None, "limit"): 4}, [(None, "limit")], 2.0)
    assert read_baseline(records(server, old), "pool") == {(None, "limit"): 4}
    record_edits(records(server, old), "pool", {(None, "limit"): 5}, 3.0, again=False)
    assert read_baseline(records(server), "pool") == {(None, "limit"): 5}
    assert [record["what"] for record in server.notes[BASELINE]["records"]] == ["saved", "edited"]
