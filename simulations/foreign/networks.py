"""Queueing networks, customer by customer, in Ciw (https://github.com/CiwPython/Ciw) and in the twin.

Ciw draws a network's customers: when they come, which way they take, how long each service is. The twin then serves the
same customers: a node is a pool, a class of priority a queue of it, a visit a run behind the customer's visit before. A
node that shares its work among those present is a pool whose runs use one resource.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import ciw
import numpy as np
import numpy.typing as npt

from prefect_intelligent.domain import QueueSetting
from prefect_intelligent.policy.census import Array
from prefect_intelligent.twin.build import build_world
from prefect_intelligent.twin.model.world import COMPLETES
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import DeploymentSpec, PoolSpec, ResourceSpec, Runs

CLASSES: Final = ("Class 0", "Class 1", "Class 2")
"""Classes of customers, in the order of their priorities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visits:
    """What Ciw did: every visit of a customer to a node; arrays of shape (visits,), customer by customer.

    Attributes:
        customer: Number of the customer.
        node: Number of the node, 0 first.
        class_: Number of the customer's class.
        arrives_s: When the customer came to the node.
        work_s: How long the service takes at full speed.
        starts_s: When the service began.
        ends_s: When it ended.
    """

    customer: npt.NDArray[np.int64]
    node: npt.NDArray[np.int64]
    class_: npt.NDArray[np.int64]
    arrives_s: Array
    work_s: Array
    starts_s: Array
    ends_s: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node of a network.

    Attributes:
        slots: Most customers in service.
        shared: Customers that are served at full speed, if they share the node's work; None if each has a server.
    """

    slots: int
    shared: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network for both simulators.

    Attributes:
        nodes: Its nodes.
        parameters: Those of `ciw.create_network` that do not follow from the nodes.
        works_s: How long each service takes at full speed, in the order in which services begin; None if Ciw's records
            say it. Of a node that shares its work they say only how long it took.
    """

    nodes: tuple[Node, ...]
    parameters: Mapping[str, Any]
    works_s: Array | None = None


def networks(customers: int, seed: int) -> dict[str, Network]:
    """Networks with about so many customers each, by name; Ciw draws the customers of some when they are made."""
    ciw.seed(seed)
    until_s = customers / 1.2

    def arrivals(rate: float) -> Any:
        return ciw.dists.PoissonIntervals([rate, 0.0], [until_s, 1e9], max_sample_date=until_s)

    classes = dict(zip(CLASSES, (0.2, 0.3, 0.7), strict=True))
    two_nodes = {
        "arrival_distributions": {name: [arrivals(rate), None] for name, rate in classes.items()},
        "service_distributions": {
            name: [ciw.dists.Exponential(0.75), ciw.dists.Lognormal(0.0, 0.8)] for name in classes
        },
        "routing": {name: [[0.0, 0.7], [0.3, 0.0]] for name in classes},
        "priority_classes": {name: number for number, name in enumerate(classes)},
    }
    batches = {
        "arrival_distributions": {name: [arrivals(rate / 2.5)] for name, rate in classes.items()},
        "batching_distributions": {name: [ciw.dists.Pmf([1, 2, 5], [0.4, 0.4, 0.2])] for name in classes},
        "service_distributions": {name: [ciw.dists.Exponential(0.6)] for name in classes},
        "priority_classes": {name: number for number, name in enumerate(classes)},
    }
    works_s = np.random.default_rng(seed).lognormal(0.4, 0.7, 2 * customers + 100)
    sharing = {
        "arrival_distributions": [arrivals(1.2)],
        "service_distributions": [ciw.dists.Sequential(works_s.tolist())],
    }
    return {
        "two nodes, feedback, priorities": Network(nodes=(Node(slots=3), Node(slots=2)), parameters=two_nodes),
        "batches, priorities": Network(nodes=(Node(slots=3),), parameters=batches),
        "processor sharing": Network(nodes=(Node(slots=10**6, shared=3),), parameters=sharing, works_s=works_s),
        "limited processor sharing": Network(nodes=(Node(slots=6, shared=3),), parameters=sharing, works_s=works_s),
    }


