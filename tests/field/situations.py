"""Situations in which a run does not start, planted on a real server, each with the reasons that are right.

Shared by `test_why.py` and the benchmark (`python -m benchmarks.field`). A plant changes the stage and leaves there
what undoes it; `due` comes at its place in the list and makes the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.claims import in_force
from tests.field.owners import Owner
from tests.field.stage import Stage, ago
from tests.real_prefect import iso

Plant = Callable[[Stage], object]


@dataclass(frozen=True)
class Situation:
    """One situation.

    Attributes:
        name: Of it.
        plants: What is done, in order.
        reasons: Names of the right reasons, in the right order.
        do: Part of the right advice.
        begins: Whether the run starts once everything is undone; None where there is none that could.
        blocked: Whether a worker that polls now does not start it; None where that cannot be seen.
    """

    name: str
    plants: tuple[Plant, ...]
    reasons: tuple[str, ...]
    do: str = ""
    begins: bool | None = True
    blocked: bool | None = True


def due(stage: Stage) -> None:
    stage.due()


# Pools and queues


def pool_paused(stage: Stage) -> None:
    stage.call("PATCH", f"/work_pools/{stage.pool}", {"is_paused": True})
    stage.later(lambda: stage.call("PATCH", f"/work_pools/{stage.pool}", {"is_paused": False}))


def pool_zero(stage: Stage) -> None:
    stage.call("PATCH", f"/work_pools/{stage.pool}", {"concurrency_limit": 0})
    stage.later(lambda: stage.call("PATCH", f"/work_pools/{stage.pool}", {"concurrency_limit": None}))


def pool_full(stage: Stage) -> None:
    stage.call("PATCH", f"/work_pools/{stage.pool}", {"concurrency_limit": 1})
    run = stage.begun[-1] if stage.begun else stage.begin(stage.other)
    stage.later(lambda: stage.end(run))


def queue_paused(stage: Stage) -> None:
    stage.call("PATCH", f"/work_queues/{stage.queue_id}", {"is_paused": True})
    stage.later(lambda: stage.call("PATCH", f"/work_queues/{stage.queue_id}", {"is_paused": False}))


def queue_zero(stage: Stage) -> None:
    stage.call("PATCH", f"/work_queues/{stage.queue_id}", {"concurrency_limit": 0})
    stage.later(lambda: stage.call("PATCH", f"/work_queues/{stage.queue_id}", {"concurrency_limit": None}))


def queue_full(stage: Stage) -> None:
    stage.call("PATCH", f"/work_queues/{stage.queue_id}", {"concurrency_limit": 1})
    run = stage.begun[-1] if stage.begun else stage.begin(stage.other)
    stage.later(lambda: stage.end(run))


def queue_gone(stage: Stage) -> None:
    stage.owner.edit(work_pool_name=stage.pool, work_queue_name="default")
    stage.other.edit(work_pool_name=stage.pool, work_queue_name="default")
    stage.call("DELETE", f"/work_pools/{stage.pool}/queues/q")
    stage.later(stage.due)


def behind(stage: Stage) -> None:
    stage.api.queue(stage.pool, "first", priority=2)
    first = Owner(stage.api, stage.pool, work_queue_name="first")
    stage.call("PATCH", f"/work_pools/{stage.pool}", {"concurrency_limit": 2})
    runs = [first.run(in_s=-1.0) for _ in range(3)]
    stage.later(lambda: [stage.api.set_state(run, "CANCELLED") for run in runs])


def refused_before(stage: Stage) -> None:
    stage.call("PATCH", f"/work_pools/{stage.pool}", {"concurrency_limit": 1})
    set_limit(stage, stage.other, 0)
    runs = [stage.other.run(in_s=-60.0) for _ in range(2)]
    stage.later(lambda: [stage.api.set_state(run, "CANCELLED") for run in runs])


# Workers


def no_worker(stage: Stage) -> None:
    stage.write("DELETE FROM worker WHERE work_pool_id = (SELECT id FROM work_pool WHERE name = ?)", stage.pool)
    stage.later(stage.worker)


def worker_dead(stage: Stage) -> None:
    statement = (
        "UPDATE worker SET last_heartbeat_time = ? WHERE work_pool_id = (SELECT id FROM work_pool WHERE name = ?)"
    )
    stage.write(statement, ago(7200.0), stage.pool)
    stage.later(stage.worker)


def queue_unpolled(stage: Stage) -> None:
    default = stage.api.queues(stage.pool)["default"]["id"]
    stage.write("UPDATE work_queue SET last_polled = ? WHERE id = ?", ago(1.0), default)
    stage.write("UPDATE work_queue SET created = ? WHERE id = ?", ago(900.0), stage.queue_id)
    polled = "UPDATE work_queue SET last_polled = ? WHERE id = ?"
    stage.later(lambda: stage.write(polled, ago(1.0), stage.queue_id))


def workers_full(stage: Stage) -> None:
    stage.worker_slots = 1
    run = stage.begun[-1] if stage.begun else stage.begin(stage.other)
    stage.later(lambda: stage.end(run))


def agent_pool(stage: Stage) -> None:
    stage.write("UPDATE work_pool SET type = 'prefect-agent' WHERE name = ?", stage.pool)


def push_pool(stage: Stage) -> None:
    stage.write("UPDATE work_pool SET type = 'ecs:push' WHERE name = ?", stage.pool)
    no_worker(stage)


# Deployments


def limit_zero(stage: Stage) -> None:
    set_limit(stage, stage.owner, 0)
    stage.later(lambda: set_limit(stage, stage.owner, 5))


def set_limit(stage: Stage, owner: Owner, limit: int) -> None:
    """As `prefect gcl update` does; a deployment's own route takes no 0."""
    if owner.values()["limit"] is None:
        owner.edit(concurrency_limit=1)
    stage.call("PATCH", f"/v2/concurrency_limits/deployment:{owner.id}", {"limit": limit})


