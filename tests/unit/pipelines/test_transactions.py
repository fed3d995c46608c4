"""All writes or none, whenever the process dies and whatever Prefect refuses."""

import copy

import pytest

from prefect_intelligent.errors import ConflictError, InvalidInputError
from prefect_intelligent.pipelines.apply_graph import apply_automations, plan_automations
from prefect_intelligent.pipelines.live_changes import apply_modification, prepare_modification
from prefect_intelligent.pipelines.resource_changes import (
    ResourceChange,
    add_epoch,
    differences,
    epoch_at,
    taken_back,
)
from prefect_intelligent.pipelines.rollout.transactions import Transactions
from prefect_intelligent.testing.clock import ManualClock
from prefect_intelligent.testing.history import InMemoryHistory
from prefect_intelligent.testing.pipelines import FakePipelineServer, ProcessKilled
from tests.pipeline_fakes import Project


def deploy(project):
    project.rollout.keep_current("clean/p", "me")
    project.rollout.swap(project.version("v2"))


def graph_apply(project):
    apply_automations(project.transactions, plan_automations(project.server, project.model(), project.clock.now_s()))


def modify(project):
    apply_modification(
        project.rollout,
        prepare_modification(project.rollout, project.model, project.model().overrides, project.version("v3")),
    )


def roll_back(project):
    project.rollout.roll_back("clean/p")


COMMANDS = {
    "graph apply": [graph_apply],
    "deploy": [deploy],
    "modify": [deploy, graph_apply, modify],
    "rollback": [deploy, roll_back],
}


def ready(tmp_path, name):
    project = Project(tmp_path)
    for command in COMMANDS[name][:-1]:
        command(project)
    project.clock.jump(60)
    return project


def owned(project):
    return copy.deepcopy(project.server.resources)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_dies_before_any_write_is_finished_by_the_next(tmp_path, name):
    command = COMMANDS[name][-1]
    whole = ready(tmp_path / "whole", name)
    writes_before, old = whole.server.writes, owned(whole)
    command(whole)
    new, writes = owned(whole), whole.server.writes - writes_before
    assert writes >= 1
    assert new != old
    for death in range(1, writes + 1):
        project = ready(tmp_path / str(death), name)
        project.server.die_at = project.server.writes + death
        with pytest.raises(ProcessKilled):
            command(project)
        project.server.die_at = None
        project.transactions.recover()
        assert owned(project) == new
        assert project.transactions.recover() is None


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_prefect_refuses_leaves_everything_as_it_was(tmp_path, name):
    project = ready(tmp_path, name)
    old = owned(project)
    twin = ready(tmp_path / "twin", name)
    COMMANDS[name][-1](twin)
    last = twin.transactions.intents()[-1]["changes"][-1]["resource"]
    project.server.refuse = frozenset({last})
    with pytest.raises(ConflictError):
        COMMANDS[name][-1](project)
    project.server.refuse = frozenset()
    assert owned(project) == old
    assert project.transactions.recover() is None


def test_interim_changes_are_taken_back_by_the_next_command():
    server = FakePipelineServer({"deployment:a/b": {"paused": False}})
    change = ResourceChange(resource="deployment:a/b", before={"paused": False}, after={"paused": True})
    history, clock = InMemoryHistory(), ManualClock()
    Transactions(server, history, clock).begin("drain", [change])
    assert server.resources == {"deployment:a/b": {"paused": True}}
    assert Transactions(server, history, clock).recover() == "drain"
    assert server.resources == {"deployment:a/b": {"paused": False}}


def test_a_drain_that_times_out_changes_nothing(tmp_path):
    project = Project(tmp_path)
    project.rollout.keep_current("clean/p", "me")
    project.server.start_run("clean/p", {}, key="1")
    old = owned(project)
    with pytest.raises(InvalidInputError, match="nothing has changed"):
        project.rollout.drain(project.version("v2"), timeout_s=30)
    assert owned(project) == old


def test_a_drain_waits_for_what_was_scheduled_and_then_swaps(tmp_path):
    project = Project(tmp_path)
    project.rollout.keep_current("clean/p", "me")
    run = project.server.start_run("clean/p", {}, key="1")
    seen = []

    def sleep(seconds):
        seen.append(project.server.resources["deployment:clean/p"]["paused"])
        project.server.cancel_run(run)

    project.clock.sleep = sleep
    version = project.version("v2")
    project.rollout.drain(version, timeout_s=30)
    assert seen == [True]
    assert project.versions.current("clean/p", project.server.read("deployment:clean/p")) == version
    assert project.server.resources["deployment:clean/p"]["paused"] is False


def test_epochs_say_which_version_was_in_force_when():
    held = add_epoch(add_epoch(None, "a.0", 10.0), "b.0", 20.0)
    assert add_epoch(held, "b.0", 30.0) is held
    assert [epoch_at(held, at) for at in (5.0, 10.0, 19.9, 20.0, 99.0)] == ["a.0", "a.0", "a.0", "b.0", "b.0"]
    assert epoch_at(None, 5.0) is None


def test_changes_and_their_undoing():
    held = {"a": {"x": 1}, "b": {"x": 2}, "c": {"x": 3}}
    changes = differences({"a": {"x": 1}, "b": None, "c": {"x": 4}, "d": {"x": 5}}, held)
    assert [(change.verb, change.resource) for change in changes] == [("create", "d"), ("change", "c"), ("remove", "b")]
    server = FakePipelineServer(held)
    for change in changes:
        server.write(change.resource, change.after)
    server.write("c", {"x": 4, "y": 9})  # somebody has set another field since
    for change in reversed(changes):
        server.write(change.resource, taken_back(change, server.read(change.resource)))
    assert server.resources == held | {"c": {"x": 3, "y": 9}}
    server.write("c", {"x": 7})
    assert taken_back(changes[1], server.read("c")) == {"x": 7}
