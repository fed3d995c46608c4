"""The hooks that `@intelligent` adds to a flow: they report runs, and steer a pool that is on and not led.

They run in the flow's process (those for a crash and a cancellation in the worker's). A hook never raises and never
changes a state; all hooks together cost a run at most `BUDGET_S` in one process, whatever the server does. Reporting
twice has the effect of reporting once. Nothing heavy is imported unless a decision has to be made here.

What a hook does:

1. It appends one record to the spool on this machine.
2. At the first start in a process it publishes the flow's terms, unless a process on this machine has done so in the
   last hour.
3. At the end of a deployment's run it emits events for the datasets written (`pipelines.pending_events`): the
   automations of `graph apply` start the next deployments by them.
4. Once an operator has switched the run's pool on (`steering.kill_switch`), it makes one decision for it if the last
   one is older than the interval and no controller leads the pool (`wiring.steering.steer_once`). Otherwise a
   controller reacts to Prefect's own event about the run.
5. After a completed run with a contract it requests, through the spool, a check of what the run has written.

Beside a controller on the same machine, a hook calls no server: it reads liveness keys, which are small files
(`local.liveness`), and leaves the calls to the controller. Whether a controller elsewhere leads is asked now and then.
"""

from __future__ import annotations

import contextlib
import contextvars
import inspect
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from prefect_intelligent.domain import Terms
from prefect_intelligent.errors import PrefectIntelligentError
from prefect_intelligent.local import liveness, spool
from prefect_intelligent.local.liveness import relay_key, server_of, steering_key
from prefect_intelligent.pipelines.pending_events import KIND, make_pending_event, pending_events

BUDGET_S: Final = 2.0
"""Longest time that all hooks together may cost one run in one process, seconds."""

TERMS_ATTRIBUTE: Final = "__intelligent_terms__"
BY_NAME_ATTRIBUTE: Final = "__intelligent_terms_by_flow__"  # another name: a flow copies its function's attributes

_logger = logging.getLogger(__name__)
_spent_s: dict[str, float] = {}
_threads: dict[str, threading.Thread] = {}
_quality: dict[str, float] = {}  # score of the worst gate, by flow run
_published: set[str] = set()
_BACKGROUND_S: Final = 30.0
_PUBLISHED_S: Final = 3600.0
_LEADER_KNOWN_S: Final = 3.0  # the holder of the lease may have been a hook that died meanwhile
_SWITCH_KNOWN_S: Final = 20.0
_MOST_RUNS: Final = 1000  # in the dictionaries above; a worker reports crashes and cancellations for months


def attach_terms(flow: Any, terms: Terms) -> bool:
    """Attach the terms to the flow; False if it has terms of its own already.

    They are attached to its function too, by flow name: `with_options` passes the function on to the flows it makes.
    """
    if TERMS_ATTRIBUTE in vars(flow):
        return False
    setattr(flow, TERMS_ATTRIBUTE, terms)
    by_flow = {**getattr(flow.fn, BY_NAME_ATTRIBUTE, {}), flow.name: terms}
    with contextlib.suppress(AttributeError, TypeError):  # a function that takes no attributes
        setattr(flow.fn, BY_NAME_ATTRIBUTE, by_flow)
    return True


def terms_of(flow: Any) -> Terms | None:
    """The terms given by `@intelligent` or `attach` to a flow, or to the flow it was made from; None without any."""
    found = vars(flow).get(TERMS_ATTRIBUTE)
    if isinstance(found, Terms):
        return found
    by_flow: dict[str, Terms] = getattr(flow.fn, BY_NAME_ATTRIBUTE, {})
    return by_flow.get(flow.name) or next(iter(by_flow.values()), None)


def find_contract(contract: str, function: Any) -> Path | None:
    """The file of a contract: from the working directory, else from the flow's folder or a folder above it."""
    source = getattr(getattr(inspect.unwrap(function), "__code__", None), "co_filename", "")
    for folder in (Path.cwd(), *Path(source).absolute().parents):
        if (folder / contract).is_file():
            return folder / contract
    return None


# Prefect calls some of these by keyword from another process: the three names are part of the contract.


def report_running(flow: Any, flow_run: Any, state: Any) -> None:
    """The run has started, or started again: report, publish the terms, steer; does not wait."""
    _run_within_budget(flow, flow_run, state, wait=False)


def report_completed(flow: Any, flow_run: Any, state: Any) -> None:
    """The run has completed: report and steer, since its slot is about to be free."""
    _run_within_budget(flow, flow_run, state, wait=True)


