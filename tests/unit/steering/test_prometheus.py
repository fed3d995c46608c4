"""What the controller tells Prometheus, and that the dashboard asks for nothing else."""

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="needs the extra tracking")

from prometheus_client import generate_latest

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.steering.adapters.prometheus import ControllerMetrics
from tests.real_prefect import free_port

DASHBOARD = Path(__file__).resolve().parents[3] / "docs" / "grafana" / "prefect-intelligent.json"


def decision(*queues, limit=4, at_s=1_000.0):
    return {
        "pool": "etl",
        "outcome": "applied",
        "at_s": at_s,
        "own_ms": 2.0,
        "wall_ms": 80.0,
        "applied": [1, 2],
        "desired_slots": 3,
        "pool_limit": {"applied": limit},
        "stakes": {"cost_usd_per_hour": 7.5, "longest_wait_s": 90.0, "mean_wait_s": 30.0},
        "queues": [
            {
                "name": name,
                "waiting": 3,
                "active": 1,
                "late": 1,
                "wanted": {"place": 1, "limit": 9},
                "permitted": {"place": 1, "limit": 2},
                "applied": {"place": place, "limit": 2},
            }
            for place, name in enumerate(queues, start=1)
        ],
    }


def text(metrics):
    return generate_latest(metrics.registry).decode()


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(f"prefect_intelligent_{name}", {"pool": "etl", **labels})


def test_a_decision_sets_the_numbers():
    metrics = ControllerMetrics()
    metrics.decided(decision("hot", "cold"))
    assert value(metrics, "decisions_total", outcome="applied") == 1
    assert value(metrics, "queue_waiting_runs", queue="hot") == 3
    assert value(metrics, "queue_place", queue="cold") == 2
    assert value(metrics, "pool_limit") == 4
    assert value(metrics, "guard_interventions_total") == 2
    assert value(metrics, "changes_total") == 2
    assert value(metrics, "last_decision_timestamp_seconds") == 1_000.0
    assert value(metrics, "cost_usd_per_hour") == 7.5
    assert value(metrics, "longest_wait_seconds") == 90.0


def test_queues_and_limits_that_are_gone_leave_no_series():
    metrics = ControllerMetrics()
    metrics.decided(decision("hot", "cold"))
    metrics.decided(decision("hot", limit=None))
    assert value(metrics, "queue_waiting_runs", queue="cold") is None
    assert value(metrics, "pool_limit") is None
    metrics.stands_by("etl")
    assert value(metrics, "queue_waiting_runs", queue="hot") is None
    assert value(metrics, "cost_usd_per_hour") is None
    assert value(metrics, "leads") == 0


def test_many_queues_share_one_label():
    metrics = ControllerMetrics()
    metrics.decided(decision(*(f"q{i:03d}" for i in range(80))))
    labels = set(re.findall(r'queue_waiting_runs\{pool="etl",queue="([^"]+)"', text(metrics)))
    assert len(labels) == 51
    assert value(metrics, "queue_waiting_runs", queue="other") == 30 * 3


def test_it_answers_over_http_and_names_a_port_that_is_taken():
    metrics, port = ControllerMetrics(), free_port()
    metrics.decided(decision("hot"))
    metrics.serve(port)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        assert b"prefect_intelligent_queue_waiting_runs" in answer.read()
    with pytest.raises(InvalidInputError, match="metrics-port"):
        ControllerMetrics().serve(port)


def read(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_the_wanted_slots_are_a_gauge_and_an_answer_for_autoscalers():
    metrics, port = ControllerMetrics(), free_port()
    metrics.serve(port)
    url = f"http://127.0.0.1:{port}/desired-slots"
    assert read(url) == (200, {"pools": {}})
    metrics.decided(decision("hot", "cold"))
    assert value(metrics, "desired_slots") == 3
    wanted = {"pool": "etl", "desired_slots": 3, "active": 2, "waiting": 6, "pool_limit": 4, "at_s": 1_000.0}
    assert read(url) == (200, {"pools": {"etl": wanted}})
    assert read(f"{url}/etl") == (200, wanted)
    assert read(f"{url}/other")[0] == 503
    metrics.stands_by("etl")  # another process knows better
    assert value(metrics, "desired_slots") is None
    assert read(f"{url}/etl")[0] == 503


def test_a_probe_sees_a_process_that_makes_no_turns(monkeypatch):
    metrics, port = ControllerMetrics(stale_s=60.0), free_port()
    metrics.serve(port)

    def health():
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5).status
        except urllib.error.HTTPError as error:
            return error.code

    assert health() == 200  # it is young
    metrics._turned -= 61.0
    assert health() == 503
    metrics.failed("etl")  # the server is away, which is no fault of the process
    assert health() == 200


def test_a_pool_of_any_name_has_an_answer():
    metrics, port = ControllerMetrics(), free_port()
    metrics.serve(port)
    name = "etl / 数据"
    metrics.decided(decision("hot") | {"pool": name})
    assert read(f"http://127.0.0.1:{port}/desired-slots/{urllib.parse.quote(name, safe='')}")[1]["pool"] == name


def test_a_pool_that_leaves_takes_its_gauges_along():
    metrics = ControllerMetrics()
    metrics.decided(decision("hot"))
    metrics.leaves("etl")
    for name in ("desired_slots", "leads", "pool_limit", "last_decision_timestamp_seconds", "cost_usd_per_hour"):
        assert value(metrics, name) is None, name
    assert value(metrics, "changes_total") == 2


def test_every_metric_of_the_dashboard_exists():
    metrics = ControllerMetrics()
    metrics.decided(decision("hot"))
    metrics.failed("etl")
    there = set(re.findall(r"^(prefect_intelligent_\w+)", text(metrics), re.MULTILINE))
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = {name for p in panels for t in p["targets"] for name in re.findall(r"prefect_intelligent_\w+", t["expr"])}
    assert asked
    assert asked <= there
