"""How fast the twin is: `python -m benchmarks.simulator [--json]`.

The same customers (M/M/c with priorities) are served by the twin, SimPy and Ciw, one thread each; an event is an
arrival, a start or an end, for all three. Times are CPU time of the thread, best of several, except for the
environment, which uses two threads and wall time.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import ciw
import numpy as np
import simpy

from prefect_intelligent.policy.actions import NEUTRAL_CAPACITY, NEUTRAL_PLACE, NEUTRAL_SHARE
from prefect_intelligent.policy.regime import Regime
from prefect_intelligent.twin.model.stacking import stack
from prefect_intelligent.twin.model.world import World
from prefect_intelligent.twin.simulator import Twin
from prefect_intelligent.twin.warm import warm
from simulations.envs.batch import Batch, BatchSettings
from simulations.family import Family
from simulations.scenario import load_scenario, scenario_names
from simulations.theory import station
from simulations.workload import draw_world

SLOTS, CLASSES, LOAD = 16, 4, 0.85
PENDING = (100, 1_000, 10_000, 100_000)
MINUTE = Regime(interval_s=60.0)


def best_s(work: Callable[[], Any], times: int) -> float:
    """Least CPU time of the thread over some repetitions."""
    spent = []
    for _ in range(times):
        start = time.thread_time()
        work()
        spent.append(time.thread_time() - start)
    return min(spent)


def customers(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arrival instants, service times and classes."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1.0 / (SLOTS * LOAD), count))
    return arrivals, rng.exponential(1.0, count), rng.integers(0, CLASSES, count)


def serve_here(arrivals: np.ndarray, work: np.ndarray, classes: np.ndarray) -> tuple[float, float]:
    """CPU seconds and mean wait in the twin."""
    world = station(arrivals, work, classes, SLOTS, priorities=tuple(range(1, CLASSES + 1)))
    twin = Twin(world)

    def go() -> None:
        twin.begin()
        start = time.thread_time()
        twin.finish(1e12)
        spent.append(time.thread_time() - start)

    spent: list[float] = []
    for _ in range(5):
        go()
    runs = twin.state.runs[0]
    return min(spent), float(np.mean(runs["first_claimed_s"] - runs["scheduled_s"]))


def serve_simpy(arrivals: np.ndarray, work: np.ndarray, classes: np.ndarray) -> tuple[float, float]:
    """The same in SimPy."""
    waited = 0.0

    def go() -> None:
        nonlocal waited
        waited = 0.0
        env = simpy.Environment()
        servers = simpy.PriorityResource(env, SLOTS)

        def customer(length: float, priority: int) -> Any:
            nonlocal waited
            came = env.now
            with servers.request(priority=priority) as turn:
                yield turn
                waited += env.now - came
                yield env.timeout(length)

        def source() -> Any:
            last = 0.0
            for at, length, priority in zip(arrivals.tolist(), work.tolist(), classes.tolist(), strict=True):
                yield env.timeout(at - last)
                last = at
                env.process(customer(length, priority))

        env.process(source())
        env.run()

    spent = best_s(go, 3)
    return spent, waited / len(arrivals)


def serve_ciw(arrivals: np.ndarray, work: np.ndarray, classes: np.ndarray) -> tuple[float, float]:
    """The same in Ciw."""
    names = [f"Class {each}" for each in range(CLASSES)]
    gaps = {
        name: [ciw.dists.Sequential([*np.diff(arrivals[classes == each], prepend=0.0).tolist(), math.inf])]
        for each, name in enumerate(names)
    }
    lengths = {name: [ciw.dists.Sequential(work[classes == each].tolist())] for each, name in enumerate(names)}
    network = ciw.create_network(
        arrival_distributions=gaps,
        service_distributions=lengths,
        number_of_servers=[SLOTS],
        priority_classes={name: each for each, name in enumerate(names)},
    )
    start = time.thread_time()
    simulation = ciw.Simulation(network)
    simulation.simulate_until_max_customers(len(arrivals), method="Finish")
    spent = time.thread_time() - start
    return spent, float(np.mean([record.waiting_time for record in simulation.get_all_records()]))


def cost_curve(events: int = 100_000) -> dict[int, float]:
    """Seconds per event by the number of runs that wait all the while, over 8 queues of different priority."""
    rng = np.random.default_rng(1)
    curve = {}
    for pending in PENDING:
        fresh = events // 3
        ahead = rng.uniform(0.0, 1.0, pending)
        gaps = 1.0 + np.cumsum(rng.exponential(1.0 / SLOTS, fresh))
        arrivals = np.concatenate([np.sort(ahead), gaps])
        work = rng.exponential(1.0, len(arrivals))
        world = station(arrivals, work, rng.integers(0, 8, len(arrivals)), SLOTS, priorities=tuple(range(1, 9)))
        twin = Twin(world)
        spent = []
        for _ in range(5):
            twin.begin()
            twin.advance(1.0)
            before, start = int(twin.state.totals["events"][0]), time.thread_time()
            twin.advance(float(gaps[-1]))
            spent.append((time.thread_time() - start) / (int(twin.state.totals["events"][0]) - before))
        curve[pending] = min(spent)
    return curve


def full_rate() -> float:
    """Events per CPU second over all scenarios of one pool, every mechanism in use, to the last run."""
    names = [name for name in scenario_names() if name not in ("family", "toy", "two-pools-budget")]
    worlds: list[World] = [draw_world(load_scenario(name), seed) for name in names for seed in range(4)]
    twin = Twin(stack(worlds))
    spent = []
    for _ in range(3):
        twin.begin()
        start = time.thread_time()
        twin.finish()
        spent.append(time.thread_time() - start)
    return float(twin.state.totals["events"].sum()) / min(spent)


def env_rate(guarded: bool, stretches: int = 16, steps: int = 25, times: int = 6) -> float:
    """Decisions of single worlds per second of wall time: 64 worlds of 8 queues, observation and reward included.

    The same 400 steps are gone through several times; of each stretch of 25 the least time counts, since two cores are
    rarely free for longer on a machine that does anything else.
    """
    settings = BatchSettings(deck=64, scenario=Family(queues=(8, 8)), regime=MINUTE, guarded=guarded, threads=2)
    batch = Batch(64, settings, np.random.default_rng(0))
    row = [NEUTRAL_CAPACITY, *[NEUTRAL_PLACE] * batch.width, *[NEUTRAL_SHARE] * batch.width]
    action = np.tile(row, (batch.rows, 1))
    best = np.full(stretches, math.inf)
    for _ in range(times):
        batch.reset({"first": 0})
        for stretch in range(stretches):
            start = time.perf_counter()
            for _ in range(steps):
                batch.step(action)
                batch.observe()
            best[stretch] = min(best[stretch], time.perf_counter() - start)
    return 64 * stretches * steps / float(best.sum())


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; 1 if the three simulators disagree on the mean wait."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulator", description="How fast the twin is.")
    parser.add_argument("--customers", type=int, default=200_000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    warm()
    many, few = customers(args.customers), customers(20_000)
    here_s, here_wait = serve_here(*many)
    _, few_wait = serve_here(*few)
    simpy_s, simpy_wait = serve_simpy(*few)
    ciw_s, ciw_wait = serve_ciw(*few)
    rates = {
        "events_per_s": 3 * args.customers / here_s,
        "simpy_events_per_s": 3 * len(few[0]) / simpy_s,
        "ciw_events_per_s": 3 * len(few[0]) / ciw_s,
    }
    curve = cost_curve()
    guarded, unguarded = env_rate(guarded=True), env_rate(guarded=False)
    figures = {
        **rates,
        "events_vs_simpy": rates["events_per_s"] / rates["simpy_events_per_s"],
        "full_events_per_s": full_rate(),
        "env_steps_per_s": guarded,
        "env_steps_per_s_unguarded": unguarded,
        "env_steps_vs_simpy_events": guarded / rates["simpy_events_per_s"],
        "cost_growth_100_to_100k": curve[PENDING[-1]] / curve[PENDING[0]],
        "mean_wait": few_wait,
        "mean_wait_largest_difference": max(abs(simpy_wait - few_wait), abs(ciw_wait - few_wait)),
    }
    context = {
        "workload": f"M/M/{SLOTS}, {CLASSES} priorities, utilisation {LOAD}; event = arrival, start or end",
        "customers": {"here": args.customers, "simpy": len(few[0]), "ciw": len(few[0])},
        "mean_wait_of_many": here_wait,
        "log_growth_100_to_100k": math.log(PENDING[-1]) / math.log(PENDING[0]),
        "microseconds_per_event_by_pending": {str(pending): spent * 1e6 for pending, spent in curve.items()},
    }
    if args.json:
        print(json.dumps({"figures": figures, "context": context}, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:32} {value:16,.4f}")
        for pending, spent in curve.items():
            print(f"with {pending:7,} pending: {spent * 1e6:.3f} us per event")
    return 0 if figures["mean_wait_largest_difference"] < 1e-6 * few_wait else 1


if __name__ == "__main__":
    sys.exit(main())
