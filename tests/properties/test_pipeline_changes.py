"""Laws of changing: applying twice is applying once, going back is being back, and an order is kept per batch."""

import copy
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_intelligent.pipelines.apply_graph import apply_automations, plan_automations, remove_all
from prefect_intelligent.pipelines.resource_changes import AUTOMATION
from prefect_intelligent.pipelines.survey import Overrides
from tests.pipeline_fakes import Project

NAMES = [f"d{i}/p" for i in range(6)]


@st.composite
def chains(draw):
    """Acyclic projects: a deployment writes its own dataset and reads some of earlier ones."""
    size = draw(st.integers(2, 6))
    chain = {}
    for index in range(size):
        inputs = draw(st.sets(st.sampled_from(range(index)), max_size=3)) if index else set()
        chain[NAMES[index]] = (tuple(f"s{i}" for i in sorted(inputs)), (f"s{index}",))
    return chain


@given(chain=chains(), removed=st.sets(st.sampled_from(NAMES)), policy=st.sampled_from(["hold", "skip", "stale"]))
@settings(deadline=None, max_examples=60)
def test_apply_twice_is_apply_once_and_removing_leaves_nothing_of_ours(chain, removed, policy):
    with tempfile.TemporaryDirectory() as folder:
        project = Project(folder, chain)
        before = copy.deepcopy(project.server.resources)
        overrides = Overrides(removed=frozenset(removed & chain.keys()))
        model = project.model(overrides, f'on_late = "{policy}"')
        apply_automations(project.transactions, plan_automations(project.server, model, project.clock.now_s()))
        once = copy.deepcopy(project.server.resources)
        project.clock.jump(3600)
        again = plan_automations(project.server, model, project.clock.now_s())
        assert again.changes == ()
        apply_automations(project.transactions, again)
        assert project.server.resources == once
        for value in project.server.read_all(AUTOMATION).values():
            assert not {action["deployment"] for action in value["actions"]} & removed
        remove_all(project.transactions)
        assert project.server.resources == before


@given(texts=st.lists(st.sampled_from("abcd"), min_size=1, max_size=6))
@settings(deadline=None, max_examples=40)
def test_going_back_is_identity_on_everything_that_prefect_stores(texts):
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder))
        project.rollout.keep_current("clean/p", "me")
        held = [copy.deepcopy(project.server.resources)]
        for text in texts:
            version = project.version(text)
            current = project.versions.current("clean/p", project.server.read("deployment:clean/p"))
            if version == current:
                continue
            project.rollout.swap(version)
            held.append(copy.deepcopy(project.server.resources))
        last = held.pop()
        if not held:
            return
        project.rollout.roll_back("clean/p")
        assert project.server.resources == held[-1]
        assert project.server.resources != last
