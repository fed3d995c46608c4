"""Laws of the graph that hold for any evidence."""

from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.pipelines.conflicts import find_conflicts
from prefect_intelligent.pipelines.critical_path import refresh_plan
from prefect_intelligent.pipelines.deployments import Inventory
from prefect_intelligent.pipelines.graph import (
    CERTAINTY,
    Edge,
    EdgeEvidence,
    build_graph,
    find_cycles,
    topological_order,
)

DEPLOYMENTS = st.sampled_from([f"d{i}/p" for i in range(6)])
DATASETS = st.sampled_from([f"s{i}" for i in range(6)])
EVIDENCE = st.builds(EdgeEvidence, st.sampled_from(sorted(CERTAINTY)), st.sampled_from(["", "a.py:1", "b.py:2"]))
EDGES = st.lists(
    st.one_of(
        st.builds(lambda s, t, e: Edge(s, t, "reads", (e,)), DATASETS, DEPLOYMENTS, EVIDENCE),
        st.builds(lambda s, t, e: Edge(s, t, "writes", (e,)), DEPLOYMENTS, DATASETS, EVIDENCE),
        st.builds(lambda s, t, e: Edge(s, t, "calls", (e,)), DEPLOYMENTS, DEPLOYMENTS, EVIDENCE),
        st.builds(lambda s, t, e: Edge(s, t, "triggers", (e,)), DEPLOYMENTS, DEPLOYMENTS, EVIDENCE),
    ),
    max_size=14,
)


@given(edges=EDGES, data=st.data())
@settings(deadline=None)
def test_the_graph_does_not_depend_on_the_order_of_the_evidence(edges, data):
    shuffled = data.draw(st.permutations(edges))
    assert build_graph(edges) == build_graph(shuffled)
    one, other = (find_conflicts(build_graph(found), Inventory(nodes={})) for found in (edges, shuffled))
    assert one == other


@given(edges=EDGES)
@settings(deadline=None)
def test_an_order_puts_every_deployment_after_what_it_depends_on_or_there_is_a_cycle(edges):
    graph = build_graph(edges)
    try:
        sequence = topological_order(graph)
    except InvalidInputError:
        shown = find_cycles(graph)
        assert shown
        assert all(names[0] == names[-1] for names in shown)
        return
    place = {name: index for index, name in enumerate(sequence)}
    assert sorted(sequence) == list(graph.deployments)
    for name in sequence:
        assert all(place[above] < place[name] for above in graph.upstream(name))


@given(edges=EDGES, dataset=DATASETS)
@settings(deadline=None)
def test_a_plan_is_closed_upwards(edges, dataset):
    graph = build_graph(edges)
    if dataset not in graph.datasets or find_cycles(graph):
        return
    try:
        wanted = refresh_plan(graph, dataset)
    except InvalidInputError:
        return
    for name in wanted:
        for above in graph.inputs[name]:
            assert set(graph.writers.get(above, ())) <= set(wanted)
