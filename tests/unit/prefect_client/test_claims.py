"""The pure parts of claims: how a share is divided, what is never sent, and routes of any name."""

import json
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prefect_intelligent.blocking.facts import DeploymentLimit
from prefect_intelligent.blocking.startable import blocked_runs, read_limit, slots_of
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.prefect_client.api import path
from prefect_intelligent.prefect_client.claims.limits import NO_LIMIT, is_ours
from prefect_intelligent.prefect_client.claims.records import Claim
from prefect_intelligent.prefect_client.claims.shares import Demand, parts_of
from prefect_intelligent.prefect_client.json_values import MOST, bounded, check_json
from prefect_intelligent.steering.adapters.live_runs import RunRecord

DEMANDS = st.lists(
    st.builds(
        Demand,
        active=st.integers(0, 5),
        waiting=st.integers(0, 9),
        limit=st.one_of(st.none(), st.integers(0, 6)),
    ),
    max_size=6,
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
)


@given(st.integers(0, 12), DEMANDS)
def test_a_share_is_divided_without_taking_from_who_runs(most, demands):
    parts = parts_of(most, demands)
    assert all(part >= one.active for part, one in zip(parts, demands, strict=True))
    assert sum(parts) <= max(most, sum(one.active for one in demands))
    for part, one in zip(parts, demands, strict=True):
        assert one.limit is None or part <= max(one.limit, one.active)
    if sum(parts) < most:  # nobody could take more
        assert all(one.limit is not None and part >= one.limit for part, one in zip(parts, demands, strict=True))


def test_who_waits_goes_before_who_does_not():
    idle, waits = Demand(active=0, waiting=0), Demand(active=0, waiting=3)
    assert parts_of(1, [idle, waits]) == [0, 1]
    assert parts_of(3, [idle, waits, waits]) == [0, 2, 1]
    assert parts_of(2, [idle, idle]) == [1, 1]


@given(JSON)
@example({"\x00": None})
def test_what_is_made_bounded_may_be_sent(value):
    check_json(bounded(value), "payload")
    json.dumps(bounded(value), allow_nan=False).encode()


@pytest.mark.parametrize("value", [1e20, -(2**60), float("nan"), {"a": [{"b": float("inf")}]}, "a\x00", {"\ud800": 1}])
def test_what_no_server_can_store_is_refused(value):
    with pytest.raises(InvalidInputError, match="variable"):
        check_json({"value": value}, "variable")


def test_what_a_server_can_store_is_left_as_it_is():
    value = {"a": [MOST, -1.5, True, None, "日", ""]}
    check_json(value, "variable")
    assert bounded(value) == value


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=4))
def test_a_route_leads_to_these_names_and_no_others(names):
    route = path(*names)
    assert route.isascii()
    assert not set(route) & set("?# ")
    segments = route.split("/")[1:]
    assert [unquote(segment) for segment in segments] == names
    assert not {".", ".."} & set(segments)


@pytest.mark.parametrize(
    ("kind", "amount"),
    [
        ("resize", 0.0),
        ("resize", 1e9),
        ("resize", float("nan")),
        ("share", -1),
        ("share", 2**40),
        ("share", 1.5),
        ("x", 1),
    ],
)
def test_a_claim_that_nobody_can_mean_is_refused(kind, amount):
    with pytest.raises(InvalidInputError):
        Claim(deployment="f/d", key="k", kind=kind, amount=amount)


def test_limits_of_ours_are_told_from_those_of_owners():
    assert not is_ours(None)
    assert not is_ours({"name": "deployment:1", "limit": 3})
    assert is_ours({"name": "prefect-intelligent-hold-1", "limit": NO_LIMIT})
    assert not is_ours({"name": "prefect-intelligent-hold-1", "limit": 3})  # an owner has deployed it
    assert is_ours({"name": "prefect-intelligent-hold", "limit": 1})


def run(key, deployment, next_s, expected_s=0.0, state="SCHEDULED"):
    return RunRecord(key, deployment, "queue", state, expected_s, next_s, None)


def test_beyond_the_limit_of_its_deployment_a_run_cannot_start():
    waiting = [run("a", "d", 3.0), run("b", "d", 1.0), run("c", "d", 2.0), run("free", "other", 0.0)]
    active = [run("r", "d", 0.0, state="RUNNING")]
    assert blocked_runs(waiting, active, {"d": 2}, 10.0) == {"a", "c"}
    assert blocked_runs(waiting, active, {"d": 0}, 10.0) == {"a", "b", "c"}
    later = run("later", "d", 50.0, expected_s=50.0)
    assert blocked_runs([later], active, {"d": 1}, 10.0) == set()  # its time has not come
    assert blocked_runs([later], active, {"d": 0}, 10.0) == {"later"}


def test_slots_that_others_take_do_not_count():
    assert slots_of(None, 0) is None
    assert slots_of(DeploymentLimit(limit=3, taken=1), 1) == 3
    assert slots_of(DeploymentLimit(limit=3, taken=2), 0) == 1
    assert slots_of(DeploymentLimit(limit=3, taken=2_000_000_000), 1) == 0
    found = read_limit({"global_concurrency_limit": {"limit": 3, "active_slots": 0, "active": False}})
    assert found == DeploymentLimit(limit=3, enabled=False)
    assert slots_of(found, 0) == 0
