"""Each action of prevention does on a real Prefect server what it does in memory, and leaves no trace behind."""

import time
import uuid
from collections.abc import Iterator
from typing import Any, Protocol

import pytest

from prefect_intelligent.prevention.ports import PreventionActions
from prefect_intelligent.testing.prevention_actions import InMemoryPreventionActions
from tests.real_prefect import Api, RealServer, unix_s

KINDS = [pytest.param("fake"), pytest.param("sqlite", marks=pytest.mark.server)]
NOBODY = str(uuid.UUID(int=0))


class Site(Protocol):
    """What the tests need to see and do besides the actions."""

    actions: PreventionActions

    def deploy(self) -> str: ...
    def run(self, deployment: str, *, running: bool = False) -> str: ...
    def end(self, run: str) -> None: ...
    def cancel(self, run: str) -> None: ...
    def starts(self, run: str) -> bool: ...
    def memory(self, deployment: str) -> float: ...
    def avoided(self, deployment: str) -> set[str]: ...
    def retries(self, run: str) -> int | None: ...
    def scheduled_s(self, run: str) -> float: ...
    def state(self, run: str) -> str: ...
    def runs_of(self, deployment: str) -> int: ...
    def everything(self, deployment: str) -> Any: ...


class FakeSite:
    def __init__(self) -> None:
        self.memory_actions = InMemoryPreventionActions()
        self.actions: PreventionActions = self.memory_actions

    def deploy(self) -> str:
        name = f"flow-{uuid.uuid4().hex[:6]}/d"
        self.memory_actions.deployments[name] = {"memory": 512.0, "avoid": True, "versions": ["v1"]}
        return name

    def run(self, deployment: str, *, running: bool = False) -> str:
        key = uuid.uuid4().hex
        self.memory_actions.runs[key] = {
            "state": "running" if running else "scheduled",
            "deployment": deployment,
            "scheduled_s": time.time() + 60,
        }
        return key

    def end(self, run: str) -> None:
        self.memory_actions.runs[run]["state"] = "completed"

    def cancel(self, run: str) -> None:
        self.memory_actions.runs[run]["state"] = "cancelled"

    def starts(self, run: str) -> bool:
        runs = self.memory_actions.runs
        name = runs[run]["deployment"]
        together = next((d for d in self.memory_actions.done.values() if name in d), {name: None})
        busy = sum(r["state"] == "running" and r["deployment"] in together for r in runs.values())
        if busy >= self.memory_actions.slots(name):
            return False
        runs[run]["state"] = "running"
        return True

    def memory(self, deployment: str) -> float:
        return self.memory_actions.memory(deployment)

    def avoided(self, deployment: str) -> set[str]:
        return self.memory_actions.avoided(deployment)

    def retries(self, run: str) -> int | None:
        return self.memory_actions.runs[run].get("retries")

    def scheduled_s(self, run: str) -> float:
        return float(self.memory_actions.runs[run]["scheduled_s"])

    def state(self, run: str) -> str:
        return str(self.memory_actions.runs[run]["state"]).upper()

    def runs_of(self, deployment: str) -> int:
        runs = self.memory_actions.runs
        again = sum(runs[run]["deployment"] == deployment for run in self.memory_actions.restarted)
        return sum(run["deployment"] == deployment for run in runs.values()) + again

    def everything(self, deployment: str) -> Any:
        return dict(self.memory_actions.deployments[deployment]), self.memory_actions.slots(deployment)


