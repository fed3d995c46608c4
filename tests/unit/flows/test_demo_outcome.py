"""What the demo shows: the fitted morning, the table, the page and the picture, from a result made by hand."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape
from io import StringIO
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from rich.console import Console

from flows.demo import arm_plan
from flows.demo.arm import Arm
from flows.demo.arm_plan import HEADINGS, arms_of, plan_arms
from flows.demo.gantt import draw_picture
from flows.demo.outcome import describe, ranges, tabulate, warn_if_incomparable
from flows.demo.page import write_html
from flows.demo.scoring import RunRecord
from flows.demo.workload import (
    MAX_BACKFILL,
    MIN_BACKFILL,
    SMALL_SIZE,
    Size,
    feeding,
    measure_cycle_s,
    plan_morning,
)
from prefect_intelligent.domain.objective import Prices
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.policy.bundle import SHIPPED

BEGIN_S = datetime(2026, 1, 5, 6, tzinfo=UTC).timestamp()


def arm(name: str, waits_s: float) -> Arm:
    def run(index: int, queue: str, scheduled_s: float, due_s: float) -> RunRecord:
        started_s = BEGIN_S + scheduled_s + waits_s
        return RunRecord(
            id=f"{name}-{index}",
            deployment=f"{queue}-flow/morning",
            queue=queue,
            scheduled_s=BEGIN_S + scheduled_s,
            started_s=started_s,
            running_s=started_s + 2,
            finished_s=started_s + 5,
            due_s=BEGIN_S + due_s,
            late_usd_per_hour=60.0,
        )

    runs = (run(0, "backfill", 0, 600), run(1, "reports", 4, 29))
    return Arm(
        name=name,
        policy="atc",
        begin_s=BEGIN_S,
        runs=runs,
        limits=((BEGIN_S, 2),),
        priorities=((BEGIN_S, {"reports": 1}),),
        restored=True,
    )


@pytest.fixture
def result() -> dict[str, object]:
    arms = [arm("default", 80.0), arm("steered", 1.0)]
    return describe(arms, Prices(), seed=7, small=True, size=SMALL_SIZE)


def test_the_result_holds_the_figures_and_the_recorded_instants(result):
    default, steered = result["default"], result["steered"]
    assert (default["late_runs"], steered["late_runs"]) == (1, 0)
    assert default["weighted_late_minutes"] == pytest.approx(1.0)  # 4 + 80 + 5 - 29 s
    assert default["lateness_usd"] == pytest.approx(1.0)
    assert steered["cost_usd"] < default["cost_usd"]
    run = default["runs"][1]
    assert run["scheduled"] == "2026-01-05T06:00:04.000000+00:00"
    assert run["started"] == "2026-01-05T06:01:24.000000+00:00"
    assert (run["wait_s"], run["late_s"]) == (80.0, 60.0)
    assert "mean late_usd_per_hour" in result["context"]["weighted_late_minutes"]


def test_the_table_has_a_row_per_figure_and_per_queue(result):
    console = Console(record=True, width=100, file=StringIO())
    console.print(tabulate(result))
    text = console.export_text()
    for label in ("late runs", "late minutes, weighted", "cost, USD", "makespan, s", "backfill", "reports"):
        assert label in text


def test_the_page_stands_alone_and_shows_both_arms(result):
    page = write_html(result)
    assert page.count("<svg") == 2
    assert "60.0 s late" in page
    assert not re.search(r"(src|href)=", page)
    assert "prefers-color-scheme: dark" in page


def test_names_in_the_page_are_escaped(result):
    evil = "<script>alert(1)</script>"
    result["context"]["policies"]["steered"] = f"policy {evil}"
    for arm in ("default", "steered"):
        result[arm]["runs"][0]["deployment"] = f"deployment {evil}"
    page = write_html(result)
    assert "<script" not in page
    assert f"policy {evil}" in unescape(page)
    assert unescape(page).count(f"deployment {evil}") == 3  # a row of the table, and a title in each chart


def test_decisions_that_changed_something_are_on_the_page_with_their_reasons(result):
    decision = {
        "at_s": BEGIN_S + 12.5,
        "applied": [["reports", "priority", 21, 3]],
        "queues": [
            {"name": "reports", "reasons": ["1 wait; the most urgent <can> wait 5 s more"]},
            {"name": "backfill", "reasons": ["30 wait, none has a deadline"]},
        ],
        "pool_limit": {"reasons": ["the pool has room"]},
        "reasons": ["the twin expects less lateness"],
    }
    steered = replace(arm("steered", 1.0), decisions=(decision,))
    shown = describe([arm("default", 80.0), steered], Prices(), seed=7, small=True, size=SMALL_SIZE)
    (described,) = shown["steered"]["decisions"]
    assert described["at_s"] == 12.5
    assert described["changes"] == ["reports: priority 21 -> 3"]
    page = unescape(write_html(shown))
    assert "reports: priority 21 -> 3" in page
    assert "reports: 1 wait; the most urgent <can> wait 5 s more. the twin expects less lateness" in page
    assert "none has a deadline" not in page, "nothing was changed there"
    assert "the pool has room" not in page


def test_a_third_arm_has_its_column_panel_and_picture():
    arms = [arm("default", 80.0), arm("steered", 5.0), replace(arm("agent", 1.0), policy="/somewhere/bundle-7")]
    result = describe(arms, Prices(), seed=7, small=True, size=SMALL_SIZE)
    assert arms_of(result) == ["default", "steered", "agent"]
    page = write_html(result)
    assert page.count("<svg") == 3
    assert "three times" in page
    assert "atc, bundle-7" in page
    assert "/somewhere" not in page
    assert [column.header for column in tabulate(result).columns] == ["", "default", "steered", "agent"]
    picture = ElementTree.fromstring(draw_picture(result, [(name, HEADINGS[name]) for name in arms_of(result)]))
    assert picture.get("width") == "1440"


def test_the_third_arm_is_that_of_a_bundle_which_is_read_before_anything_starts(tmp_path, monkeypatch):
    assert [plan.name for plan in plan_arms("atc", "none")] == ["default", "steered"]
    assert [plan.mode for plan in plan_arms("atc", str(SHIPPED))] == ["shadow", "auto", "auto"]
    assert plan_arms("atc", str(SHIPPED))[2].policy == str(SHIPPED)
    with pytest.raises(InvalidInputError, match="bundle"):
        plan_arms("atc", str(tmp_path))
    monkeypatch.setattr(arm_plan, "BUNDLE", SHIPPED)
    assert plan_arms("edf", None)[2].policy == str(SHIPPED)
    monkeypatch.setattr(arm_plan, "BUNDLE", tmp_path)
    assert [plan.policy for plan in plan_arms("edf", None)] == ["edf", "edf"]


def test_the_picture_is_well_formed_and_states_the_figures_of_the_result(result):
    picture = draw_picture(result, [("default", "Prefect's defaults"), ("steered", "Steered")])
    ElementTree.fromstring(picture)
    assert "1 of 2 runs late, weighted 1.0 min" in picture
    assert "0 of 2 runs late, weighted 0.0 min" in picture


def test_neighbouring_places_are_drawn_together():
    assert ranges([1, 2, 3, 6, 9, 10]) == "1-3, 6, 9-10"
    assert ranges([]) == ""


def test_a_machine_that_was_busier_in_one_morning_is_told(result):
    assert (result["default"]["backfill_run_s"], warn_if_incomparable(result)) == (5.0, None)
    result["steered"]["backfill_run_s"] = 8.0
    assert "took 5.0 s in the first and 8.0 s in the second" in warn_if_incomparable(result)
    assert "took 5.0 s in the first" in write_html(result)


@pytest.mark.parametrize(
    ("cycle_s", "backfill", "step_s"), [(0.5, MAX_BACKFILL, 7.0), (4.0, 36, 10.0), (6.0, 20, 12.0), (30.0, 12, 12.0)]
)
def test_the_morning_is_fitted_to_the_machine_within_bounds(cycle_s, backfill, step_s):
    size = Size.fit(cycle_s, slots=2)
    assert (size.backfill, size.step_s) == (backfill, step_s)
    assert MIN_BACKFILL <= size.backfill <= MAX_BACKFILL


@pytest.mark.parametrize("cycle_s", [1.2, 2.0, 4.0, 6.0])
def test_what_is_first_come_first_served_keeps_the_morning_waiting_past_its_deadline(cycle_s):
    size = Size.fit(cycle_s, slots=2)
    served_s = size.backfill * cycle_s / 2  # when the last of the backfill has been taken
    assert served_s > 4.0 + 25.0 + 10.0
    assert (size.backfill + 17) * cycle_s / 2 < 115.0  # twice that and the rest: under six minutes


def test_a_cycle_is_measured_between_starts_and_not_before_the_first():
    assert measure_cycle_s([110.0, 107.0, 100.0, 101.0, 104.0, 104.5], slots=2) == pytest.approx(2 * 9.0 / 4)


def test_a_morning_is_the_same_for_the_same_seed_and_covers_the_year_once():
    launches = plan_morning(Size(backfill=20, step_s=7.0), seed=3)
    assert launches == plan_morning(Size(backfill=20, step_s=7.0), seed=3)
    assert launches != plan_morning(Size(backfill=20, step_s=7.0), seed=4)
    stretches = [launch.parameters for launch in launches[:20]]
    assert (stretches[0]["first"], stretches[-1]["last"]) == ("2013-01-01", "2013-12-31")
    assert all(before["last"] < after["first"] for before, after in pairwise(stretches))
    assert len({launch.pipeline.name for launch in launches}) == 11
    offsets = [launch.offset_s for launch in launches]
    assert offsets == sorted(offsets)


def test_a_run_is_fed_by_the_runs_of_its_own_day_that_write_what_it_reads():
    launches = plan_morning(Size(backfill=12, step_s=7.0), seed=3)
    fed_by = feeding(launches)
    index = next(i for i, one in enumerate(launches) if one.pipeline.flow.name == "join-weather")
    writers = [launches[i] for i in fed_by[index]]
    assert {one.pipeline.flow.name for one in writers} == {"clean-flights", "ingest-weather"}
    assert {one.parameters["day"] for one in writers} == {launches[index].parameters["day"]}
    assert len(plan_morning(SMALL_SIZE, seed=3, small=True)) == 12