def limit_disabled(stage: Stage) -> None:
    stage.owner.edit(concurrency_limit=3)
    name = f"/v2/concurrency_limits/deployment:{stage.owner.id}"
    stage.call("PATCH", name, {"active": False})
    stage.later(lambda: stage.call("PATCH", name, {"active": True}))


def limit_full(stage: Stage) -> None:
    stage.owner.edit(concurrency_limit=1)
    run = stage.begin(stage.owner)
    stage.later(lambda: stage.end(run))


def limit_full_twice(stage: Stage) -> None:
    stage.owner.edit(concurrency_limit=2)
    runs = [stage.begin(stage.owner), stage.begin(stage.owner)]
    stage.later(lambda: stage.end(*runs))


def cancels(stage: Stage) -> None:
    stage.owner.edit(concurrency_options={"collision_strategy": "CANCEL_NEW"})


def proposed(stage: Stage) -> None:
    """A worker has taken it, and Prefect has refused it."""
    assert stage.run is not None
    stage.propose(stage.run)


def leaked(stage: Stage) -> None:
    if stage.owner.values()["limit"] is None:
        stage.owner.edit(concurrency_limit=1)
    limit = stage.owner.values()["limit"]
    free = limit - stage.owner.values()["taken"]
    body = {"names": [f"deployment:{stage.owner.id}"], "slots": free, "mode": "concurrency"}
    stage.call("POST", "/v2/concurrency_limits/increment", body)
    stage.later(lambda: free_slots(stage))


def leaked_beside_a_run(stage: Stage) -> None:
    stage.owner.edit(concurrency_limit=2)
    run = stage.begin(stage.owner)
    stage.later(lambda: stage.end(run))
    leaked(stage)


def free_slots(stage: Stage) -> None:
    from prefect_intelligent.blocking.adapters.free_slots import free_leaked_slots

    with_api(stage, lambda api: free_leaked_slots(api, stage.owner.name))


def with_api(stage: Stage, function: Callable[[PrefectApi], object]) -> None:
    api = PrefectApi(stage.server.api_url, timeout_s=30.0)
    try:
        function(api)
    finally:
        api.close()


def held(stage: Stage) -> None:
    key = f"dataset {stage.pool}"
    with_api(stage, lambda api: in_force.claim(api, key, [stage.owner.name], "hold", 0))
    stage.later(lambda: with_api(stage, lambda api: in_force.release(api, key)))


def prevented(stage: Stage) -> None:
    key = f"prevention of {stage.pool}: keeps-failing deployment:{stage.owner.name}"
    with_api(stage, lambda api: in_force.claim(api, key, [stage.owner.name], "hold", 0))
    stage.later(lambda: with_api(stage, lambda api: in_force.release(api, key)))