class RealSite:
    def __init__(self, server: RealServer) -> None:
        from prefect_intelligent.prevention.adapters.prefect import PrefectPreventionActions

        self.actions: PreventionActions = PrefectPreventionActions()
        self._api: Api = server.api()
        self._pool = self._api.pool()
        held = self._api.call("GET", f"/work_pools/{self._pool}")["base_job_template"]
        held["variables"]["properties"] |= {
            "memory": {"type": "integer", "default": 512},
            "avoid_hosts": {"type": "array", "items": {"type": "string"}, "default": []},
        }
        self._api.call("PATCH", f"/work_pools/{self._pool}", {"base_job_template": held})
        self._ids: dict[str, str] = {}

    def deploy(self) -> str:
        flow = f"flow-{uuid.uuid4().hex[:6]}"
        self._ids[f"{flow}/d"] = self._api.deployment(self._pool, flow=flow, concurrency_limit=7)
        return f"{flow}/d"

    def run(self, deployment: str, *, running: bool = False) -> str:
        run = self._api.run(self._ids[deployment], in_s=-5.0)
        if running:
            self._set(run, "RUNNING", force=True)
        return run

    def end(self, run: str) -> None:
        self._set(run, "COMPLETED", force=False)

    def cancel(self, run: str) -> None:
        state = {"type": "CANCELLED", "message": "Flow run was cancelled successfully."}
        self._api.call("POST", f"/flow_runs/{run}/set_state", {"state": state, "force": True})

    def starts(self, run: str) -> bool:
        if self._set(run, "PENDING", force=False) != "ACCEPT":
            return False
        return self._set(run, "RUNNING", force=False) == "ACCEPT"

    def memory(self, deployment: str) -> float:
        return float(self._held(deployment)["job_variables"].get("memory", 512))

    def avoided(self, deployment: str) -> set[str]:
        return set(self._held(deployment)["job_variables"].get("avoid_hosts", ()))

    def retries(self, run: str) -> int | None:
        found = self._api.read_run(run)["empirical_policy"]["retries"]
        return None if found is None else int(found)

    def scheduled_s(self, run: str) -> float:
        return unix_s(self._api.read_run(run)["next_scheduled_start_time"])

    def state(self, run: str) -> str:
        return str(self._api.read_run(run)["state_type"])

    def runs_of(self, deployment: str) -> int:
        wanted = {"flow_runs": {"deployment_id": {"any_": [self._ids[deployment]]}}}
        return int(self._api.call("POST", "/flow_runs/count", wanted))

    def everything(self, deployment: str) -> Any:
        held = self._held(deployment)
        return held["job_variables"], held["concurrency_options"], held["global_concurrency_limit"]["limit"]

    def _held(self, deployment: str) -> Any:
        return self._api.call("GET", f"/deployments/{self._ids[deployment]}")

    def _set(self, run: str, state: str, *, force: bool) -> str:
        body = {"state": {"type": state}, "force": force}
        return str(self._api.call("POST", f"/flow_runs/{run}/set_state", body)["status"])


@pytest.fixture(params=KINDS)
def site(request) -> Iterator[Site]:
    if request.param == "fake":
        yield FakeSite()
        return
    request.getfixturevalue("prefect_api")
    yield RealSite(request.getfixturevalue("prefect_server"))


def test_held_runs_wait_and_start_when_let_go(site):
    name = site.deploy()
    before = site.everything(name)
    run = site.run(name)
    assert site.actions.hold("k", [name, "no/such"]) == (name,)
    assert site.actions.hold("k", [name]) == (name,)
    assert "k" in site.actions.in_force()
    assert not site.starts(run)
    site.actions.release("k")
    assert "k" not in site.actions.in_force()
    assert site.everything(name) == before
    assert site.state(run) == "SCHEDULED"
    assert site.starts(site.run(name))


def test_a_share_counts_the_runs_of_all_and_those_in_flight(site):
    one, two = site.deploy(), site.deploy()
    before = site.everything(one)
    flying = site.run(one, running=True)
    assert set(site.actions.share("s", [one, two], 2)) == {one, two}
    first, second = site.run(two), site.run(one)
    assert site.starts(first)
    assert not site.starts(second)
    site.end(flying)
    assert site.starts(site.run(one))
    assert not site.starts(site.run(two))
    site.actions.release("s")
    assert site.everything(one) == before


def test_a_hold_that_becomes_a_probe_lets_one_run_start(site):
    name = site.deploy()
    site.actions.hold("k", [name])
    assert not site.starts(site.run(name))
    site.actions.share("k", [name], 1)
    assert site.starts(site.run(name))
    assert not site.starts(site.run(name))
    site.actions.hold("k", [name])
    site.actions.release("k")
    assert site.starts(site.run(name))


