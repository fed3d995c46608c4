"""The deployments, and the runs of the morning that is submitted in both arms.

Import this module only after `prepare_environment` has been called: it imports Prefect.

Deadlines: a run of the morning is due 25 s after its scheduled start. That is enough for its own few seconds, for one
run before it (nothing is interrupted) and for some polls of the worker, on a machine half as fast as the one it was
written on. The small reference tables have three minutes, the backfill ten.

A price is the cost of an hour of lateness, with that of all later steps included: a late report costs 60 USD per hour;
each mart adds 40, the join and the cleaning 20, an ingest 10. So an upstream costs more than its downstreams, and a
policy that orders by price starts the upstream first.

A short warm-up measures how often a slot takes a new run on this machine, and the size of the morning follows from that
(`Size`): the pool is busy on a fast machine, and the demo ends in time on a slow one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Any, Self

import numpy as np
from prefect import Flow

from flows.backfill_history import backfill_history
from flows.build_marts import mart_airlines, mart_airports
from flows.clean_flights import clean_flights
from flows.ingest_tables import ingest_airlines, ingest_airports, ingest_flights, ingest_planes, ingest_weather
from flows.join_weather import join_weather
from flows.write_report import write_report
from prefect_intelligent.domain import Terms
from prefect_intelligent.flow.decorator import terms_of

DEPLOYMENT = "morning"
DAYS = (date(2013, 2, 8), date(2013, 2, 9))
"""The two days of the blizzard "Nemo", on which half of all flights were cancelled."""
YEAR_START, YEAR_DAYS = date(2013, 1, 1), 365
MIN_BACKFILL, MAX_BACKFILL = 12, 90
MIN_STEP_S, MAX_STEP_S = 7.0, 12.0
CYCLES_A_STEP, SPARE = 2.5, 1.2
LONGEST_ARM_S = 110.0
WARM_UP = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """One deployment of the demo.

    Attributes:
        flow: The flow, with the terms of `@intelligent`.
        queue: Its work queue.
    """

    flow: Flow[Any, Any]
    queue: str

    @property
    def entrypoint(self) -> str:
        """Its entrypoint for Prefect, "flows/file.py:function"."""
        return f"{self.flow.fn.__module__.replace('.', '/')}.py:{self.flow.fn.__name__}"

    @property
    def name(self) -> str:
        """Name of the deployment, "flow/deployment"."""
        return f"{self.flow.name}/{DEPLOYMENT}"

    @property
    def terms(self) -> Terms:
        """Deadline, prices and datasets of its runs."""
        terms = terms_of(self.flow)
        assert terms is not None, f"{self.flow.name} has no @intelligent(...)"
        return terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One run to submit.

    Attributes:
        pipeline: What to run.
        offset_s: Scheduled start, seconds after the arm begins.
        parameters: Parameters of the flow, JSON-ready.
    """

    pipeline: Pipeline
    offset_s: float
    parameters: Mapping[str, Any]


BACKFILL = "backfill"
_FLOWS: Mapping[str, tuple[Flow[Any, Any], ...]] = {
    "ingest": (ingest_flights, ingest_weather),
    "reference": (ingest_planes, ingest_airports, ingest_airlines),
    "refine": (clean_flights, join_weather),
    "marts": (mart_airlines, mart_airports),
    "reports": (write_report,),
    BACKFILL: (backfill_history,),
}
PIPELINES = tuple(Pipeline(flow=flow, queue=queue) for queue, flows in _FLOWS.items() for flow in flows)
QUEUES = tuple(_FLOWS)

_BY_FLOW = {pipeline.flow.name: pipeline for pipeline in PIPELINES}

