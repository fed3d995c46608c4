"""Compare the twin with formulas of queueing theory; printed by `python -m simulations.validate`.

Each case is a pool without polls and start-up times, which makes it a textbook queue, and compares a simulated mean
with its formula. Intervals are from batch means over 40 batches, 99 % two-sided.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from prefect_intelligent.domain import QueueSetting
from prefect_intelligent.policy.census import Array
from prefect_intelligent.twin.build import build_world
from prefect_intelligent.twin.model.state import CANCELLED
from prefect_intelligent.twin.model.world import World
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.spec import DeploymentSpec, PoolSpec, Runs

_BATCHES: Final = 40
_T99: Final = 2.708  # 99.5 % quantile of Student's t with 39 degrees of freedom
_WARM_UP: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One comparison.

    Attributes:
        case: What was simulated.
        figure: Name of the figure.
        theory: Its exact value.
        twin: Its simulated mean.
        half_width: Half width of the 99 % interval of that mean.
    """

    case: str
    figure: str
    theory: float
    twin: float
    half_width: float

    @property
    def holds(self) -> bool:
        """Whether the interval contains the exact value."""
        return bool(abs(self.twin - self.theory) <= self.half_width)


def station(
    arrivals_s: Array,
    work_s: Array,
    classes: Array,
    slots: int,
    *,
    priorities: Sequence[int] = (1,),
    room: int | None = None,
    seed: int = 0,
) -> World:
    """A pool without delays, with one queue per class of customers.

    Args:
        arrivals_s: When each customer arrives, ascending.
        work_s: Service time of each.
        classes: Queue of each, a whole number.
        slots: Number of servers.
        priorities: Priority of each queue.
        room: Customers in the system at most; None for no bound.
        seed: Of the world.
    """
    n = len(arrivals_s)
    queues = tuple(QueueSetting(name=f"class-{each}", priority=p) for each, p in enumerate(priorities))
    runs = Runs(
        deployment=classes.astype(np.int64),
        scheduled_s=arrivals_s,
        known_s=arrivals_s,
        work_s=work_s,
        p50_s=np.maximum(work_s, 1e-9),
        spread=np.zeros(n),
        due_s=np.full(n, np.inf),
        due_within_s=np.full(n, np.inf),
        outcome_source=np.zeros(n, dtype=np.int8),
        edges=np.zeros((0, 2), dtype=np.int64),
    )
    pool = PoolSpec(queues=queues, limit=slots, max_slots=slots, poll_s=0.0, startup_s=0.0, prefetch_s=0.0, room=room)
    deployments = [DeploymentSpec(name=f"flow/{queue.name}", queue=queue.name) for queue in queues]
    return build_world([pool], deployments, runs, seed=seed)


def waits_of(world: World) -> tuple[Array, Array]:
    """Wait of each customer, NaN if it was turned away, and whether it was turned away (0 or 1)."""
    twin = Twin(world)
    twin.finish(1e12)
    runs = twin.state.runs[0]
    waits: Array = runs["first_claimed_s"] - runs["scheduled_s"]
    return waits, (runs["phase"] == CANCELLED).astype(float)


