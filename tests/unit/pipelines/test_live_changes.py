"""What a modification changes besides automations: parameters of what begins batches, and schedules."""

from dataclasses import replace

import pytest

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.pipelines.apply_graph import (
    apply_automations,
    current_overrides,
    pipeline_versions,
    plan_automations,
)
from prefect_intelligent.pipelines.deployments import Schedule
from prefect_intelligent.pipelines.live_changes import (
    MODIFY,
    UNDO,
    apply_modification,
    prepare_modification,
    prepare_undo,
)
from prefect_intelligent.pipelines.resource_changes import DEPLOYMENT
from prefect_intelligent.pipelines.survey import Overrides
from tests.pipeline_fakes import Project

INGEST = DEPLOYMENT + "ingest/p"


@pytest.fixture
def project(tmp_path):
    project = Project(tmp_path)
    apply_automations(project.transactions, plan_automations(project.server, project.model(), project.clock.now_s()))
    project.clock.jump(60)
    return project


def scheduled_model(project):
    """The picture with a schedule on the first step."""

    def build_model(overrides):
        model = project.model(overrides)
        paused = project.server.resources[INGEST]["paused"]
        nodes = dict(model.nodes)
        nodes["ingest/p"] = replace(nodes["ingest/p"], schedules=(Schedule(cron="0 2 * * *"),), paused=paused)
        return replace(model, inventory=replace(model.inventory, nodes=nodes))

    return build_model


def modify(project, overrides, build_model=None):
    apply_modification(
        project.rollout, prepare_modification(project.rollout, build_model or project.model, overrides), MODIFY
    )
    project.clock.jump(60)


def undo(project, build_model=None):
    modification, version = prepare_undo(project.rollout, build_model or project.model)
    apply_modification(project.rollout, modification, UNDO, version)
    project.clock.jump(60)


def test_a_step_that_begins_batches_gets_its_parameters_from_its_deployment(project):
    modify(project, Overrides().with_parameters("ingest/p", {"batch": "fixed"}))
    assert project.server.resources[INGEST]["parameters"] == {"batch": "fixed"}
    held = current_overrides(project.transactions)
    modify(project, held.with_parameters("ingest/p", {"batch": "other"}))
    assert project.server.resources[INGEST]["parameters"] == {"batch": "other"}
    undo(project)
    assert project.server.resources[INGEST]["parameters"] == {"batch": "fixed"}
    undo(project)
    assert project.server.resources[INGEST]["parameters"] == {}


@pytest.mark.parametrize("given", [{"bacth": "x"}, {"batch": 3}])
def test_parameters_that_the_flow_does_not_take_are_refused(project, given):
    for name in ("ingest/p", "report/p"):
        with pytest.raises(InvalidInputError, match=next(iter(given))):
            prepare_modification(project.rollout, project.model, Overrides().with_parameters(name, given))


def test_the_schedule_of_a_paused_branch_is_paused_with_it_and_comes_back(project):
    build_model = scheduled_model(project)
    before = dict(project.server.resources)
    modify(project, Overrides(removed=frozenset({"ingest/p", "clean/p", "report/p"})), build_model)
    assert project.server.resources[INGEST]["paused"] is True
    assert current_overrides(project.transactions).paused == {"ingest/p"}
    undo(project, build_model)
    assert project.server.resources[INGEST] == before[INGEST]
    assert current_overrides(project.transactions).paused == frozenset()


def test_a_schedule_that_was_paused_before_stays_so(project):
    project.server.resources[INGEST] = {**project.server.resources[INGEST], "paused": True}
    build_model = scheduled_model(project)
    modify(project, Overrides(removed=frozenset({"ingest/p"})), build_model)
    undo(project, build_model)
    assert project.server.resources[INGEST]["paused"] is True


def test_pipeline_versions_tell_what_made_them(project):
    modify(project, Overrides(removed=frozenset({"report/p"})))
    first, second = pipeline_versions(project.transactions)[:2]
    assert (first.title, first.in_force) == ("graph apply", False)
    assert second.title == MODIFY
    assert second.overrides["removed"] == ["report/p"]
    assert second.in_force
    assert second.since_s > first.since_s
