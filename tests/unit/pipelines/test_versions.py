"""Versions: named by content, found by digits or tag, swapped in and rolled back, collected when old."""

import dataclasses
import itertools

import numpy as np
import pytest

from prefect_intelligent.domain import Prices
from prefect_intelligent.errors import InvalidInputError, OrchestratorUnavailableError, StoreError, UnknownNameError
from prefect_intelligent.pipelines.apply_graph import apply_automations, current_overrides, plan_automations
from prefect_intelligent.pipelines.live_changes import UNDO, apply_modification, prepare_modification, prepare_undo
from prefect_intelligent.pipelines.resource_changes import TOKENS, epoch_at
from prefect_intelligent.pipelines.rollout.canary import run_canary
from prefect_intelligent.pipelines.sprt import RunOutcome, SprtConfig, sprt_verdict
from prefect_intelligent.pipelines.survey import Overrides
from prefect_intelligent.pipelines.version import (
    VERSION_ENV,
    DeploymentVersion,
    choose_version,
    pull_inputs,
    version_differences,
)
from prefect_intelligent.quality.run_scores import RunQuality
from prefect_intelligent.testing.clock import ManualClock
from prefect_intelligent.testing.history import InMemoryHistory
from tests.pipeline_fakes import SPEC, Project


@pytest.fixture
def project(tmp_path):
    project = Project(tmp_path)
    project.rollout.keep_current("clean/p", "me")
    return project


def held(project):
    return project.server.read("deployment:clean/p")


def test_the_name_is_the_content_and_nothing_else(project):
    one = project.version("v2")
    assert DeploymentVersion.from_dict(one.to_dict()) == one
    assert project.version("v2") is not None
    assert len(project.versions.all("clean/p")) == 2  # the baseline and v2, kept once
    assert project.version("v3").id != one.id
    assert project.version("v2", tags=["x"]).id != one.id


def test_deploy_then_rollback_is_identity_on_everything_we_store(project):
    before = dict(project.server.resources)
    project.rollout.swap(project.version("v2"))
    assert project.server.resources != before
    project.rollout.roll_back("clean/p")
    assert project.server.resources == before


def test_rollback_goes_back_step_by_step_and_to_a_named_version(project):
    first, second = project.version("v1"), None
    project.rollout.swap(first)
    second = project.version("v2")
    project.rollout.swap(second)
    project.rollout.swap(first)  # A, B, A
    assert project.rollout.roll_back("clean/p").id == second.id
    project.versions.tag(first, "stable")
    assert project.rollout.roll_back("clean/p", "stable").id == first.id
    assert project.rollout.roll_back("clean/p", second.id[:8]).id == second.id


def test_rollback_steps_back_through_the_chain_and_does_not_alternate(project):
    first, second, third = (project.version(f"v{i}") for i in (1, 2, 3))
    for version in (first, second, first, third):  # A, B, A, C
        project.rollout.swap(version)
    back = [project.rollout.roll_back("clean/p").id for _ in range(3)]
    assert back == [first.id, second.id, first.id]
    project.rollout.roll_back("clean/p")
    assert held(project) == SPEC
    with pytest.raises(InvalidInputError, match="no version was in force before"):
        project.rollout.roll_back("clean/p")


def test_a_named_version_is_a_place_in_the_chain(project):
    versions = [project.version(f"v{i}") for i in range(4)]
    for version in versions[:3]:
        project.rollout.swap(version)
    project.rollout.roll_back("clean/p", versions[0].id)  # over two
    project.rollout.roll_back("clean/p")
    assert held(project) == SPEC
    project.rollout.swap(versions[1])
    project.rollout.roll_back("clean/p", versions[3].id)  # never in force: like a deploy
    assert project.rollout.roll_back("clean/p").id == versions[1].id


@pytest.mark.parametrize(
    ("deployment", "version", "error", "words"),
    [
        ("clean/q", None, UnknownNameError, "did you mean 'clean/p'"),
        ("clean/p", "ffffffff", UnknownNameError, "unknown version"),
        ("report/p", None, InvalidInputError, "no version was in force before"),
        ("report/p", "other", InvalidInputError, "it is one of clean/p, not of report/p"),
    ],
)
def test_a_rollback_that_cannot_be_is_refused_and_nothing_written(project, deployment, version, error, words):
    project.versions.tag(project.version("v1"), "other")
    writes = project.server.writes
    with pytest.raises(error, match=words):
        project.rollout.roll_back(deployment, version)
    assert project.server.writes == writes


def test_a_missing_or_damaged_snapshot_is_told_before_anything_is_written(project, tmp_path):
    version = project.version("v2")
    blob = next(path for path in tmp_path.rglob("*") if path.name == version.code.blob)
    content = blob.read_bytes()
    blob.write_bytes(b"other")
    with pytest.raises(StoreError, match="damaged"):
        project.versions.blobs.get(version.code.blob)
    blob.unlink()
    with pytest.raises(UnknownNameError, match="snapshot blob"):
        project.rollout.swap(version)
    assert held(project) == SPEC
    blob.write_bytes(content)
    project.rollout.swap(version)