def report_failed(flow: Any, flow_run: Any, state: Any) -> None:
    """The run has failed: report and steer."""
    _run_within_budget(flow, flow_run, state, wait=True)


def report_crashed(flow: Any, flow_run: Any, state: Any) -> None:
    """The run's process has died: report and steer, from another process."""
    _run_within_budget(flow, flow_run, state, wait=True)


def report_cancelled(flow: Any, flow_run: Any, state: Any) -> None:
    """The run is being cancelled: report and steer, usually from another process."""
    _run_within_budget(flow, flow_run, state, wait=True)


def _run_within_budget(flow: Any, flow_run: Any, state: Any, *, wait: bool) -> None:
    """Do what a hook does within what is left of the run's budget; failures are logged at debug level."""
    started = time.monotonic()
    key = "?"
    try:
        key = str(flow_run.id)
        _report(flow, flow_run, state)
        if wait:
            _emit_dataset_events(flow, flow_run, state, BUDGET_S - _spent_s.get(key, 0.0) - 0.2)
        context = contextvars.copy_context()  # Prefect's settings may live there
        before = _threads.get(key)
        left_s = BUDGET_S - _spent_s.get(key, 0.0) - (time.monotonic() - started)
        waiting_since = time.monotonic()
        work = _background_work(flow, flow_run, left_s if wait else _BACKGROUND_S)
        if work is not None and left_s > 0.1 and (before is None or not before.is_alive()):
            thread = threading.Thread(target=context.run, args=(work,), name="prefect-intelligent-hook", daemon=True)
            _threads[key] = thread
            thread.start()
        if wait and key in _threads:
            _threads[key].join(max(0.0, left_s - (time.monotonic() - waiting_since)))
    except Exception:
        _logger.debug("a hook of prefect-intelligent failed", exc_info=True)
    finally:
        if len(_spent_s) >= _MOST_RUNS:
            _spent_s.clear()
            _threads.clear()
        _spent_s[key] = _spent_s.get(key, 0.0) + time.monotonic() - started


def note_quality(flow_run_id: str, score: float) -> None:
    """Keep the quality score of a run of this process for the record of its end; the lowest score counts."""
    if len(_quality) >= _MOST_RUNS:
        _quality.clear()
    _quality[flow_run_id] = min(score, _quality.get(flow_run_id, score))


def _report(flow: Any, flow_run: Any, state: Any) -> None:
    """Append the record to the spool; the same state of the same attempt always has the same event id."""
    attempt = getattr(flow_run, "run_count", 0)
    terms = terms_of(flow)
    scheduled_s, created_s = _unix_s(flow_run.expected_start_time), _unix_s(getattr(flow_run, "created", None))
    if scheduled_s is not None and created_s is not None:
        scheduled_s = max(scheduled_s, created_s)  # a run made for last month has not been late for a month
    record = {
        "flow_run_id": str(flow_run.id),
        "flow_run": flow_run.name,
        "flow": flow.name,
        "deployment_id": str(flow_run.deployment_id) if flow_run.deployment_id else None,
        "work_pool": getattr(flow_run, "work_pool_name", None),
        "work_queue": getattr(flow_run, "work_queue_name", None),
        "state": state.type.value,
        "state_name": state.name,
        "attempt": attempt,
        "scheduled_s": scheduled_s,
        "started_s": _unix_s(flow_run.start_time),
        "state_s": _unix_s(state.timestamp),
    }
    if terms is not None:
        due = terms.deadline is not None and scheduled_s is not None
        record |= {
            "due_s": terms.deadline.due_s(scheduled_s) if due and terms.deadline and scheduled_s else None,
            "late_usd_per_hour": terms.late_usd_per_hour,
            "failure_usd": terms.failure_usd,
            "expected_s": terms.expected_s,
            "inputs": list(terms.inputs),
            "outputs": list(terms.outputs),
        }
    if str(flow_run.id) in _quality:
        record["quality"] = _quality[str(flow_run.id)]
    event_id = f"{flow_run.id}:{state.type.value}:{attempt}"
    spool.append("flow_run", record, event_id=event_id)
    if terms is not None and terms.contract and state.type.value == "COMPLETED":
        request = {
            "flow_run_id": str(flow_run.id),
            "flow": flow.name,
            "contract": str(find_contract(terms.contract, flow.fn) or terms.contract),
            "outputs": list(terms.outputs),
            "folder": os.getcwd(),
        }
        spool.append("quality_request", request, event_id=f"check:{event_id}")


