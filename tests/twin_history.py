"""A history as `sync` would have filled it, from a world of the twin: the run_spec behind it is known."""

import json
import math
from datetime import UTC, datetime

import numpy as np

from prefect_intelligent.domain import Terms
from prefect_intelligent.history.adapters.sql_runs import SqlRuns
from prefect_intelligent.history.rows import DeploymentFact, EventFact, QueueFact, RunFact, StateFact
from prefect_intelligent.twin.model import event_log as kinds
from prefect_intelligent.twin.model import state as phases
from prefect_intelligent.twin.simulator import Twin
from simulations.arrivals import DAY_S, Cron, Interval, RRule
from simulations.workload import Scenario, draw_world

POOL = "etl"
_STATES = {
    phases.COMPLETED: "COMPLETED",
    phases.FAILED: "FAILED",
    phases.CRASHED: "CRASHED",
    phases.CANCELLED: "CANCELLED",
}


def keep_history(store: SqlRuns, scenario: Scenario, seed: int = 1) -> Twin:
    """Play the scenario unsteered and keep what a server would remember of its first pool; returns the played twin."""
    twin = Twin(draw_world(scenario, seed), log=True)
    twin.finish()
    runs, states = [], []
    count = int(twin.world.settings["runs"][0])
    log = twin.log()
    started = np.full(count, np.nan)
    begun = log[log["kind"] == kinds.STARTED][::-1]  # the first start of each run stays
    started[begun["run"]] = begun["at_s"]
    for number in range(count):
        run_spec, run_state = twin.world.runs[0, number], twin.state.runs[0, number]
        source = scenario.sources[int(run_spec["deployment"])]
        due_s = float(run_state["due_s"])
        runs.append(
            RunFact(
                run_id=f"run-{number}",
                name=f"run-{number}",
                pool=POOL,
                queue=source.terms.queue,
                deployment=source.terms.name,
                version="v1",
                host="h",
                state=_STATES[int(run_state["phase"])],
                cause=None,
                scheduled_s=float(run_state["scheduled_s"]),
                submitted_s=float(run_state["scheduled_s"]),
                started_s=None if math.isnan(started[number]) else float(started[number]),
                ended_s=float(run_state["finished_s"]),
                due_s=due_s if math.isfinite(due_s) else None,
                size=None,
                expected_s=None,
                attempts=int(run_state["failures"] + run_state["crashes"]) + 1,
                late_usd_per_hour=source.terms.late_usd_per_hour,
                failure_usd=source.terms.failure_usd,
                message=None,
            )
        )
    for entry in log:
        run_id, at_s = f"run-{entry['run']}", float(entry["at_s"])
        if entry["kind"] == kinds.CLAIMED:
            states.append(StateFact(run_id, at_s, "PENDING", "Pending"))
        elif entry["kind"] == kinds.STARTED:
            retried = any(s.run_id == run_id and s.name == "AwaitingRetry" for s in states[-200:])
            states.append(StateFact(run_id, at_s, "RUNNING", "Retrying" if retried else "Running"))
        elif entry["kind"] == kinds.RETRY:
            states.append(StateFact(run_id, at_s, "SCHEDULED", "AwaitingRetry"))
        elif entry["kind"] == kinds.DONE:
            states.append(StateFact(run_id, at_s, name := _STATES[int(entry["where"])], name.capitalize()))
    pool = scenario.pools[0]
    store.put(runs=runs, states=states, events=[*_taken(twin, scenario), *_occupied(log, twin, scenario)])
    store.put_queues(
        [
            QueueFact(POOL, "", scenario.start_s - DAY_S, None, pool.limit, False),
            *(QueueFact(POOL, q.name, scenario.start_s - DAY_S, q.priority, q.limit, q.paused) for q in pool.queues),
        ]
    )
    store.put_deployments([_deployment(source, scenario) for source in scenario.sources])
    return twin


def _taken(twin: Twin, scenario: Scenario) -> list[EventFact]:
    """What workers say when they submit runs; who had a run last, as the twin keeps it."""
    workers, name = scenario.pools[0].workers, "prefect.worker.submitted-flow-run"
    if not workers:
        return []
    own = twin.state.runs[0, : int(twin.world.settings["runs"][0])]
    return [
        EventFact(
            f"taken-{run}",
            float(own["claimed_s"][run]),
            name,
            f"prefect.worker.process.{workers[own['worker'][run]].name}",
            json.dumps({"name": workers[own["worker"][run]].name, "run_id": f"run-{run}"}),
        )
        for run in np.flatnonzero(np.isfinite(own["first_claimed_s"]))
    ]


def _occupied(log, twin: Twin, scenario: Scenario) -> list[EventFact]:
    """What runs say when they have taken slots of limits."""
    capacity = {resource.name: resource.capacity for resource in scenario.resources}
    found = []
    for number, entry in enumerate(log[log["kind"] == kinds.STARTED]):
        named = scenario.sources[int(twin.world.runs[0, entry["run"]]["deployment"])].terms.resources
        for name in sorted(set(named)):
            told = {"name": name, "run_id": f"run-{entry['run']}", "slots": str(named.count(name))}
            told["limit"] = f"{capacity[name]:g}"
            event = "prefect.concurrency-limit.acquired"
            found.append(
                EventFact(f"occupied-{number}-{name}", float(entry["at_s"]), event, f"limit.{name}", json.dumps(told))
            )
    return found


def _deployment(source, scenario: Scenario) -> DeploymentFact:
    terms = Terms(deadline=source.deadline, late_usd_per_hour=source.terms.late_usd_per_hour)
    details = {
        "schedules": _schedules(source.arrivals, scenario.start_s),
        "concurrency_limit": source.terms.limit,
        "limit_name": source.terms.limit_group or (source.terms.limit and f"deployment:{source.terms.name}"),
        "collision_strategy": "CANCEL_NEW" if source.terms.cancels_new else None,
        "terms": terms.to_dict(),
    }
    name = source.terms.name
    return DeploymentFact(
        name, name, POOL, source.terms.queue, "v1", False, scenario.start_s, json.dumps(details, default=str)
    )


def _schedules(arrivals, start_s: float) -> list[dict]:
    if isinstance(arrivals, Cron):
        return [{"cron": arrivals.cron, "timezone": arrivals.timezone}]
    if isinstance(arrivals, RRule):
        return [{"rrule": arrivals.rrule}]
    if isinstance(arrivals, Interval):
        anchor = datetime.fromtimestamp(start_s - start_s % DAY_S + arrivals.offset_s, UTC).isoformat()
        return [{"interval": arrivals.every_s, "anchor_date": anchor, "timezone": "UTC"}]
    return []