def test_a_tag_that_looks_like_a_version_is_refused(project):
    with pytest.raises(InvalidInputError, match="stable"):
        project.versions.tag(project.version("v1"), "cafe")


def test_a_difference_names_the_field(project):
    lines = version_differences(project.version("v1"), project.version("v1", tags=["x"]))
    assert lines == ['spec.tags: [] -> ["x"]']


def test_collection_keeps_what_is_in_force_tagged_or_new(project):
    versions = [project.version(f"v{i}") for i in range(5)]
    project.versions.tag(versions[0], "first")
    dry, _ = project.versions.collect({versions[1].id}, 1, write=False)
    assert len(project.versions.all()) == 6
    forgotten, blobs = project.versions.collect({versions[1].id}, 1)
    assert [v.id for v in forgotten] == [v.id for v in dry]
    assert {v.id for v in project.versions.all()} == {versions[0].id, versions[1].id, versions[4].id}
    assert blobs == 2 * 2 + 1  # manifest and source of two, and the manifest of the baseline
    for version in project.versions.all():
        project.versions.check(version)


def test_the_version_of_a_run_is_pinned_or_the_batchs_or_on_trial_or_the_deployments():
    inputs = {"version": "new", "under": {"a.0": "old"}, "canary": {"version": "trial", "tokens": "t"}}
    asked = []

    def admit(tokens):
        asked.append(tokens)
        return len(asked) <= 2

    assert choose_version(inputs, label="a.0", pinned="pin", admit=admit) == "pin"
    assert choose_version(inputs, label="a.0", pinned=None, admit=admit) == "old"
    assert asked == []  # no token is spent on a run that cannot use it
    assert [choose_version(inputs, label="b.0", pinned=None, admit=admit) for _ in range(4)] == [
        "trial",
        "trial",
        "new",
        "new",
    ]
    assert set(asked) == {"t"}


@pytest.mark.parametrize("before", ["trial", "new"])
def test_a_run_that_is_tried_again_stays_with_its_version_and_takes_no_token(before):
    inputs = {"version": "new", "canary": {"version": "trial", "tokens": "t"}}

    def admit(tokens):
        raise AssertionError

    assert choose_version(inputs, label=None, pinned=None, stamped=lambda: before, admit=admit) == before
    taken = choose_version(inputs, label=None, pinned=None, stamped=lambda: "an earlier one", admit=lambda tokens: True)
    assert taken == "trial"


def test_waiting_runs_are_pinned_to_the_old_version_if_asked(project):
    first = project.version("v1")
    project.rollout.swap(first)
    run = project.server.start_run("clean/p", {}, key="1")
    with pytest.raises(InvalidInputError, match="same entrypoint"):
        project.rollout.swap(project.version("v2", entrypoint="other.py:clean"), scheduled="old")
    project.rollout.swap(project.version("v2"), scheduled="old")
    assert project.server.flow_runs[run].env == {VERSION_ENV: first.id}


def test_a_restart_cancels_running_runs_and_starts_them_again_once(project):
    run = project.server.start_run("clean/p", {"batch": "b"}, key="1")
    project.server.flow_runs[run] = dataclasses.replace(project.server.flow_runs[run], state="RUNNING")
    assert project.rollout.restart(project.version("v2")) == 1
    states = [(r.state, r.parameters["batch"]) for r in project.server.flow_runs.values()]
    assert states == [("CANCELLED", "b"), ("SCHEDULED", "b")]


def test_a_restart_from_the_failed_step_retries_what_failed_lately_under_its_own_id(project):
    now = project.clock.now_s()
    for key, ended_s in (("lately", now - 60), ("long ago", now - 2 * 86_400)):
        run = project.server.start_run("clean/p", {}, key=key)
        failed = dataclasses.replace(project.server.flow_runs[run], state="FAILED", ended_s=ended_s)
        project.server.flow_runs[run] = failed
    assert project.rollout.restart(project.version("v2"), "failed") == 1
    assert [run.state for run in project.server.flow_runs.values()] == ["SCHEDULED", "FAILED"]


# The canary


def test_a_version_that_always_fails_is_refused_within_ten_runs_whatever_the_baseline():
    for baseline in ([], [RunOutcome(failed=False)] * 20, [RunOutcome(failed=i % 10 == 0) for i in range(50)]):
        runs = []
        while sprt_verdict(SprtConfig(), baseline, runs)[0] == "continue":
            runs.append(RunOutcome(failed=True))
        assert sprt_verdict(SprtConfig(), baseline, runs)[0] == "roll back"
        assert len(runs) <= 10