def _emit_dataset_events(flow: Any, flow_run: Any, state: Any, left_s: float) -> None:
    """Emit events for the datasets that the run has written or failed to write, or leave that to the relay."""
    terms, url = terms_of(flow), _api_url()
    if terms is None or not terms.outputs or flow_run.deployment_id is None or left_s <= 0 or not url:
        return
    if state.type.value not in ("COMPLETED", "FAILED", "CRASHED"):
        return
    event = make_pending_event(flow_run, terms.outputs, terms.batch, fresh=state.type.value == "COMPLETED")
    pending = pending_events(url)
    try:
        pending.append(KIND, event, event_id=f"{flow_run.id}:{state.type.value}:{flow_run.run_count}")
        kept = True
    except PrefectIntelligentError:  # the disk cannot be written: the event is sent now or never
        kept = False
    if kept and liveness.is_alive(relay_key(url)):
        return
    from prefect_intelligent.pipelines.adapters.event_relay import deliver_now

    try:
        deliver_now(pending if kept else event, left_s)
    except PrefectIntelligentError as error:
        later = "; it will be with the next run or controller on this machine" if kept else ""
        _logger.warning(
            "%s could not be announced (%s)%s; to do it now, run `prefect-intelligent graph announce %s`",
            ", ".join(terms.outputs),
            error,
            later,
            flow_run.id,
        )


def _background_work(flow: Any, flow_run: Any, timeout_s: float) -> Callable[[], None] | None:
    """The calls to the server, to be made in a thread that may outlive the hook; None if there is nothing to do."""
    terms, url = terms_of(flow), _api_url()
    pool: str | None = getattr(flow_run, "work_pool_name", None)
    terms_key = f"terms:{server_of(url)}:{flow.name}:{terms}"
    publish = terms is not None and flow.name not in _published and not liveness.is_alive(terms_key)
    steer = pool is not None and bool(url) and not liveness.is_alive(steering_key(url, pool))
    if not publish and not steer:
        return None

    def work() -> None:
        deadline = time.monotonic() + timeout_s
        try:
            if publish and terms is not None:
                _publish(flow.name, terms, timeout_s)
                liveness.mark_alive(terms_key, _PUBLISHED_S)
            left_s = deadline - time.monotonic()
            if steer and pool and left_s > 0:
                _steer(pool, left_s)
        except Exception:
            _logger.debug("a hook of prefect-intelligent could not reach what it needs", exc_info=True)

    return work


def _steer(pool: str, timeout_s: float) -> None:
    """Make a decision if it is for us to make; that is asked first, because a decision imports much more."""
    from prefect_intelligent.prefect_client.api import PrefectApi
    from prefect_intelligent.prefect_client.lease import PrefectLease
    from prefect_intelligent.prefect_client.pool_notes import PoolNotes
    from prefect_intelligent.steering.kill_switch import KIND as SWITCH
    from prefect_intelligent.steering.kill_switch import position_of

    deadline = time.monotonic() + timeout_s
    api = PrefectApi(timeout_s=min(1.0, timeout_s), attempts=1, patience=0)
    try:
        switch = PoolNotes(api, pool).read(SWITCH)
        if switch is None or position_of(switch) != "on":
            liveness.mark_alive(steering_key(api.url, pool), _SWITCH_KNOWN_S)
            return
        if PrefectLease(api, pool).taken():
            liveness.mark_alive(steering_key(api.url, pool), _LEADER_KNOWN_S)
            return
    finally:
        api.close()
    from prefect_intelligent.wiring.steering import steer_once

    steer_once(pool, deadline - time.monotonic())


def _api_url() -> str:
    """Address of the API that runs of this process use; "" if there is none."""
    from prefect.settings import get_current_settings

    return str(get_current_settings().api.url or "")


def _publish(subject: str, terms: Terms, timeout_s: float) -> None:
    from prefect_intelligent.prefect_client.api import PrefectApi
    from prefect_intelligent.prefect_client.terms import publish_terms

    api = PrefectApi(timeout_s=min(1.0, timeout_s), attempts=1)
    try:
        with api.within(timeout_s):
            publish_terms(api, subject, terms)
        _published.add(subject)
    finally:
        api.close()


def _unix_s(instant: Any) -> float | None:
    return None if instant is None else float(instant.timestamp())
