"""`kill -9` at random moments on a real server: what we own is old or new after the next command, never between."""

import os
import random
import signal
import time
import traceback
from dataclasses import replace

import pytest

from prefect_intelligent.domain import Prices, Terms
from prefect_intelligent.history.adapters.sql_records import open_history
from prefect_intelligent.pipelines.adapters.blob_store import FsspecBlobStore
from prefect_intelligent.pipelines.adapters.prefect_discovery import survey
from prefect_intelligent.pipelines.adapters.prefect_resources import PrefectPipelineServer
from prefect_intelligent.pipelines.apply_graph import apply_automations, plan_automations
from prefect_intelligent.pipelines.live_changes import apply_modification, prepare_modification
from prefect_intelligent.pipelines.project_file import Project
from prefect_intelligent.pipelines.resource_changes import AUTOMATION, DEPLOYMENT, EPOCHS
from prefect_intelligent.pipelines.rollout.strategies import Rollout, follow_up
from prefect_intelligent.pipelines.rollout.transactions import Transactions
from prefect_intelligent.pipelines.rollout.version_store import VersionStore
from prefect_intelligent.pipelines.survey import Overrides, build_model
from prefect_intelligent.pipelines.version import DeploymentVersion, SourceCode
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.clock import SystemClock
from prefect_intelligent.prefect_client.terms import publish_terms

pytestmark = [pytest.mark.server, pytest.mark.slow]

SCHEMA = {"type": "object", "properties": {"batch": {"type": "string"}}, "required": []}
CHAIN = {"kill_ingest": ((), ("kill_raw",)), "kill_clean": (("kill_raw",), ("kill_flights",))}
CHAIN["kill_report"] = (("kill_flights",), ("kill_report",))
MOMENTS = 20


class Command:
    """Adapters and services as a new process makes them."""

    def __init__(self, server, folder):
        self.api = PrefectApi(server.api_url, timeout_s=20, attempts=5)
        self.server = PrefectPipelineServer(self.api)
        self.history = open_history(f"sqlite:///{folder / 'history.db'}")
        self.transactions = Transactions(self.server, self.history, SystemClock(), follow_up)
        self.versions = VersionStore(self.history, FsspecBlobStore(str(folder / "versions")), SystemClock())
        self.rollout = Rollout(self.transactions, self.versions, str(folder / "versions"))
        self.folder = folder

    def draw(self, overrides):
        found = survey(self.api, self.server, self.folder, history=False)
        nodes = {name: node for name, node in found.nodes.items() if name.startswith("kill_")}
        return build_model(replace(found, nodes=nodes), Project(), overrides, Prices(), time.time())

    def version(self, content):
        spec = dict(self.server.read(DEPLOYMENT + "kill_clean/p"))
        spec |= {"version": None, "pull_steps": None, "tags": [content]}
        code = SourceCode(blob=self.versions.blobs.put(content.encode()))
        return self.versions.keep(DeploymentVersion(deployment="kill_clean/p", spec=spec, code=code))

    def owned(self):
        """Everything that we write; of epochs the version in force, for their times differ from try to try."""
        held = {name: self.server.read(name) for name in (DEPLOYMENT + f"{flow}/p" for flow in CHAIN)}
        held |= {name: value for name, value in self.server.read_all(AUTOMATION).items() if "kill_" in name}
        epochs = self.server.read_all(EPOCHS).items()
        return held | {name: value["epochs"][-1][1] for name, value in epochs if "kill_" in name}


def deploy(command, content):
    command.rollout.swap(command.version(content))


def graph_apply(command, content):
    overrides = Overrides(parameters={"kill_report/p": {"batch": content}})
    apply_automations(
        command.transactions, plan_automations(command.server, command.draw(overrides), time.time(), prune=True)
    )


def modify(command, content):
    overrides = Overrides(parameters={"kill_report/p": {"batch": content}})
    apply_modification(
        command.rollout, prepare_modification(command.rollout, command.draw, overrides, command.version(content))
    )


def roll_back(command, content):
    command.rollout.roll_back("kill_clean/p")


def in_child(server, folder, action, content, kill_after_s=None):
    """Run a command in a process of its own, killed after so long; True if it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            action(Command(server, folder), content)
        except BaseException:
            traceback.print_exc()
            os._exit(3)
        os._exit(0)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), "the command failed by itself"
    return status == 0


def test_killed_at_twenty_random_moments_state_is_old_or_new(prefect_server, tmp_path):
    api = prefect_server.api()
    pool = api.pool()
    prefect = PrefectApi(prefect_server.api_url, timeout_s=20)
    for flow, (inputs, outputs) in CHAIN.items():
        api.deployment(pool, flow=flow, name="p", entrypoint="flows.py:f", parameter_openapi_schema=SCHEMA)
        publish_terms(prefect, flow, Terms(inputs=inputs, outputs=outputs))
    first = Command(prefect_server, tmp_path)
    first.rollout.keep_current("kill_clean/p", "me")
    graph_apply(first, "begin")
    for number in range(MOMENTS // 4):  # every rollback has something to go back to, even if all deploys are killed
        deploy(first, f"begin-{number}")
    rng = random.Random(6)
    ended = {True: 0, False: 0}
    for moment in range(MOMENTS):
        action = (deploy, graph_apply, modify, roll_back)[moment % 4]
        old = Command(prefect_server, tmp_path).owned()
        whole = in_child(prefect_server, tmp_path, action, f"try-{moment}", rng.uniform(0.02, 0.6))
        command = Command(prefect_server, tmp_path)
        command.transactions.recover()
        state = command.owned()
        assert command.transactions.recover() is None
        ended[state != old] += 1
        if whole or state == old:
            continue
        last = command.transactions.intents()[-1]  # it is new: all of it, and nothing else
        expected = dict(old)
        for change in last["changes"]:
            name, after = change["resource"], change["after"]
            if after is None:
                expected.pop(name)
            else:
                expected[name] = after["epochs"][-1][1] if name.startswith(EPOCHS) else after
        assert state == expected
    print(f"{ended[False]} old, {ended[True]} new")
    assert sum(ended.values()) == MOMENTS