def deployment_gone(stage: Stage) -> None:
    """Prefect deletes scheduled runs with their deployment, but not one that runs and is scheduled again later."""
    run = stage.due()
    for state in ("PENDING", "RUNNING"):
        stage.api.set_state(run, state)
    stage.owner.delete()
    stage.schedule(run, -1.0)


def unserved(stage: Stage) -> None:
    stage.owner = Owner.__new__(Owner)
    stage.owner.api, stage.owner.pool, stage.owner.flow, stage.owner.short = (
        stage.api,
        None,
        f"served-{stage.pool}",
        "d",
    )
    flow = stage.call("POST", "/flows/", {"name": stage.owner.flow})["id"]
    body = {"name": "d", "flow_id": flow, "enforce_parameter_schema": False}
    stage.owner.id = stage.call("POST", "/deployments/", body)["id"]


def schedule(stage: Stage, **rule: object) -> None:
    stage.owner.edit(schedules=[{"active": True, "schedule": rule}])


def schedules_paused(stage: Stage) -> None:
    schedule(stage, interval=3600.0)
    stage.owner.edit(paused=True)
    stage.later(lambda: stage.owner.edit(paused=False))


def schedule_over(stage: Stage) -> None:
    schedule(stage, rrule="DTSTART:20200101T000000Z\nRRULE:FREQ=DAILY;UNTIL=20200105T000000Z")


# Runs


def not_due(stage: Stage) -> None:
    run = stage.run = stage.owner.run(in_s=1800.0)
    stage.later(lambda: stage.schedule(run, -1.0))


def postponed(stage: Stage) -> None:
    run = stage.due()
    stage.schedule(run, 1200.0)
    stage.later(lambda: stage.schedule(run, -1.0))


def retry_later(stage: Stage) -> None:
    run = stage.due()
    stage.schedule(run, 300.0, "AwaitingRetry")
    stage.later(lambda: stage.schedule(run, -1.0))


def own_retry(stage: Stage) -> None:
    run = stage.due(empirical_policy={"retries": 1, "retry_delay": 0})
    for state in ("PENDING", "RUNNING", "FAILED"):
        stage.api.set_state(run, state)


def own_retry_dead(stage: Stage) -> None:
    own_retry(stage)
    assert stage.run is not None
    stage.earlier(stage.run, 7200.0)

    def anew() -> None:
        stage.api.set_state(str(stage.run), "CANCELLING")
        stage.due()

    stage.later(anew)


def paused(stage: Stage, name: str = "Paused") -> None:
    run = stage.due()
    for state in ("PENDING", "RUNNING"):
        stage.api.set_state(run, state)
    details = {"pause_timeout": iso(time.time() + 600.0), "pause_reschedule": name == "Suspended"}
    state = {"type": "PAUSED", "name": name, "state_details": details}
    stage.call("POST", f"/flow_runs/{run}/set_state", {"state": state, "force": True})
    if name == "Suspended":
        stage.later(lambda: stage.call("POST", f"/flow_runs/{run}/resume", {}))


def suspended(stage: Stage) -> None:
    paused(stage, "Suspended")


def starting(stage: Stage) -> None:
    stage.api.set_state(stage.due(), "PENDING")


def pending_long(stage: Stage) -> None:
    starting(stage)
    assert stage.run is not None
    stage.earlier(stage.run, 1800.0)


def running(stage: Stage) -> None:
    starting(stage)
    assert stage.run is not None
    stage.api.set_state(stage.run, "RUNNING")


def cancelling(stage: Stage) -> None:
    running(stage)
    assert stage.run is not None
    stage.api.set_state(stage.run, "CANCELLING")


def ended(stage: Stage) -> None:
    running(stage)
    assert stage.run is not None
    stage.end(stage.run)


# Parents


def parents_in_pool(stage: Stage) -> None:
    stage.call("PATCH", f"/work_pools/{stage.pool}", {"concurrency_limit": 2})
    parents = [stage.begin(stage.other), stage.begin(stage.other)]
    stage.child(parents[0], stage.other)
    stage.run = stage.child(parents[1], stage.owner)
    stage.later(lambda: stage.call("PATCH", f"/work_pools/{stage.pool}", {"concurrency_limit": 4}))