def test_memory_is_multiplied_from_what_it_was_and_put_back(site):
    name = site.deploy()
    before = site.everything(name)
    for times in (2.0, 2.0, 4.0):
        assert site.actions.resize("m", [name, "no/such"], times) == (name,)
        assert site.memory(name) == 512 * times
    site.actions.hold("other", [name])
    site.actions.release("m")
    assert site.memory(name) == 512
    site.actions.release("other")
    assert site.everything(name) == before


def test_hosts_are_avoided_by_several_keys(site):
    name = site.deploy()
    assert site.actions.avoid("a", [name], "host-1") == (name,)
    assert site.actions.avoid("b", [name], "host-2") == (name,)
    assert site.avoided(name) == {"host-1", "host-2"}
    site.actions.release("a")
    assert site.avoided(name) == {"host-2"}
    site.actions.release("b")
    assert site.avoided(name) == set()


def test_patience_is_for_runs_that_nobody_has_claimed(site):
    name = site.deploy()
    waiting, running = site.run(name), site.run(name, running=True)
    assert site.actions.add_retries("p", [name], 2) == (waiting,)
    assert (site.retries(waiting), site.retries(running)) == (2, None)
    later = site.run(name)
    assert later in site.actions.add_retries("p", [name], 2)
    site.actions.release("p")
    assert (site.retries(waiting), site.retries(later)) == (None, None)


def test_only_waiting_runs_are_postponed(site):
    name = site.deploy()
    waiting, running = site.run(name), site.run(name, running=True)
    until = float(int(time.time()) + 7200)
    assert site.actions.postpone([waiting, running, NOBODY], until) == (waiting,)
    assert site.scheduled_s(waiting) == pytest.approx(until)
    assert site.state(running) == "RUNNING"


def test_only_waiting_runs_are_cancelled_and_what_we_have_cancelled_comes_back(site):
    name = site.deploy()
    waiting, running, theirs = site.run(name), site.run(name, running=True), site.run(name)
    due_s = site.scheduled_s(waiting)
    site.cancel(theirs)
    assert site.actions.cancel([waiting, running, theirs, NOBODY], "stale") == (waiting,)
    assert (site.state(waiting), site.state(running)) == ("CANCELLED", "RUNNING")
    assert site.actions.bring_back([waiting, running, theirs, NOBODY]) == (waiting,)
    assert (site.state(waiting), site.state(running), site.state(theirs)) == ("SCHEDULED", "RUNNING", "CANCELLED")
    assert site.scheduled_s(waiting) == pytest.approx(due_s, abs=1.0)
    assert site.actions.bring_back([waiting]) == ()


def test_a_run_that_holds_a_slot_is_stopped_and_started_anew_once_it_has_ended(site):
    name = site.deploy()
    running, waiting = site.run(name, running=True), site.run(name)
    assert site.actions.stop(running, "no sign of life")
    assert site.state(running) == "CANCELLING"
    assert not site.actions.finish_stop(running, again=True)
    assert site.runs_of(name) == 2
    site.cancel(running)
    assert site.actions.finish_stop(running, again=False)
    assert site.runs_of(name) == 2
    assert site.actions.finish_stop(running, again=True)
    assert site.actions.finish_stop(running, again=True)
    assert site.runs_of(name) == 3
    assert not site.actions.stop(waiting, "late")
    assert not site.actions.stop(NOBODY, "late")
    assert site.actions.finish_stop(NOBODY, again=True)


def test_a_deployment_without_older_versions_cannot_be_rolled_back(site):
    assert not site.actions.roll_back(site.deploy(), None)


@pytest.mark.server
def test_what_a_person_has_set_meanwhile_stays(request):
    request.getfixturevalue("prefect_api")
    site = RealSite(request.getfixturevalue("prefect_server"))
    name = site.deploy()
    site.actions.resize("m", [name], 2.0)
    site._api.call("PATCH", f"/deployments/{site._ids[name]}", {"job_variables": {"memory": 3000}})
    site.actions.release("m")
    assert site.memory(name) == 3000
