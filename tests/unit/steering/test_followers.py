"""Which runs are expected behind the live ones of a pool."""

import pytest

from prefect_intelligent.domain import Deployment, Estimate, Run, RunPhase, Terms, parse_deadline
from prefect_intelligent.steering.adapters.deployment_catalog import DeploymentInfo
from prefect_intelligent.steering.adapters.followers import expected_followers


def info(name, *, inputs=(), outputs=(), follows=True, deadline=None, queue="q"):
    terms = Terms(inputs=inputs, outputs=outputs, deadline=None if deadline is None else parse_deadline(deadline))
    deployment = Deployment(name=name, queue=queue, terms=terms, declared=True)
    return DeploymentInfo(deployment, Estimate(p50_s=60.0, p90_s=90.0), 0.0, follows=follows)


def run(deployment, phase=RunPhase.WAITING, number=0, at_s=1000.0):
    return Run(
        id=f"{deployment} {number}",
        deployment=deployment,
        queue="q",
        phase=phase,
        scheduled_s=at_s,
        estimate=Estimate(p50_s=60.0, p90_s=90.0),
    )


EXTRACT = info("extract", outputs=("raw",), follows=False)
CLEAN = info("clean", inputs=("raw",), outputs=("flights",))
REPORT = info("report", inputs=("flights",), deadline="07:00 UTC")


def test_each_stage_waits_for_the_one_before():
    found = expected_followers([REPORT, CLEAN, EXTRACT], [run("extract"), run("extract", number=1)])
    assert [(one.run.deployment, one.after) for one in found] == [
        ("clean", ("extract 0", "extract 1")),
        ("report", ("follower clean",)),
    ]
    assert found[0].run.due_s is None
    assert found[1].run.due_s == 7 * 3600.0


@pytest.mark.parametrize(
    "infos",
    [
        [EXTRACT, info("clean", inputs=("raw",), follows=False)],  # it has a schedule of its own
        [EXTRACT, info("clean", inputs=("raw",), queue="")],  # it has left the pool
        [EXTRACT, info("clean", inputs=("other",))],
        [info("extract", inputs=("raw",), outputs=("raw",), follows=False)],
    ],
)
def test_nothing_is_expected_of_what_does_not_wait_for_it(infos):
    assert expected_followers(infos, [run("extract")]) == ()


def test_without_a_run_that_waits_the_next_one_is_waited_for():
    upcoming = [run("extract", RunPhase.UPCOMING, number, 2000.0 + number) for number in (1, 0)]
    assert [one.after for one in expected_followers([EXTRACT, CLEAN], upcoming)] == [("extract 0",)]
    both = [*upcoming, run("extract", RunPhase.RUNNING, 2)]
    assert [one.after for one in expected_followers([EXTRACT, CLEAN], both)] == [("extract 2",)]


def test_a_cycle_is_left_out_and_a_span_gives_no_deadline():
    ring = [info("a", inputs=("raw", "y"), outputs=("x",)), info("b", inputs=("x",), outputs=("y",))]
    late = info("late", inputs=("raw",), deadline="45m")
    found = expected_followers([EXTRACT, *ring, late], [run("extract")])
    assert [(one.run.deployment, one.run.due_s) for one in found] == [("late", None)]