def visits_in_ciw(network: Network, seed: int) -> Visits:
    """Let Ciw draw and serve the customers."""
    ciw.seed(seed)
    created = ciw.create_network(
        number_of_servers=[node.slots for node in network.nodes],
        ps_thresholds=[node.shared or 1 for node in network.nodes],
        **network.parameters,
    )
    kinds = [ciw.Node if node.shared is None else ciw.PSNode for node in network.nodes]
    simulation = ciw.Simulation(created, node_class=kinds)
    simulation.simulate_until_max_time(1e9)
    records = sorted(simulation.get_all_records(), key=lambda each: (each.id_number, each.arrival_date))
    starts_s = np.array([each.service_start_date for each in records], dtype=float)
    work_s = np.array([each.service_time for each in records], dtype=float)
    if network.works_s is not None:
        work_s[np.argsort(starts_s, kind="stable")] = network.works_s[: len(records)]
    return Visits(
        customer=np.array([each.id_number for each in records]),
        node=np.array([each.node - 1 for each in records]),
        class_=np.array(
            [CLASSES.index(each.customer_class) if each.customer_class in CLASSES else 0 for each in records]
        ),
        arrives_s=np.array([each.arrival_date for each in records], dtype=float),
        work_s=work_s,
        starts_s=starts_s,
        ends_s=np.array([each.service_end_date for each in records], dtype=float),
    )


def visits_in_twin(network: Network, visits: Visits) -> Visits:
    """Let the twin serve the same customers."""
    count = len(visits.customer)
    pools = [
        PoolSpec(
            queues=tuple(QueueSetting(name=f"{at}-{name}", priority=each + 1) for each, name in enumerate(CLASSES)),
            limit=node.slots,
            owned=False,
            poll_s=0.0,
            prefetch_s=0.0,
            startup_s=0.0,
        )
        for at, node in enumerate(network.nodes)
    ]
    deployments = [
        DeploymentSpec(name=f"{at}-{name}", queue=f"{at}-{name}", resources=() if node.shared is None else (f"{at}",))
        for at, node in enumerate(network.nodes)
        for name in CLASSES
    ]
    resources = [
        ResourceSpec(name=f"{at}", capacity=node.shared, slowdown=1.0)
        for at, node in enumerate(network.nodes)
        if node.shared is not None
    ]
    later = np.flatnonzero(visits.customer[1:] == visits.customer[:-1]) + 1
    never = np.full(count, np.inf)
    runs = Runs(
        deployment=visits.node * len(CLASSES) + visits.class_,
        scheduled_s=visits.arrives_s,
        known_s=visits.arrives_s,
        work_s=visits.work_s,
        p50_s=np.maximum(visits.work_s, 1e-6),
        spread=np.zeros(count),
        due_s=never,
        due_within_s=never,
        outcome_source=np.full(count, COMPLETES, np.int8),
        edges=np.column_stack([later - 1, later]).astype(np.int64),
    )
    twin = Twin(build_world(pools, deployments, runs, resources=resources))
    twin.finish(math.inf)
    served = twin.state.runs[0]
    return Visits(
        customer=visits.customer,
        node=visits.node,
        class_=visits.class_,
        arrives_s=served["scheduled_s"].copy(),
        work_s=visits.work_s,
        starts_s=served["started_s"].copy(),
        ends_s=served["finished_s"].copy(),
    )


def compare_networks(customers: int, seed: int = 0, within_s: float = 1e-6) -> dict[str, float]:
    """The twin against Ciw.

    Args:
        customers: About so many in each network.
        seed: Of what Ciw draws.
        within_s: Two starts that differ by less are the same: sums of floats differ in their last digits.

    Returns:
        `ciw_visits`; the share of visits of all networks that start at the same instant (`ciw_starts_agree`); the
        largest difference of an end, in seconds (`ciw_ends_error_s`).
    """
    count, same, worst = 0, 0, 0.0
    for network in networks(customers, seed).values():
        there = visits_in_ciw(network, seed)
        here = visits_in_twin(network, there)
        count += len(there.customer)
        same += int(np.sum(np.abs(here.starts_s - there.starts_s) <= within_s))
        worst = max(worst, float(np.abs(here.ends_s - there.ends_s).max()))
    return {"ciw_visits": count, "ciw_starts_agree": same / count, "ciw_ends_error_s": worst}
