"""Each rule on hand-made pools whose right answer is worked out beside it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.policy import PARAMETER_RANGES, Census, P, Q, RuleParameters, parse_policy
from prefect_intelligent.policy.priority_rules import rank


def queue(**columns: float) -> dict[Q, float]:
    """One present queue; a waiting run is both the head and the most urgent one."""
    row = {Q.PRESENT: 1.0, Q.LIMIT: math.inf, Q.RESOURCE_CAPACITY: math.inf, Q.NEXT_IN_S: math.inf}
    row |= {Q.HEAD_SLACK_S: math.inf, Q.URGENT_SLACK_S: math.inf, Q.DUE_IN_S: math.inf, Q.NEXT_SLACK_S: math.inf}
    given = {Q[name.upper()]: value for name, value in columns.items()}
    for head, urgent in ((Q.HEAD_USD_PER_HOUR, Q.URGENT_USD_PER_HOUR), (Q.HEAD_ESTIMATE_S, Q.URGENT_ESTIMATE_S)):
        if head in given:
            given.setdefault(urgent, given[head])
    if Q.HEAD_SLACK_S in given:
        given.setdefault(Q.URGENT_SLACK_S, given[Q.HEAD_SLACK_S])
    return row | given


def waiting(usd: float, p: float, slack: float = math.inf, count: int = 1, **columns: float) -> dict[Q, float]:
    """A queue with `count` equal runs waiting."""
    return queue(
        waiting=count,
        waiting_work_s=count * p,
        head_usd_per_hour=usd,
        head_estimate_s=p,
        head_slack_s=slack,
        due_in_s=slack + p,
        usd_per_hour=usd,
        estimate_s=p,
        **columns,
    )


def pool(*rows: dict[Q, float], limit: float = 4.0, **columns: float) -> Census:
    table = np.zeros((len(rows), len(Q)))
    for place, row in enumerate(rows):
        table[place, Q.RANK] = place
        for column, value in row.items():
            table[place, column] = value
    figures = np.zeros(len(P))
    figures[[P.LIMIT, P.SLOT_USD_PER_HOUR, P.LATENESS_WEIGHT, P.IDLE_FRACTION]] = limit, 0.1, 1.0, 1.0
    figures[P.ACTIVE] = table[:, Q.ACTIVE].sum()
    for name, value in columns.items():
        figures[P[name.upper()]] = value
    return Census(table, figures)


def first(name: str, census: Census) -> int:
    places = rank(parse_policy(name).propose(census).score, census)
    return int(places.argmin())


@pytest.mark.parametrize(
    ("name", "rows", "winner"),
    [
        ("edf", (waiting(1, 60, slack=600), waiting(1, 60, slack=300)), 1),
        ("edf", (waiting(1, 60), queue(upcoming=1, next_in_s=60, next_slack_s=100, estimate_s=60)), 1),
        ("llf", (waiting(1, 600, slack=50), waiting(1, 60, slack=100)), 0),  # due in 650 and 160: not EDF's choice
        ("edf", (waiting(1, 600, slack=50), waiting(1, 60, slack=100)), 1),
        ("sjf", (waiting(1, 600), waiting(1, 60)), 1),
        ("srpt", (waiting(1, 60, count=20), waiting(1, 600)), 1),  # 1200 s of work against 600 s
        ("wspt", (waiting(10, 600), waiting(2, 60)), 1),  # 10/600 = .017 against 2/60 = .033
        ("maxweight", (waiting(10, 600, count=3), waiting(2, 60)), 0),  # .05 against .033
        ("static", (waiting(1, 60), waiting(5, 6000)), 1),
        ("static", (waiting(1, 60), queue(usd_per_hour=5)), 1),  # empty now, still dear
        ("fifo", (waiting(1, 60, head_wait_s=5), waiting(1, 60, head_wait_s=9)), 1),
        # k * mean p = 2 * 60: 1/60 exp(-0) = .0167 against 10/60 exp(-600/120) = .0011
        ("atc", (waiting(1, 60, slack=0), waiting(10, 60, slack=600)), 0),
        ("atc", (waiting(1, 60, slack=0), waiting(10, 60, slack=60)), 1),  # 10/60 exp(-.5) = .10
        # k p = 120: 1/60 against 10/60 (1 - 60/120) = .083; beyond 120 s of slack it is 0
        ("covert", (waiting(1, 60, slack=0), waiting(10, 60, slack=60)), 1),
        ("covert", (waiting(1, 60, slack=0), waiting(10, 60, slack=130)), 0),
        # slots + 1 over weight: (3 + 1)/4 = 1 against (1 + 1)/1 = 2
        ("fair", (waiting(1, 60, active=1), waiting(4, 60, active=3)), 1),
        ("blend", (waiting(1, 60, slack=0), waiting(10, 60, slack=600)), 0),
    ],
)
def test_serves_first(name: str, rows: tuple[dict[Q, float], ...], winner: int) -> None:
    assert first(name, pool(*rows)) == winner


def test_an_urgent_run_behind_others_lifts_its_queue() -> None:
    relaxed_head = waiting(1, 60, slack=9000, count=3, urgent_slack_s=100, urgent_ahead_s=120, urgent_usd_per_hour=50)
    assert first("atc", pool(waiting(1, 60, slack=9000), relaxed_head)) == 1


def test_equal_scores_keep_the_order_in_force() -> None:
    census = pool(waiting(1, 60), waiting(1, 60), waiting(1, 60))
    census.queues[:, Q.RANK] = [2, 0, 1]
    assert rank(np.zeros(3), census).tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("name", "slots"),
    [
        ("edf", 4),  # the limit in force
        ("edf+fixed", 8),
        ("edf+fixed:3", 3),
        ("edf+reactive", 10),  # 4,800 s of work / 600 s + 2 active
        # slacks 1,200 and 14,400 -> horizon 7,200: 2,400/1,200 + 2,400/7,200 + 2 = 4.33
        ("edf+urgency", 5),
        # + .5 * 1,200 s scheduled / slack 600 = 1 more
        ("edf+lookahead", 6),
    ],
)
def test_capacity(name: str, slots: float) -> None:
    census = pool(
        waiting(1, 600, slack=3000, count=4, active=2, urgent_slack_s=1200),
        waiting(1, 2400, slack=14_400),
        queue(upcoming=2, upcoming_work_s=1200, next_in_s=200, next_slack_s=600),
    )
    assert parse_policy(name).propose(census).pool_limit == slots


def test_overdue_runs_want_slots_as_far_as_being_late_pays_for_one() -> None:
    parameters = RuleParameters(overdue_slots=1.0)
    late = {"slack": -60.0, "count": 4, "late": 4}
    for usd, slots in ((1.0, 4 + 4), (0.05, 4 + 2), (0.0, 4)):  # 4 * 600 s / 600 s, and 4 runs at 0.1 USD a slot
        census = pool(waiting(usd, 600, **late), slot_usd_per_hour=0.1)
        assert parse_policy("edf+lookahead", parameters).propose(census).pool_limit == slots


def test_doubt_lets_uncertain_work_count_for_more() -> None:
    census = pool(waiting(1, 600, slack=600, count=4, spread=math.log(2)))
    for doubt, slots in ((0.0, 4), (1.0, 8), (-1.0, 2)):  # 4 * 600 s / 600 s * exp(doubt * spread)
        found = parse_policy("edf+lookahead", RuleParameters(doubt=doubt)).propose(census).pool_limit
        assert found == slots


def test_capacity_ignores_queues_that_a_person_closed() -> None:
    census = pool(waiting(1, 600, count=9, paused=1), waiting(1, 600, count=9, limit=0), waiting(1, 600))
    assert parse_policy("edf+reactive").propose(census).pool_limit == 1


def test_capacity_buys_no_more_than_a_shared_resource_takes() -> None:
    census = pool(waiting(1, 600, count=9, resource=1, resource_capacity=3))
    assert parse_policy("edf+reactive").propose(census).pool_limit == 3


def test_dial_raises_capacity_by_its_exponent() -> None:
    parameters = RuleParameters(dial_exponent=0.5)
    census = pool(waiting(1, 600, count=4), lateness_weight=4.0)
    assert parse_policy("edf+reactive", parameters).propose(census).pool_limit == 8  # 4 * sqrt(4)


def test_resource_is_shared_among_the_queues_that_use_it_now() -> None:
    on_it = {"resource": 1, "resource_capacity": 7}
    census = pool(
        waiting(1, 60, **on_it), waiting(1, 60, **on_it), queue(**on_it), waiting(1, 60, limit=5), queue(active=1)
    )
    wanted = parse_policy("edf+share").propose(census).limit
    assert wanted.tolist() == [4, 4, 4, 5, math.inf]  # 7 / 2 queues with runs, rounded; the rest as it was


@pytest.mark.parametrize("name", ["edff", "edf+reactiv", "", "edf+edf", "+reactive"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(UnknownNameError):
        parse_policy(name)


@pytest.mark.parametrize(
    "name", ["edf+reactive+fixed", "edf+share+share", "edf+fixed:0", "edf+fixed:x", "edf+reactive:3"]
)
def test_unusable_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_policy(name)


@pytest.mark.parametrize("name", ["edf", "atc+reactive", "edf+fixed:12", "atc+lookahead+share", "prefect-default"])
def test_name_reads_back(name: str) -> None:
    assert parse_policy(name).name == name


def test_parameters_are_checked_and_read_back() -> None:
    parameters = RuleParameters(atc_k=3.0, drain_s=120.0)
    assert RuleParameters.from_dict(parameters.to_dict()) == parameters
    names = tuple(PARAMETER_RANGES)
    restored = RuleParameters.from_vector(names, parameters.to_vector(names))
    assert restored.to_dict() == pytest.approx(parameters.to_dict())
    with pytest.raises(InvalidInputError):
        RuleParameters(atc_k=-1.0)
    with pytest.raises(UnknownNameError):
        RuleParameters.from_dict({"atc": 1.0})


@pytest.mark.parametrize("name", ["edf+reactive", "edf+urgency", "edf+lookahead", "general"])
def test_where_idle_slots_cost_nothing_no_limit_is_lowered(name: str) -> None:
    quiet = [waiting(1.0, 60.0)]
    assert parse_policy(name).propose(pool(*quiet, limit=9.0)).pool_limit < 9
    assert parse_policy(name).propose(pool(*quiet, limit=9.0, idle_fraction=0.0)).pool_limit == 9
