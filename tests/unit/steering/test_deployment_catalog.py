"""What is known of deployments, read from a server that fails now and then."""

from types import SimpleNamespace

import pytest

from prefect_intelligent.domain.instants import iso
from prefect_intelligent.errors import ConflictError, OrchestratorAccessDeniedError, OrchestratorUnavailableError
from prefect_intelligent.steering.adapters import deployment_catalog
from prefect_intelligent.steering.adapters.deployment_catalog import UNKNOWN_ESTIMATE, DeploymentCatalog


class Server:
    """Deployments "a" and "b" of one pool; each has had six runs of 100 s, too long ago for the pool's last page.

    Attributes:
        fails: What to ask for ("pool", or a deployment) to the errors that the next such calls end with.
        asked: What was asked for, in order.
    """

    def __init__(self):
        self.fails, self.asked = {}, []

    def pages(self, route, body):
        if route == "/variables/filter":
            yield []
        elif route == "/flows/filter":
            yield [{"id": "f", "name": "flow"}]
        else:
            yield [
                {"id": key, "flow_id": "f", "name": key, "work_queue_name": "q", "work_pool_name": "p"} for key in "ab"
            ]

    def now_s(self):
        return 1e9

    def page(self, route, body, *, most=200):
        found = self.call("POST", route, body)
        return found, True

    def call(self, method, route, body):
        assert route == "/flow_runs/filter"
        wanted = body["flow_runs"].get("deployment_id", {}).get("any_", ["pool"])[0]
        self.asked.append(wanted)
        if errors := self.fails.get(wanted):
            raise errors.pop(0)
        if wanted == "pool":
            return []
        return [
            {
                "id": f"{wanted}{n}",
                "deployment_id": wanted,
                "start_time": iso(1000.0 * n),
                "end_time": iso(1000.0 * n + 100.0),
                "state_type": "COMPLETED",
            }
            for n in range(6, 0, -1)
        ]


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock of the catalog; moved by adding to `now`."""
    moved = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(deployment_catalog, "time", SimpleNamespace(monotonic=lambda: moved.now))
    return moved


def estimates(catalog):
    return {key: catalog.of(key).estimate.p50_s for key in "ab"}


UNKNOWN_S = UNKNOWN_ESTIMATE.p50_s


def test_deployments_whose_runs_are_rare_are_asked_for_once(clock):
    server = Server()
    catalog = DeploymentCatalog(server, "p", start_up_s=3.0)
    for _ in range(3):
        catalog.refresh()
        clock.now += 61.0
    assert server.asked == ["pool", "a", "b", "pool", "pool"]
    assert estimates(catalog) == {"a": 103.0, "b": 103.0}


@pytest.mark.parametrize("error", [OrchestratorUnavailableError("timed out"), ConflictError("422")])
def test_a_deployment_whose_past_could_not_be_read_is_asked_for_again_after_a_pause(clock, caplog, error):
    server = Server()
    server.fails["a"] = [error]
    catalog = DeploymentCatalog(server, "p", start_up_s=3.0)
    catalog.refresh()
    assert catalog.all().keys() == {"a", "b"}  # the rest goes on
    assert estimates(catalog)["a"] == UNKNOWN_S
    assert "deployment a could not be read" in caplog.text
    generation = catalog.generation

    clock.now += 30.0
    catalog.refresh(force=True)
    assert server.asked.count("a") == 1  # the pause is not over
    assert estimates(catalog) == {"a": UNKNOWN_S, "b": 103.0}

    clock.now += 121.0
    catalog.refresh()
    assert server.asked.count("a") == 2
    assert estimates(catalog) == {"a": 103.0, "b": 103.0}
    assert catalog.generation > generation


def test_one_that_always_fails_does_not_keep_the_others_from_being_asked_for(clock):
    server = Server()
    server.fails["a"] = [OrchestratorUnavailableError("timed out")] * 50
    catalog = DeploymentCatalog(server, "p", start_up_s=3.0)
    for _ in range(4):
        catalog.refresh(force=True)
        clock.now += 200.0
    assert estimates(catalog) == {"a": UNKNOWN_S, "b": 103.0}
    assert 2 <= server.asked.count("a") <= 4


def test_a_pool_whose_ended_runs_cannot_be_read_has_its_deployments_all_the_same(clock):
    server = Server()
    server.fails["pool"] = [OrchestratorUnavailableError("timed out")]
    catalog = DeploymentCatalog(server, "p", start_up_s=3.0)
    catalog.refresh()
    assert estimates(catalog) == {"a": UNKNOWN_S, "b": UNKNOWN_S}
    clock.now += 61.0
    catalog.refresh()
    assert estimates(catalog) == {"a": 103.0, "b": 103.0}


def test_a_server_that_denies_us_is_not_passed_over(clock):
    server = Server()
    server.fails["a"] = [OrchestratorAccessDeniedError("401")]
    with pytest.raises(OrchestratorAccessDeniedError):
        DeploymentCatalog(server, "p").refresh()