def test_a_version_as_good_as_the_old_one_is_seldom_refused_and_a_worse_one_mostly():
    rng = np.random.default_rng(11)

    def refused(rate, slow, games=400):
        count = 0
        for _ in range(games):
            baseline = [RunOutcome(failed=rng.random() < 0.05, duration_s=rng.lognormal(3, 0.4)) for _ in range(100)]
            runs = []
            while sprt_verdict(SprtConfig(), baseline, runs)[0] == "continue":
                runs.append(RunOutcome(failed=rng.random() < rate, duration_s=slow * rng.lognormal(3, 0.4)))
            count += sprt_verdict(SprtConfig(), baseline, runs)[0] == "roll back"
        return count / games

    assert refused(0.05, 1.0) <= 0.05
    assert refused(0.5, 1.0) >= 0.9
    assert refused(0.05, 2.5) >= 0.9


def test_a_swap_refuses_runs_that_wait_with_parameters_it_does_not_take(project):
    project.rollout.swap(project.version("v1"))
    before = held(project)
    run = project.server.start_run("clean/p", {"batch": "2026-01-01"}, key="x")
    new = project.version("v2", parameter_openapi_schema={"properties": {"day": {"type": "string"}}})
    with pytest.raises(InvalidInputError, match=f"run {run} waits with other parameters .*no parameter batch"):
        project.rollout.swap(new)
    assert held(project) == before
    project.rollout.swap(new, scheduled="old")
    assert project.rollout.roll_back("clean/p").id != new.id
    project.server.cancel_run(run)
    project.rollout.swap(new)
    assert held(project) == new.render("/versions")


def canary(project, bad, runs=60):
    """Play a canary on the fake: every look finds three more ended runs."""
    stable = project.version("v1")
    project.rollout.swap(stable)
    new = project.version("v2")
    executed = []

    def admit(tokens):
        return executed.count(new.id) < (project.server.read(TOKENS + tokens) or {"allowed": 0})["allowed"]

    def sleep(seconds):
        project.clock.jump(5)
        for _ in range(3):
            number = len(project.server.flow_runs)
            run_id = project.server.start_run("clean/p", {}, key=str(number))
            chosen = choose_version(pull_inputs(held(project)), label=None, pinned=None, admit=admit)
            executed.append(chosen)
            assert executed.count(new.id) <= 0.2 * len(executed)
            now = project.clock.now_s()
            project.server.flow_runs[run_id] = dataclasses.replace(
                project.server.flow_runs[run_id],
                state="FAILED" if chosen == new.id and bad else "COMPLETED",
                version=chosen,
                scheduled_s=now,
                started_s=now,
                ended_s=now + 2,
            )

    project.clock.sleep = sleep
    state = run_canary(project.rollout, new, share=0.2, config=SprtConfig(), timeout_s=3600, prices=Prices())
    assert project.server.read_all(TOKENS) == {}
    return stable, new, state


def test_a_bad_version_is_rolled_back_by_itself_and_a_good_one_promoted(project, tmp_path):
    stable, new, state = canary(project, bad=True)
    assert state.verdict == "roll back"
    assert state.canary_runs <= 10
    assert held(project) == stable.render("/versions")
    other = Project(tmp_path / "good")
    other.rollout.keep_current("clean/p", "me")
    stable, new, state = canary(other, bad=False)
    assert state.verdict == "promote"
    assert other.server.read("deployment:clean/p") == new.render("/versions")
    assert other.rollout.roll_back("clean/p").id == stable.id


def test_a_canary_sits_out_a_short_outage_and_gives_up_after_a_long_one(project, tmp_path, monkeypatch):
    def goes_away(server, away):
        looks, runs = itertools.count(), server.runs

        def read(*arguments, since_s=None, **more):
            if since_s is not None and next(looks) in away:
                raise OrchestratorUnavailableError("Prefect answered 503")
            return runs(*arguments, since_s=since_s, **more)

        monkeypatch.setattr(server, "runs", read)

    goes_away(project.server, {1, 2, 5})
    stable, _, state = canary(project, bad=True)
    assert state.verdict == "roll back"
    assert held(project) == stable.render("/versions")
    other = Project(tmp_path / "gone")
    other.rollout.keep_current("clean/p", "me")
    goes_away(other.server, range(1, 1000))
    began_s = other.clock.now_s()
    with pytest.raises(OrchestratorUnavailableError):
        canary(other, bad=True)
    assert 120 <= other.clock.now_s() - began_s < 135
    assert held(other) == stable.render("/versions")


REFUSED = [(0.0, {}, "share"), (0.9, {}, "share"), (0.2, {"job_variables": {"a": 1}}, "swap")]


