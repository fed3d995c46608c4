"""What automations and events say of the graph, and what they do not."""

from typing import Any

import pytest

from prefect_intelligent.pipelines.adapters.prefect_lineage import automation_links, observed_links
from prefect_intelligent.pipelines.adapters.prefect_resources import TAG

NAMES = {"1": "load/p", "2": "clean/p", "3": "clean/q"}
DEPLOYMENTS = {name: {"id": found, "flow_id": f"f-{name.split('/')[0]}"} for found, name in NAMES.items()}


class Server:
    """Knows the deployments; one that is gone has its id for a name."""

    def deployment_name(self, found_id: str) -> str:
        return NAMES.get(found_id, found_id)


class Api:
    """Answers from tables, a page at a time."""

    def __init__(self, automations: Any = (), events: Any = ((),), runs: Any = (), tasks: Any = ()) -> None:
        self.automations, self.events, self.runs, self.tasks = list(automations), events, list(runs), list(tasks)

    def pages(self, route: str, body: Any) -> Any:
        yield self.automations if "automations" in route else self.call("POST", route, body)

    def call(self, method: str, route: str, body: Any = None) -> Any:
        if "events" in route:
            page = 0 if method == "POST" else int(route.rpartition("=")[2])
            more = (
                None if page + 1 == len(self.events) else f"http://server/api/events/filter/next?page-token={page + 1}"
            )
            return {"events": list(self.events[page]), "next_page": more}
        if "task_runs" in route:
            return self.tasks
        ids = body["flow_runs"].get("id")
        return [run for run in self.runs if (run["parent_task_run_id"] if ids is None else run["id"] in ids["any_"])]


def automation(resource, expect=("prefect.flow-run.Completed",), *, action=None, tags=(), enabled=True, key="match"):
    action = action or {"type": "run-deployment", "deployment_id": "2", "parameters": {"day": "x"}}
    trigger = {"type": "event", "match": {}, "match_related": {}, "expect": list(expect)}
    trigger[key] = {"prefect.resource.id": resource}
    return {"name": "auto", "tags": list(tags), "enabled": enabled, "trigger": trigger, "actions": [action]}


@pytest.mark.parametrize(
    ("held", "edges", "calls"),
    [
        (automation("prefect.deployment.1", key="match_related"), [("load/p", "clean/p", "triggers")], 1),
        (automation(["prefect.deployment.1", "prefect.deployment.gone"]), [("load/p", "clean/p", "triggers")], 1),
        (automation("prefect.flow.f-load"), [("load/p", "clean/p", "triggers")], 1),
        (automation("s3://raw", ["prefect.asset.materialization.succeeded"]), [("s3://raw", "clean/p", "reads")], 0),
        (automation("prefect.deployment.1", ["prefect.flow-run.Failed", "prefect.flow-run.Crashed"]), [], 1),
        (automation("prefect.deployment.2", ["prefect.flow-run.Failed"]), [], 1),  # again after a failure: no cycle
        (automation("prefect.deployment.1", ["prefect.flow-run.Running"]), [("load/p", "clean/p", "calls")], 1),
        (automation("prefect.deployment.1", ["prefect.flow-run.*"]), [("load/p", "clean/p", "triggers")], 1),
        (automation("prefect.deployment.1", action={"type": "run-deployment", "source": "inferred"}),
         [("load/p", "load/p", "triggers")], 1),
        (automation("prefect.deployment.1", action={"type": "run-deployment", "deployment_id": "gone"}), [], 0),
        (automation("prefect.deployment.1", action={"type": "pause-deployment", "deployment_id": "2"}), [], 0),
        (automation("prefect.deployment.1", tags=[TAG]), [], 0),
        (automation("prefect.deployment.1", enabled=False), [], 0),
    ],
)  # fmt: skip
def test_automations_say_what_starts_what(held, edges, calls):
    found, called = automation_links(Api([held]), Server(), DEPLOYMENTS)
    assert [(edge.source, edge.target, edge.kind) for edge in found] == edges
    assert len(called) == calls
    assert not any(call.waits for call in called)


def event(name, asset, deployment):
    related = [{"prefect.resource.id": f"prefect.deployment.{deployment}"}]
    return {"event": name, "resource": {"prefect.resource.id": asset}, "related": related}


def test_all_pages_of_events_are_read_and_deleted_deployments_leave_no_ghost():
    written, read = "prefect.asset.materialization.succeeded", "prefect.asset.referenced"
    pages = [[event(written, "s3://a", "1"), event(written, "s3://a", "1")], [event(read, "s3://a", "2")]]
    pages.append([event(written, "s3://a", "gone")])
    found, _ = observed_links(Api(events=pages), Server(), DEPLOYMENTS)
    assert {(edge.source, edge.target, edge.kind) for edge in found} == {
        ("load/p", "s3://a", "writes"),
        ("s3://a", "clean/p", "reads"),
    }
    assert len(found) == 2


@pytest.mark.parametrize(
    ("parent_end", "child_end", "waits"),
    [
        ("2026-01-01T01:00:00+00:00", "2026-01-01T00:59:00Z", True),
        ("2026-01-01T01:00:00+00:00", "2026-01-01T01:01:00+00:00", False),
        (None, None, True),
        ("2026-01-01T01:00:00+00:00", None, False),
    ],
)
def test_a_parent_that_ended_after_its_child_has_waited_for_it(parent_end, child_end, waits):
    parent = {"id": "r1", "deployment_id": "1", "parent_task_run_id": None, "end_time": parent_end}
    child = {"id": "r2", "deployment_id": "2", "parent_task_run_id": "t", "end_time": child_end}
    api = Api(runs=[child, parent], tasks=[{"id": "t", "flow_run_id": "r1"}])
    edges, calls = observed_links(api, Server(), DEPLOYMENTS)
    assert [(edge.source, edge.target, edge.kind) for edge in edges] == [("load/p", "clean/p", "calls")]
    assert [call.waits for call in calls] == [waits]