def parents_in_queue(stage: Stage) -> None:
    stage.call("PATCH", f"/work_queues/{stage.queue_id}", {"concurrency_limit": 1})
    stage.run = stage.child(stage.begin(stage.other), stage.owner)
    stage.later(lambda: stage.call("PATCH", f"/work_queues/{stage.queue_id}", {"concurrency_limit": 2}))


def parents_in_deployment(stage: Stage) -> None:
    stage.owner.edit(concurrency_limit=1)
    parent = stage.begin(stage.owner)
    stage.run = stage.child(parent, stage.owner)
    stage.later(lambda: stage.end(parent))


def a_chain_of_parents(stage: Stage) -> None:
    """A parent waits for a child that runs, and that one for a child that finds no slot."""
    stage.call("PATCH", f"/work_pools/{stage.pool}", {"concurrency_limit": 2})
    parent = stage.begin(stage.other)
    child = stage.child(parent, stage.other)
    for state in ("PENDING", "RUNNING"):
        stage.api.set_state(child, state)
    stage.run = stage.child(child, stage.owner)
    stage.later(lambda: stage.call("PATCH", f"/work_pools/{stage.pool}", {"concurrency_limit": 3}))


S = Situation
SITUATIONS = (
    S("nothing", (due,), ("NEXT_POLL",), blocked=None),
    S("pool paused", (pool_paused, due), ("POOL_PAUSED",), "prefect work-pool resume"),
    S("pool limit 0", (pool_zero, due), ("POOL_ZERO",), "prefect work-pool set-concurrency-limit"),
    S("pool full", (pool_full, due), ("POOL_LIMIT",), "prefect work-pool set-concurrency-limit"),
    S("queue paused", (queue_paused, due), ("QUEUE_PAUSED",), "prefect work-queue resume q"),
    S("queue limit 0", (queue_zero, due), ("QUEUE_ZERO",), "prefect work-queue set-concurrency-limit q"),
    S("queue full", (queue_full, due), ("QUEUE_LIMIT",), "prefect work-queue set-concurrency-limit q"),
    S("queue gone", (due, queue_gone), ("NO_QUEUE",), "start it anew"),
    S("others before", (behind, due), ("BEHIND",), "control run"),
    S("refused ones before", (refused_before, due), ("REFUSED_BEFORE",), "cancel them"),
    S("no worker", (no_worker, due), ("NO_WORKER",), "prefect worker start", blocked=None),
    S("worker dead", (worker_dead, due), ("NO_WORKER",), "prefect worker start", blocked=None),
    S("queue unpolled", (queue_unpolled, due), ("QUEUE_NOT_POLLED",), "--work-queue q", blocked=None),
    S("workers full", (workers_full, due), ("WORKERS_FULL",), "prefect worker start", blocked=None),
    S("agent pool", (agent_pool, due), ("AGENT_POOL",), "work-pool create", begins=None, blocked=None),
    S("push pool", (push_pool, due), ("NEXT_POLL",), blocked=None),
    S("limit 0", (limit_zero, due), ("LIMIT_ZERO",), "prefect gcl update deployment:"),
    S("limit disabled", (limit_disabled, due), ("LIMIT_DISABLED",), "prefect gcl enable deployment:"),
    S("limit full", (limit_full, due), ("DEPLOYMENT_LIMIT",), "prefect gcl update deployment:"),
    S("limit of 2 full", (limit_full_twice, due), ("DEPLOYMENT_LIMIT",), "prefect gcl update deployment:"),
    S("asks again", (limit_full, due, proposed), ("DEPLOYMENT_LIMIT", "AWAITS_SLOT"), "gcl update", begins=None),
    S("would be cancelled", (cancels, limit_full, due), ("DEPLOYMENT_LIMIT",), "gcl update", blocked=None),
    S("cancelled by the limit", (cancels, limit_full, due, proposed), ("CANCELLED_BY_LIMIT",), "anew", begins=None),
    S("leaked slot", (leaked, due), ("LEAKED_SLOTS",), "control free-slots"),
    S("held", (due, held), ("HELD",), "quality unblock"),
    S("held by prevention", (due, prevented), ("HELD",), "control restore --pool"),
    S("deployment gone", (deployment_gone,), ("DEPLOYMENT_GONE",), "cancel", begins=None, blocked=None),
    S("not served", (unserved, due), ("NOT_SERVED",), "flow.serve()", begins=None, blocked=None),
    S("schedules paused", (schedules_paused,), ("SCHEDULES_PAUSED",), "resume_deployment", begins=None, blocked=None),
    S("no schedule", (), ("NO_SCHEDULE",), "prefect deployment run", begins=None, blocked=None),
    S("schedule over", (schedule_over,), ("SCHEDULER_OFF",), "SCHEDULER_ENABLED", begins=None, blocked=None),
    S("not due", (not_due,), ("NOT_DUE",)),
    S("postponed", (postponed,), ("NOT_DUE",)),
    S("retry later", (retry_later,), ("AWAITS_RETRY",)),
    S("own retry", (own_retry,), ("AWAITS_RETRY",), begins=None),
    S("own retry dead", (own_retry_dead,), ("OWN_RETRY",), "prefect flow-run cancel"),
    S("paused", (paused,), ("PAUSED",), "/resume", begins=None),
    S("suspended", (suspended,), ("SUSPENDED",), "/resume"),
    S("starting", (starting,), ("STARTING",), begins=None),
    S("pending too long", (pending_long,), ("PENDING_TOO_LONG",), "prefect flow-run cancel", begins=None),
    S("running", (running,), ("RUNNING",), begins=None),
    S("cancelling", (cancelling,), ("CANCELLING",), begins=None),
    S("ended", (ended,), ("ENDED",), begins=None),
    S("parents in the pool", (parents_in_pool,), ("PARENTS",), "prefect work-pool set-concurrency-limit"),
    S("parents in the queue", (parents_in_queue,), ("PARENTS",), "prefect work-queue set-concurrency-limit"),
    S("parents in the deployment", (parents_in_deployment,), ("PARENTS",), "prefect flow-run cancel"),
    S("a chain of parents", (a_chain_of_parents,), ("PARENTS",), "prefect work-pool set-concurrency-limit"),
    # pairs
    S("pool and queue paused", (pool_paused, queue_paused, due), ("POOL_PAUSED", "QUEUE_PAUSED"), "work-pool resume"),
    S("pool paused, limit 0", (pool_paused, limit_zero, due), ("LIMIT_ZERO", "POOL_PAUSED"), "gcl update"),
    S("pool and queue full", (pool_full, queue_full, due), ("QUEUE_LIMIT", "POOL_LIMIT"), "work-queue set-conc"),
    S("pool full, limit full", (limit_full, pool_full, due), ("DEPLOYMENT_LIMIT", "POOL_LIMIT"), "gcl update"),
    S("queue limit 0, leaked", (queue_zero, leaked, due), ("LEAKED_SLOTS", "QUEUE_ZERO"), "control free-slots"),
    S("leaked, limit full", (leaked_beside_a_run, due), ("LEAKED_SLOTS", "DEPLOYMENT_LIMIT"), "free-slots"),
    S("held, queue paused", (due, held, queue_paused), ("HELD", "QUEUE_PAUSED"), "quality unblock"),
    S("held, no worker", (due, held, no_worker), ("HELD", "NO_WORKER"), "quality unblock", blocked=None),
    S("not due, pool paused", (not_due, pool_paused), ("POOL_PAUSED", "NOT_DUE"), "work-pool resume"),
    S("not due, pool full", (not_due, pool_full), ("NOT_DUE",)),
    S(
        "no worker, pool 0",
        (no_worker, pool_zero, due),
        ("POOL_ZERO", "NO_WORKER"),
        "set-concurrency-limit",
        blocked=None,
    ),
    S(
        "workers and pool full",
        (workers_full, pool_full, due),
        ("POOL_LIMIT", "WORKERS_FULL"),
        "work-pool",
        blocked=None,
    ),
    S("parents, queue paused", (parents_in_pool, queue_paused), ("PARENTS", "QUEUE_PAUSED"), "work-pool set-conc"),
    S("limit 0, not due", (limit_zero, not_due), ("LIMIT_ZERO", "NOT_DUE"), "gcl update"),
    S("own retry dead, paused pool", (own_retry_dead, pool_paused), ("OWN_RETRY",), "prefect flow-run cancel"),
    S("schedules paused, run due", (schedules_paused, due), ("NEXT_POLL",), blocked=None),
)
