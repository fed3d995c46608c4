"""W4, B1 and W10: any name that Prefect accepts, of a pool, a queue, a flow or a deployment; unknown names are loud."""

import json
import uuid
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from prefect_intelligent.cli import main
from prefect_intelligent.domain import Deployment, QueueSetting
from prefect_intelligent.prefect_client.api import PrefectApi, path
from prefect_intelligent.prefect_client.clock import SystemClock
from prefect_intelligent.prefect_client.lease import PrefectLease
from prefect_intelligent.quality.adapters.prefect_holds import PrefectDownstream
from prefect_intelligent.steering.adapters.prefect_pool import PrefectOrchestrator
from prefect_intelligent.steering.dedicated_queues import adopt, plan_adoption, undo_adoption
from prefect_intelligent.testing.history import InMemoryHistory
from tests.field.owners import Owner

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]

ODD = ["Report #1", "Is it fresh?", "数据", "a+b", "it's", 'say "x"', "c:\\d", "..", "#", "?x=1;y", "e\u0301"]
NAMES = st.text(
    st.characters(exclude_characters="/%&><\x00", exclude_categories=["Cs"]), min_size=1, max_size=12
).filter(lambda name: bool(name.strip("' \"")))
SUFFIX = iter(range(10**9))
FEW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def unique(name):
    """The name, made one that no test has used on this server; the odd characters stay at both ends."""
    return f"{name}{next(SUFFIX)}-{uuid.uuid4().hex[:6]}{name}"


@pytest.fixture
def home(sqlite, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_INTELLIGENT_HISTORY_URL", f"sqlite:///{tmp_path}/h.db")
    monkeypatch.setenv("PREFECT_INTELLIGENT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("odd", ODD)
def test_deployments_of_any_name_are_held(sqlite, odd):
    owner, key = Owner(sqlite, flow=unique(odd), name=odd), f"ds/{odd}"
    assert PrefectDownstream().hold(key, [owner.name]) == (owner.name,)
    assert not owner.starts()
    assert PrefectDownstream().held()[owner.name] == (key,)
    assert PrefectDownstream().release(key) == (owner.name,)
    assert owner.starts()


@FEW
@given(pool=NAMES, queue=NAMES)
@example(pool="etl#gpu", queue="a?b")
@example(pool="..", queue="..")
@example(pool="a", queue="0\n0")
def test_pools_and_queues_of_any_name_are_read_and_written(sqlite, pool, queue):
    pool = unique(pool)
    sqlite.call("POST", "/work_pools/", {"name": pool, "type": "process"})
    # some names are taken by Prefect and not found again by its own routes
    assume(sqlite.http.get(f"/work_pools/{quote(pool, safe='')}").is_success)
    assume(queue.strip() == queue)
    api = PrefectApi(timeout_s=30.0)
    orchestrator = PrefectOrchestrator(api, pool)
    if queue != "default":
        orchestrator.create_queue(QueueSetting(name=queue, priority=7, limit=2))
        found = {one.name: (one.priority, one.limit) for one in orchestrator.settings()[1]}
        assert found == {"default": (1, None), queue: (7, 2)}
        orchestrator.delete_queue(queue)
    assert [one.name for one in orchestrator.settings()[1]] == ["default"]
    lease = PrefectLease(api, pool)
    assert lease.acquire()
    assert PrefectLease(api, pool).taken()
    lease.release()
    sqlite.call("DELETE", path("work_pools", pool))
    api.close()


@pytest.mark.parametrize("odd", ["etl#gpu", "etl?x", "数据 池", "..", "x\n"])
def test_another_pool_of_any_name_stops_neither_sync_nor_graph(sqlite, home, odd, capsys):
    Owner(sqlite, pool=sqlite.pool(unique(odd), type="kubernetes"))
    for command in (["sync"], ["graph", "check", "--json"]):
        assert main(command) in (0, 1), capsys.readouterr().err
    assert main(["doctor", "--pool", unique(odd)]) == 2
    assert "work pool" in capsys.readouterr().err


def test_an_unknown_name_is_refused_before_anything_is_done(sqlite, home, capsys):
    owner = Owner(sqlite, flow=unique("mart"), name="nightly")
    (home / "c.yml").write_text("dataset: ds/main/t\ncolumns:\n  - name: id\n    checks:\n      - missing:\n")
    (home / "bad.csv").write_text('id\n1\n""\n')
    wrong = owner.name.replace("mart", "marr")
    words = ["quality", "check", "c.yml", "bad.csv", "--remedy"]
    assert main([*words, "--downstream", owner.name, "--downstream", wrong]) == 2
    said = capsys.readouterr().err
    assert wrong in said
    assert owner.name in said  # the nearest name that exists
    assert owner.name not in PrefectDownstream().held()


@FEW
@given(st.lists(st.tuples(NAMES, NAMES), min_size=2, max_size=8, unique=True))
@example([("数据", "日"), ("отчёт", "день"), ("売上", "日次")])
@example([("flow_a", "x"), ("flow-a", "x"), ("flow a", "x"), ("flow", "a-x"), ("Flow", "a-x")])
@example([("é", "x"), ("e\u0301", "x")])
def test_each_deployment_gets_a_queue_of_its_own_that_stays(names):
    deployments = [Deployment(name=f"{flow}/{short}", queue="default") for flow, short in names]
    queues = [QueueSetting(name="default", priority=1)]
    adoption = plan_adoption(deployments, queues, "deployment")
    lanes = {name: lane for name, _, lane in adoption.assign}
    assert len(set(lanes.values())) == len(deployments)
    assert not any(set(lane) & set("/%&><") for lane in lanes.values())
    for deployment in deployments:  # whatever else is there
        alone = plan_adoption([deployment], queues, "deployment")
        assert alone.assign[0][2] == lanes[deployment.name]


def test_queues_of_any_script_are_made_and_taken_back(sqlite):
    pool = sqlite.pool()
    names = [("数据", "日"), ("отчёт", "день"), ("売上", "日次"), ("flow_a", "x"), ("flow-a", "x"), ("flow a", "x")]
    owners = [Owner(sqlite, pool, flow=f"{flow}{uuid.uuid4().hex[:4]}", name=short) for flow, short in names]
    orchestrator, history = PrefectOrchestrator(PrefectApi(timeout_s=30.0), pool), InMemoryHistory()
    adoption = plan_adoption(orchestrator.deployments(), orchestrator.settings()[1], "deployment")
    adopt(orchestrator, history, SystemClock(), adoption)
    assert len({owner.values()["queue"] for owner in owners}) == 6
    again = plan_adoption(orchestrator.deployments(), orchestrator.settings()[1], "deployment")
    assert (again.create, again.assign) == ((), ())
    assert undo_adoption(orchestrator, history, SystemClock()) == ()
    assert {owner.values()["queue"] for owner in owners} == {"default"}
    assert set(sqlite.queues(pool)) == {"default"}


def test_names_are_shown_as_they_are(sqlite, home, capsys):
    owner = Owner(sqlite, flow=unique("数据"), name="日 #1")
    assert main(["control", "adopt", "--pool", owner.pool, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["assign"][0]["deployment"] == owner.name