@pytest.mark.parametrize(("share", "spec", "words"), REFUSED)
def test_a_canary_that_cannot_be_is_refused(project, share, spec, words):
    project.rollout.swap(project.version("v1"))
    version = project.version("v2", **spec)
    with pytest.raises(InvalidInputError, match=words):
        run_canary(project.rollout, version, share=share, config=SprtConfig(), timeout_s=1, prices=Prices())


def test_the_worst_gate_of_a_run_is_its_quality():
    history, clock = InMemoryHistory(), ManualClock()
    quality = RunQuality(history, clock)
    for run, outcome in (("a", "passed"), ("a", "remedied"), ("b", "warned"), ("c", "error")):
        history.append("quality", "flights", clock.now_s(), {"run_id": run, "outcome": outcome})
    assert [quality(run) for run in "abcd"] == [0.5, 0.75, None, None]


def test_a_version_whose_data_is_worse_is_refused_although_it_never_fails():
    baseline = [RunOutcome(failed=False, quality=1.0)] * 30
    runs = []
    while sprt_verdict(SprtConfig(), baseline, runs)[0] == "continue":
        runs.append(RunOutcome(failed=False, quality=0.5))
    assert sprt_verdict(SprtConfig(), baseline, runs)[0] == "roll back"
    assert len(runs) <= 10


# Modifications


def test_a_replaced_step_keeps_its_old_code_for_batches_in_flight(project):
    first = project.version("v1")
    project.rollout.swap(first)
    apply_automations(project.transactions, plan_automations(project.server, project.model(), project.clock.now_s()))
    (old,) = plan_automations(project.server, project.model(), project.clock.now_s()).components
    project.clock.jump(60)
    new = project.version("v2")
    apply_modification(
        project.rollout, prepare_modification(project.rollout, project.model, Overrides(), new), version=new
    )
    (now,) = plan_automations(project.server, project.model(), project.clock.now_s()).components
    assert now.label != old.label
    inputs = pull_inputs(held(project))
    assert choose_version(inputs, label=old.label, pinned=None) == first.id
    assert choose_version(inputs, label=now.label, pinned=None) == new.id
    assert plan_automations(project.server, project.model(), project.clock.now_s()).changes == ()
    labels = {name.rpartition("[")[2][:-1] for name in project.server.read_all("automation:")}
    assert labels == {old.label, now.label}

    project.clock.jump(60)
    modification, version = prepare_undo(project.rollout, project.model)
    apply_modification(project.rollout, modification, UNDO, version)
    again = pull_inputs(held(project))
    assert choose_version(again, label=now.label, pinned=None) == new.id
    assert choose_version(again, label="later", pinned=None) == first.id
    with pytest.raises(InvalidInputError, match="no modification to take back"):
        prepare_undo(project.rollout, project.model)


def test_a_removed_step_is_put_back_by_undo(project):
    apply_automations(project.transactions, plan_automations(project.server, project.model(), project.clock.now_s()))
    project.clock.jump(60)
    removed = Overrides(removed=frozenset({"report/p"}))
    apply_modification(project.rollout, prepare_modification(project.rollout, project.model, removed))
    assert current_overrides(project.transactions) == removed
    (component,) = plan_automations(project.server, project.model(removed), project.clock.now_s()).components
    assert set(component.starts) == {"clean/p"}
    modification, _ = prepare_undo(project.rollout, project.model)
    apply_modification(project.rollout, modification, UNDO)
    assert current_overrides(project.transactions) == Overrides()


def test_when_the_last_step_is_removed_batches_in_flight_still_have_their_version(project):
    apply_automations(project.transactions, plan_automations(project.server, project.model(), project.clock.now_s()))
    began_s = project.clock.now_s()
    (component,) = plan_automations(project.server, project.model(), began_s).components
    project.clock.jump(60)
    nothing = Overrides(removed=frozenset({"clean/p", "report/p"}))
    apply_modification(project.rollout, prepare_modification(project.rollout, project.model, nothing))
    epochs = project.server.read("epochs:ingest/p")
    assert epoch_at(epochs, began_s) == component.label
    assert epoch_at(epochs, project.clock.now_s()) == "none"
    assert len(project.server.read_all("automation:")) == 2
    project.clock.jump(15 * 86_400)
    late = plan_automations(project.server, project.model(nothing), project.clock.now_s())
    assert {change.verb for change in late.changes} == {"remove"}


@pytest.mark.parametrize(
    ("overrides", "error", "words"),
    [
        (Overrides(removed=frozenset({"reprot/p"})), UnknownNameError, "did you mean 'report/p'"),
        (Overrides(terms={"ingest/p": {"inputs": ["report"]}}), InvalidInputError, "cycle"),
    ],
)
def test_a_modification_is_checked_before_anything_is_written(project, overrides, error, words):
    writes = project.server.writes
    with pytest.raises(error, match=words):
        prepare_modification(project.rollout, project.model, overrides)
    assert project.server.writes == writes