MORNING = (
    (0.0, "ingest-flights"), (0.1, "ingest-weather"), (0.2, "ingest-planes"), (0.3, "ingest-airports"),
    (0.4, "ingest-airlines"), (1.0, "clean-flights"), (2.0, "join-weather"), (3.0, "mart-airlines"),
    (3.1, "mart-airports"), (4.0, "write-report"),
)  # fmt: skip
"""The chain of one day with its offsets in steps: each run is scheduled some time after those it reads from."""
MORNING_AFTER_S, SECOND_DAY_AFTER_STEPS = 4.0, 1.6
SMALL = ("ingest-flights", "clean-flights", "mart-airlines", "write-report")
SMALL_MORNING_AFTER_S = 0.5
REFERENCE = ("ingest-planes", "ingest-airports", "ingest-airlines")
RUNS_OF_THE_MORNING = len(DAYS) * len(MORNING) - (len(DAYS) - 1) * len(REFERENCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The size of the morning on this machine.

    Attributes:
        backfill: Runs of the backfill.
        step_s: Seconds from one step of the chain to the next.
    """

    backfill: int
    step_s: float

    @classmethod
    def fit(cls, cycle_s: float, slots: int) -> Self:
        """Size for a pool in which a slot takes a new run every `cycle_s` seconds.

        A step lasts two and a half such cycles, so that a run that does not wait has ended when the next one reads its
        output. The backfill keeps the pool busy while the morning arrives, with a fifth to spare in case the machine
        becomes faster. Bounds on both keep the demo under six minutes.
        """
        step_s = min(max(CYCLES_A_STEP * cycle_s, MIN_STEP_S), MAX_STEP_S)
        busy_s = MORNING_AFTER_S + (MORNING[-1][0] + SECOND_DAY_AFTER_STEPS) * step_s
        affordable = slots * LONGEST_ARM_S / cycle_s - RUNS_OF_THE_MORNING
        backfill = round(min(SPARE * slots * busy_s / cycle_s, affordable))
        return cls(backfill=min(max(backfill, MIN_BACKFILL), MAX_BACKFILL), step_s=step_s)


SMALL_SIZE = Size(backfill=8, step_s=4.0)


def measure_cycle_s(started_s: Sequence[float], slots: int) -> float:
    """Seconds from one start to the next in a slot, from the starts of runs that were all due at once.

    The time before the first start in each slot (submitting, the first poll) does not count.

    Args:
        started_s: When the runs took a slot; more of them than slots.
        slots: Slots of the pool.
    """
    in_order = sorted(started_s)
    return slots * (in_order[-1] - in_order[slots - 1]) / (len(in_order) - slots)


def plan_backfill(stretches: int) -> list[Launch]:
    """The runs of the backfill, all due at once, one for each of `stretches` equal parts of the year."""
    cuts = [YEAR_START + timedelta(days=round(index * YEAR_DAYS / stretches)) for index in range(stretches + 1)]
    return [
        Launch(
            pipeline=_BY_FLOW["backfill-history"],
            offset_s=0.0,
            parameters={"first": first.isoformat(), "last": (after - timedelta(days=1)).isoformat()},
        )
        for first, after in pairwise(cuts)
    ]


def plan_morning(size: Size, seed: int, *, small: bool = False) -> list[Launch]:
    """The runs of one arm in the order of their submission.

    First the backfill, then the chains of two days, the second some seconds after the first, each offset shifted at
    random by up to a second.

    Args:
        size: Size of the morning.
        seed: Of the shifts.
        small: Only four runs of one day, the first of them as soon as the backfill has begun; for tests.
    """
    rng = np.random.default_rng(seed)
    chain: list[Launch] = []
    after_s = SMALL_MORNING_AFTER_S if small else MORNING_AFTER_S
    for number, day in enumerate(DAYS[:1] if small else DAYS):
        for steps, flow in MORNING:
            if (flow in REFERENCE and number) or (small and flow not in SMALL):
                continue
            start_s = after_s + (steps + number * SECOND_DAY_AFTER_STEPS) * size.step_s + rng.uniform(0.0, 1.0)
            parameters = {} if flow in REFERENCE else {"day": day.isoformat()}
            chain.append(Launch(pipeline=_BY_FLOW[flow], offset_s=round(start_s, 2), parameters=parameters))
    return plan_backfill(size.backfill) + sorted(chain, key=lambda launch: launch.offset_s)


def feeding(launches: Sequence[Launch]) -> list[tuple[int, ...]]:
    """For each launch the indexes of those whose output it reads: of the same day, or a table without days."""
    found = []
    for launch in launches:
        day = launch.parameters.get("day")
        found.append(
            tuple(
                index
                for index, other in enumerate(launches)
                if set(other.pipeline.terms.outputs) & set(launch.pipeline.terms.inputs)
                and other.parameters.get("day", day) == day
            )
        )
    return found