def interval(values: Array) -> tuple[float, float]:
    """Mean and half width of its 99 % interval, by batch means after a warm-up."""
    kept = values[int(_WARM_UP * len(values)) :]
    kept = kept[np.isfinite(kept)]
    means = kept[: len(kept) // _BATCHES * _BATCHES].reshape(_BATCHES, -1).mean(axis=1)
    return float(means.mean()), float(_T99 * means.std(ddof=1) / math.sqrt(_BATCHES))


def erlang_c(servers: int, load: float) -> float:
    """Probability that a customer of M/M/c waits; `load` is arrival rate over service rate. Erlang 1917."""
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    return blocked / (1.0 - load / servers * (1.0 - blocked))


def states_mmck(servers: int, load: float, room: int) -> Array:
    """Probability of 0 to `room` customers in M/M/c/K."""
    log = [0.0]
    for count in range(1, room + 1):
        log.append(log[-1] + math.log(load / min(count, servers)))
    weights = np.exp(np.array(log) - max(log))
    out: Array = weights / weights.sum()
    return out


def littles_law(customers: int, rng: np.random.Generator) -> Check:
    """Little's law on M/M/4: the mean number waiting is the arrival rate times the mean wait.

    It is exact but for the customers that still wait at the end, so the half width is one per cent.
    """
    arrivals = np.cumsum(rng.exponential(1.0 / 3.4, customers))
    waits, _ = waits_of(station(arrivals, rng.exponential(1.0, customers), np.zeros(customers), 4))
    served = arrivals + waits
    instants = np.linspace(0.0, float(arrivals[-1]), 20 * customers // 100)
    waiting = np.searchsorted(arrivals, instants, side="right") - np.searchsorted(np.sort(served), instants, "right")
    expected = customers / float(arrivals[-1]) * float(waits.mean())
    case = "Little's law on M/M/4"
    return Check(
        case=case, figure="mean number waiting", theory=expected, twin=float(waiting.mean()), half_width=0.01 * expected
    )


def sweep(servers: int, utilisations: Sequence[float], customers: int, seed: int) -> list[Check]:
    """Mean wait of M/M/c over a range of utilisations."""
    rng = np.random.default_rng(seed)
    found = []
    for utilisation in utilisations:
        load = servers * utilisation
        arrivals = np.cumsum(rng.exponential(1.0 / load, customers))
        waits, _ = waits_of(station(arrivals, rng.exponential(1.0, customers), np.zeros(customers), servers))
        mean, half = interval(waits)
        exact = erlang_c(servers, load) / (servers - load)
        found.append(
            Check(case=f"M/M/{servers}, {utilisation}", figure="mean wait", theory=exact, twin=mean, half_width=half)
        )
    return found


def checks(customers: int = 400_000, seed: int = 1) -> list[Check]:
    """Every comparison.

    Args:
        customers: Number of customers per case.
        seed: Of all draws.
    """
    rng = np.random.default_rng(seed)
    one = np.zeros(customers)
    found: list[Check] = []

    def poisson(rate: float) -> Array:
        return np.cumsum(rng.exponential(1.0 / rate, customers))

    def add(case: str, figure: str, theory: float, values: Array) -> None:
        mean, half = interval(values)
        found.append(Check(case=case, figure=figure, theory=theory, twin=mean, half_width=half))

    for servers, load in ((1, 0.8), (4, 3.4), (16, 14.0)):
        waits, _ = waits_of(station(poisson(load), rng.exponential(1.0, customers), one, servers))
        name = f"M/M/{servers}, utilisation {load / servers:.2f}"
        add(name, "mean wait", erlang_c(servers, load) / (servers - load), waits)
        add(name, "share that waits", erlang_c(servers, load), (waits > 0).astype(float))

    for name, work in (
        ("M/D/1", np.ones(customers)),
        ("M/G/1, lognormal with variance 1", rng.lognormal(-0.5 * math.log(2.0), math.sqrt(math.log(2.0)), customers)),
        ("M/G/1, uniform 0 to 2", rng.uniform(0.0, 2.0, customers)),
    ):
        second = {"M/D/1": 1.0, "M/G/1, uniform 0 to 2": 4.0 / 3.0}.get(name, 2.0)
        waits, _ = waits_of(station(poisson(0.7), work, one, 1))
        add(f"{name}, utilisation 0.70", "mean wait", 0.7 * second / 2.0 / 0.3, waits)

    for servers in (1, 5):
        shares = np.array([0.3, 0.3, 0.25])  # utilisation by class, highest priority first
        classes = rng.choice(3, customers, p=shares / shares.sum()).astype(float)
        total = float(shares.sum()) * servers
        world = station(poisson(total), rng.exponential(1.0, customers), classes, servers, priorities=(1, 2, 3))
        waits, _ = waits_of(world)
        residual = erlang_c(servers, total) / servers
        higher = 0.0  # utilisation by higher priorities
        for each, share in enumerate(shares):
            theory = residual / (1.0 - higher) / (1.0 - higher - share)
            higher += share
            add(f"priorities on M/M/{servers}, class {each + 1} of 3", "mean wait", theory, waits[classes == each])

    servers, load, room = 3, 3.6, 8
    states = states_mmck(servers, load, room)
    waits, lost = waits_of(station(poisson(load), rng.exponential(1.0, customers), one, servers, room=room))
    queued = float(np.sum(np.maximum(np.arange(room + 1) - servers, 0) * states))
    add(f"M/M/{servers}/{room}, offered {load}", "share turned away", float(states[-1]), lost)
    add(f"M/M/{servers}/{room}, offered {load}", "mean wait", queued / (load * (1.0 - float(states[-1]))), waits)
    found.append(littles_law(customers, rng))
    return found
