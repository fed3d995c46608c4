"""Safe fixes, trial runs and drawings."""

import xml.etree.ElementTree as ET

import pytest

from prefect_intelligent.domain import Terms
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.pipelines.conflicts import find_conflicts
from prefect_intelligent.pipelines.conflicts.findings import Finding, Fix
from prefect_intelligent.pipelines.conflicts_fix import apply_fixes, shift_schedule
from prefect_intelligent.pipelines.project_file import read_project
from prefect_intelligent.pipelines.render import to_mermaid, to_svg
from prefect_intelligent.pipelines.resource_changes import DEPLOYMENT
from prefect_intelligent.pipelines.rollout.trial_run import TRIAL_QUEUE, run_trial
from tests.pipeline_fakes import Project
from tests.planted import PLANTED, clean_nodes, make


def finding(kind, value, *, safe=True):
    fix = Fix(kind=kind, deployment="clean/p", value=value, safe=safe)
    return Finding(rule="x", subjects=("clean/p",), evidence="e", advice="a", fix=fix)


def test_safe_fixes_are_written_together_and_unsafe_ones_left(tmp_path):
    project = Project(tmp_path / "versions")
    name = DEPLOYMENT + "clean/p"
    schedule = {"schedule": {"cron": "50 1 * * 1", "timezone": "UTC"}, "active": True}
    project.server.resources[name] = {**project.server.resources[name], "schedules": [schedule, schedule]}
    findings = [
        finding("pause-schedule", 1),
        finding("shift-schedule", 900.0),
        finding("set-limit", 1),
        finding("set-limit", 99, safe=False),
        finding("inherit-value", 500.0),
    ]
    file = tmp_path / "pipelines.toml"
    done = apply_fixes(project.transactions, findings, file)
    assert len(done) == 4
    held = project.server.resources[name]
    assert [s["schedule"]["cron"] for s in held["schedules"]] == ["5 2 * * 1", "5 2 * * 1"]
    assert [s["active"] for s in held["schedules"]] == [True, False]
    assert held["concurrency_limit"] == 1
    assert read_project(file.read_text()).terms_of("clean/p", Terms()).late_usd_per_hour == 500
    assert len(project.transactions.intents()) == 1


@pytest.mark.parametrize(
    ("plain", "shifted"),
    [
        ({"cron": "30 5 * * *"}, {"cron": "30 6 * * *"}),
        ({"cron": "30 23 * * *"}, {"cron": "30 0 * * *"}),
        ({"cron": "30 23 * * 1"}, None),  # would be another day
        ({"cron": "10 * * * *"}, None),  # an hour later is the same
        ({"cron": "*/5 * * * *"}, None),
        ({"interval": 60, "anchor_date": "2026-01-01T00:00:00+00:00"},
         {"interval": 60, "anchor_date": "2026-01-01T01:00:00+00:00"}),
    ],
)  # fmt: skip
def test_a_schedule_is_shifted_only_where_that_is_plain(plain, shifted):
    assert shift_schedule(plain, 3600) == shifted


@pytest.mark.parametrize("rule", ["reads-too-early", "overlapping-writers", "duplicate-schedule"])
def test_the_proposed_fix_of_a_planted_conflict_is_safe(rule):
    assert [found.fix.safe for found in find_conflicts(*PLANTED[rule]())] == [True]


def test_a_trial_runs_in_a_lane_of_its_own_and_leaves_nothing(tmp_path):
    project = Project(tmp_path)
    version = project.version("v2")
    seen = []

    def sleep(seconds):
        (run,) = project.server.flow_runs.values()
        seen.append(project.server.resources[DEPLOYMENT + run.deployment]["work_queue_name"])
        project.server.cancel_run(run.id)
        project.clock.jump(seconds)

    project.clock.sleep = sleep
    before = dict(project.server.resources)
    with pytest.raises(InvalidInputError, match="did not complete"):
        run_trial(project.rollout, version, {}, 60)
    assert seen == [TRIAL_QUEUE]
    assert project.server.resources == before


def test_a_trial_whose_process_dies_is_removed_by_the_next_command(tmp_path):
    project = Project(tmp_path)
    before = dict(project.server.resources)

    class Died(BaseException):
        """What no `finally` of the dead process sees: the server goes away with it."""

    def die(seconds):
        project.server.write = lambda resource, value: (_ for _ in ()).throw(Died())
        raise Died

    project.clock.sleep = die
    with pytest.raises(Died):
        run_trial(project.rollout, project.version("v2"), {}, 60)
    del project.server.write
    assert project.server.resources != before
    assert project.transactions.pending()
    assert project.transactions.recover() == "deploy --trial"
    assert project.server.resources == before
    assert not project.transactions.pending()


def test_a_price_goes_into_the_file_only_where_that_leaves_it_valid(tmp_path):
    project = Project(tmp_path / "versions")
    file = tmp_path / "other.toml"
    text = "[deployments.'clean/p'.terms]\nbatch = 'day'\n"
    file.write_text(text)  # the same table in other quotes: adding ours would name it twice
    assert apply_fixes(project.transactions, [finding("inherit-value", 500.0)], file) == []
    assert file.read_text() == text


def test_drawings_name_every_node_once():
    graph, _ = make(clean_nodes())
    mermaid = to_mermaid(graph)
    assert mermaid.startswith("flowchart LR\n")
    assert mermaid.count('["') == len(graph.deployments)
    assert mermaid.count('[("') == len(graph.datasets)
    assert mermaid.count("-->") == len(graph.edges)
    root = ET.fromstring(to_svg(graph, ["clean/prod"]))
    titles = [element.text for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert {*graph.deployments, *graph.datasets} <= set(titles)


def test_a_cycle_can_be_drawn_too():
    graph, _ = PLANTED["cycle"]()
    ET.fromstring(to_svg(graph))
