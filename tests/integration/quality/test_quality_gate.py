"""`quality_gate` in real flows on a real server: what passes, what stops, what is reported, who is held."""

import json
import time

import pandas as pd
import pytest
from prefect import flow, task
from prefect.transactions import transaction

from prefect_intelligent import intelligent, quality_gate
from prefect_intelligent.errors import CheckerError, DataQualityError, RetryRunError
from prefect_intelligent.local.spool import Spool
from prefect_intelligent.quality.adapters.prefect_holds import PrefectDownstream
from prefect_intelligent.quality.gate import GateOutcome

CONTRACT = """
dataset: ds/main/orders
columns:
  - name: order_id
    checks: [{missing: {attributes: {severity: critical, remediation: ACTION}}}]
"""
GOOD = pd.DataFrame({"order_id": [1.0, 2.0, 3.0]})
BAD = pd.DataFrame({"order_id": [1.0, None, 3.0]})

pytestmark = pytest.mark.server


def contract(action: str) -> str:
    return CONTRACT.replace("ACTION", action)


@pytest.fixture
def home(tmp_path, monkeypatch, prefect_api):
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path))
    return tmp_path


def spooled(home):
    spool = Spool(home / "spool")
    assert spool.seal()
    return [entry.record for segment in spool.segments() for entry in spool.read(segment)[0]]


def test_a_gate_passes_on_a_clean_frame_and_reports_artifacts_and_record(home, api):
    @flow
    def load():
        return quality_gate(contract("quarantine"), BAD, budget_percent=50).data.frame

    state = load(return_state=True)
    frame = state.result()
    assert frame["order_id"].tolist() == [1.0, 3.0]
    (record,) = spooled(home)
    assert (record["outcome"], record["quarantined"]) == ("remedied", 1)
    assert record["run_id"] == str(state.state_details.flow_run_id)
    wanted = {"artifacts": {"flow_run_id": {"any_": [record["run_id"]]}}}
    found = {a["key"]: a for a in api.call("POST", "/artifacts/filter", wanted)}
    assert set(found) == {"quality-ds-main-orders", "quality-ds-main-orders-link"}
    table = json.loads(found["quality-ds-main-orders"]["data"])
    assert [(row["outcome"], row["after"]) for row in table] == [("failed", "passed")]


def test_the_record_of_a_run_says_how_good_its_data_was_and_a_dry_run_says_nothing(home):
    @intelligent(late_usd_per_hour=1.0)
    @flow
    def load():
        quality_gate(contract("quarantine"), BAD, dry_run=True)
        quality_gate(contract("quarantine"), GOOD)
        quality_gate(contract("quarantine"), BAD, budget_percent=50)

    load()
    records = spooled(home)
    assert [record["outcome"] for record in records if "outcome" in record] == ["passed", "remedied"]
    assert [record["quality"] for record in records if record.get("state") == "COMPLETED"] == [0.5]


def test_bad_data_stops_the_flow_and_rolls_a_transaction_back(home):
    undone = []

    @task
    def publish():
        return "published"

    @publish.on_rollback
    def take_back(txn):
        undone.append("taken back")

    @flow
    def load():
        with transaction():
            publish()
            quality_gate(contract("block"), BAD)

    with pytest.raises(DataQualityError, match="No missing values"):
        load()
    assert undone == ["taken back"]


def test_a_retry_is_done_by_prefect_and_succeeds_when_the_data_does(home):
    tries = []

    @flow(retries=1, retry_delay_seconds=0)
    def load():
        tries.append(1)
        quality_gate(contract("retry"), BAD if len(tries) == 1 else GOOD)
        return len(tries)

    assert load() == 2


def test_a_retry_that_does_not_help_ends_blocked(home):
    @flow(retries=1, retry_delay_seconds=0)
    def load():
        quality_gate(contract("retry"), BAD)

    with pytest.raises(DataQualityError):
        load()
    outcomes = [record["outcome"] for record in spooled(home)]
    assert outcomes == ["retry", "blocked"]


