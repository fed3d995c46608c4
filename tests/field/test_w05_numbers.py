"""W5: a number that is not sane is refused where it is given, and nothing of ours makes a server unreadable."""

import uuid

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from prefect import flow

from prefect_intelligent import intelligent, publish
from prefect_intelligent.cli import main
from prefect_intelligent.domain import Terms
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.terms import read_terms
from prefect_intelligent.prevention.adapters.prefect import PrefectPreventionActions
from prefect_intelligent.quality.adapters.prefect_events import emit_quality
from prefect_intelligent.steering.adapters.prefect_pool import PrefectOrchestrator
from tests.field.owners import Owner

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]

MAD = [1e20, 2.0**63, 1e300, float("inf"), float("nan"), 10**400, -1, -0.1, True]


def readable(api):
    """Whether the server still answers what every worker and every flow run asks it."""
    for route in ("/variables/filter", "/work_pools/filter", "/deployments/filter", "/flow_runs/filter"):
        api.call("POST", route, {"limit": 200})
    now = "2000-01-01T00:00:00Z", "2100-01-01T00:00:00Z"
    api.call("POST", "/events/filter", {"filter": {"occurred": {"since": now[0], "until": now[1]}}, "limit": 50})
    return True


@pytest.mark.parametrize("term", ["late_usd_per_hour", "failure_usd", "expected"])
@pytest.mark.parametrize("number", MAD, ids=str)
def test_the_decorator_refuses_it(term, number):
    with pytest.raises(InvalidInputError, match=term):
        intelligent(**{term: number})


@pytest.mark.parametrize("span", ["1e9d", "999999999d", "0.0000001s", f"{'9' * 400}d", "-5m", "0s"])
def test_a_span_that_nobody_means_is_refused(span):
    for term in ("deadline", "expected"):
        with pytest.raises(InvalidInputError, match=term):
            intelligent(**{term: span})


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(usd=st.one_of(st.floats(), st.integers()), seconds=st.floats())
@example(usd=1e9, seconds=0.001)
def test_what_is_published_can_be_read_again(field, usd, seconds):
    @flow
    def load():
        """Nothing."""

    subject = f"{load.name}-{uuid.uuid4().hex[:8]}"
    try:
        terms = intelligent(late_usd_per_hour=usd, failure_usd=usd, expected=seconds)(load.with_options(name=subject))
    except InvalidInputError:
        return
    assert publish(terms)
    api = PrefectApi(timeout_s=30.0)
    assert read_terms(api).by_subject[subject].late_usd_per_hour == usd
    api.close()


def test_terms_on_the_server_that_nobody_can_mean_are_named_and_the_others_count(sqlite):
    written = []
    for number, value in enumerate(
        ({"late_usd_per_hour": 1e15}, {"expected_s": -1}, {"deadline": 5}, [1], "x", 7, None)
    ):
        name = f"prefect_intelligent_terms_bad_{uuid.uuid4().hex[:8]}"
        body = {"subject": f"bad{number}", "terms": value}
        sqlite.call("POST", "/variables/", {"name": name, "value": body, "tags": ["prefect-intelligent-terms"]})
        written.append(name)
    api = PrefectApi(timeout_s=30.0)
    good = f"good-{uuid.uuid4().hex[:8]}"
    from prefect_intelligent.prefect_client.terms import publish_terms

    publish_terms(api, good, Terms(late_usd_per_hour=5.0))
    found = read_terms(api)
    assert good in found.by_subject
    assert all(any(name in problem for problem in found.problems) for name in written)
    for name in written:
        sqlite.call("DELETE", f"/variables/name/{name}")
    api.close()


@pytest.mark.parametrize("number", [1e20, 2**64, float("inf"), float("nan")], ids=str)
def test_nothing_of_ours_makes_a_server_unreadable(field, number):
    api = PrefectApi(timeout_s=30.0)
    with pytest.raises(InvalidInputError, match="number"):
        api.call("POST", "/variables/", {"name": f"v{uuid.uuid4().hex[:8]}", "value": {"a": [number]}})
    pool = field.pool()
    PrefectOrchestrator(api, pool).emit("decision", {"stakes": {"usd": number}, "odd": "\x00\ud800"})
    emit_quality(
        {"outcome": "passed", "dataset": "ds/t", "run_id": "r", "quarantined": number, "repaired": 0, "by_check": {},
         "log": [], "held": [], "unusual": []}
    )  # fmt: skip
    owner = Owner(field, pool, job_variables={"memory": 512})
    template = field.call("GET", f"/work_pools/{pool}")["base_job_template"]
    template["variables"]["properties"]["memory"] = {"type": "integer", "default": 256}
    field.call("PATCH", f"/work_pools/{pool}", {"base_job_template": template})
    with pytest.raises(InvalidInputError, match="times"):
        PrefectPreventionActions().resize(f"m {number}", [owner.name], number)
    assert owner.values()["job_variables"] == {"memory": 512}
    assert readable(field)
    api.close()


@pytest.mark.parametrize(
    "text",
    [
        "[prices]\nslot_usd_per_hour = 1e20",
        "[prices]\nlateness_weight = inf",
        "[pools.p]\nmost_slots = 99999999999",
        "[pools.p.queues.a]\nmost = 1e30",
        "[resources]\ndb = 1e300",
        "hold_s = 1e300",
    ],
)
def test_settings_that_nobody_means_are_refused(sqlite, tmp_path, monkeypatch, capsys, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prefect-intelligent.toml").write_text(text + "\n")
    assert main(["control", "status", "--pool", "p"]) == 2
    assert "setting" in capsys.readouterr().err