def test_a_checker_that_cannot_work_is_told_apart(home):
    @flow
    def load():
        quality_gate(contract("block"), "nowhere.parquet")

    with pytest.raises(CheckerError, match="no such file"):
        load()


async def test_a_gate_works_in_an_async_flow_and_a_dry_run_raises_nothing(home):
    @flow
    async def load():
        return quality_gate(contract("block"), BAD, dry_run=True).outcome

    assert await load() is GateOutcome.BLOCKED


def test_a_gate_works_alone(home):
    assert quality_gate(contract("block"), GOOD).outcome is GateOutcome.PASSED


def test_downstream_is_held_without_losing_its_own_limit_and_released_by_good_data(home, api):
    pool = api.pool()
    mart = api.deployment(pool, flow="mart", name="nightly", concurrency_limit=3)
    report = api.deployment(pool, flow="report", name="nightly")
    names = ["mart/nightly", "report/nightly", "no/such"]

    @flow
    def load(data):
        quality_gate(contract("block"), data, downstream=names)

    with pytest.raises(DataQualityError):
        load(BAD)
    held = PrefectDownstream().held()  # of the whole server, which other tests use too
    assert {name: why for name, why in held.items() if name in names} == dict.fromkeys(names[:2], ("ds/main/orders",))
    for deployment in (mart, report):
        run = api.run(deployment)
        answer = api.call("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "PENDING"}})
        assert answer["status"] == "REJECT"
        assert answer["state"]["name"] == "AwaitingConcurrencySlot"

    # A run that was already going when the hold began gives a slot back: the hold must not open.
    going = api.run(report)
    api.call("POST", f"/flow_runs/{going}/set_state", {"state": {"type": "RUNNING"}, "force": True})
    api.call("POST", f"/flow_runs/{going}/set_state", {"state": {"type": "COMPLETED"}})
    answer = api.call("POST", f"/flow_runs/{api.run(report)}/set_state", {"state": {"type": "PENDING"}})
    assert answer["status"] == "REJECT"

    load(GOOD)
    assert not set(names) & set(PrefectDownstream().held())
    after = {d: api.call("GET", f"/deployments/{d}") for d in (mart, report)}
    assert after[mart]["global_concurrency_limit"]["limit"] == 3
    assert after[report]["global_concurrency_limit"] is None
    answer = api.call("POST", f"/flow_runs/{api.run(report)}/set_state", {"state": {"type": "PENDING"}})
    assert answer["status"] == "ACCEPT"


def test_two_datasets_can_hold_one_deployment(home, api):
    api.deployment(api.pool(), flow="both", name="d")
    downstream = PrefectDownstream()
    for dataset in ("a", "b", "a"):
        assert downstream.hold(dataset, ["both/d"]) == ("both/d",)
    assert downstream.release("a") == ()
    assert downstream.release("b") == ("both/d",)
    assert downstream.release("b") == ()


def test_a_finished_run_of_a_deployment_is_scheduled_again(home, api):
    run = api.run(api.deployment(api.pool()))
    api.call("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "RUNNING"}, "force": True})
    api.call("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "COMPLETED"}})
    assert PrefectDownstream().retry(run)
    assert api.read_run(run)["state"]["type"] == "SCHEDULED"
    assert not PrefectDownstream().retry("00000000-0000-0000-0000-000000000000")


def test_an_event_is_sent(home, api):
    @flow
    def load():
        quality_gate(contract("quarantine"), GOOD)

    load()
    deadline = time.monotonic() + 120
    wanted = {"filter": {"event": {"name": ["prefect-intelligent.quality.passed"]}}}
    while time.monotonic() < deadline:
        if api.call("POST", "/events/filter", wanted)["events"]:
            return
        time.sleep(0.3)
    pytest.fail("no event arrived")


def test_the_errors_say_which_is_which():
    assert issubclass(RetryRunError, RuntimeError)
    assert not issubclass(RetryRunError, DataQualityError)
