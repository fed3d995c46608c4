"""Histories of a deployment in which its owner and we write in any order, with what the owner is to have at the end.

Shared by the state machine (`test_owner_histories.py`) and the benchmark (`python -m benchmarks.field`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from prefect_intelligent.pipelines.adapters.prefect_resources import PrefectPipelineServer
from prefect_intelligent.pipelines.resource_changes import DEPLOYMENT
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.prefect_client.claims import in_force
from tests.field.owners import Owner
from tests.field.steered_pool import SteeredPool
from tests.real_prefect import Api

LIMITS: Final = (None, 1, 2, 7)
OPTIONS: Final = (None, "ENQUEUE", "CANCEL_NEW")
MEMORY: Final = (None, 500, 700)
POOL_LIMITS: Final = (None, 3, 6)
HOLDS: Final = ("data", "breaker")
VARIABLES: Final = {
    "memory": {"type": "integer", "default": 300},
    "avoid_hosts": {"type": "array", "items": {"type": "string"}, "default": []},
}


def new_pool(api: Api) -> str:
    """A pool whose template has the job variables that claims change."""
    pool = api.pool()
    template = api.call("GET", f"/work_pools/{pool}")["base_job_template"]
    template["variables"]["properties"] |= VARIABLES
    api.call("PATCH", f"/work_pools/{pool}", {"base_job_template": template})
    return pool


@dataclass
class Expected:
    """What the owner of a deployment has set last.

    Attributes:
        limit: Concurrency limit.
        strategy: Collision strategy.
        memory: Job variable; None is absent.
        paused: Whether schedules are paused.
    """

    limit: int | None = None
    strategy: str | None = None
    memory: int | None = None
    paused: bool = False


@dataclass
class History:
    """Two deployments, their owner's writes and ours.

    Attributes:
        api: Makes things on the server as an owner does.
        client: The client that we write with.
        pool: Where the deployments are.
        steps: What was done, for the message of a failure.
        held_runs_started: Runs that were proposed after a pass while a claim held their deployment, and started.
    """

    api: Api
    client: PrefectApi
    pool: str
    steps: list[str] = field(default_factory=list)
    held_runs_started: int = 0

    def __post_init__(self) -> None:
        self._steered, self._steering = SteeredPool(self.client, self.pool), True
        self._numbers = self.api.numbers(self.pool)
        self._owners = [Owner(self.api, self.pool), Owner(self.api, self.pool)]
        self._expected: list[Expected | None] = [Expected(), Expected()]
        self._holds: list[set[str]] = [set(), set()]
        self._server = PrefectPipelineServer(self.client)
        self._key = f"history {self._owners[0].flow} "

    # The owner

    def deploy(self, which: int, limit: int | None, strategy: str | None, memory: int | None) -> None:
        """Deploy, for the first time, again, or anew after a deletion."""
        self._note("deploy", which, limit, strategy, memory)
        options = None if strategy is None else {"collision_strategy": strategy}
        variables = {} if memory is None else {"memory": memory}
        self._owners[which].deploy(limit=limit, options=options, job_variables=variables, paused=False)
        self._expected[which] = Expected(limit=limit, strategy=strategy, memory=memory)

    def edit_limit(self, which: int, limit: int | None) -> None:
        """Change the limit alone."""
        if (expected := self._expected[which]) is not None:
            self._note("limit", which, limit)
            self._owners[which].edit(concurrency_limit=limit)
            expected.limit = limit

    def edit_strategy(self, which: int, strategy: str) -> None:
        """Change the collision strategy alone."""
        if (expected := self._expected[which]) is not None:
            self._note("strategy", which, strategy)
            self._owners[which].edit(concurrency_options={"collision_strategy": strategy})
            expected.strategy = strategy

    def pause(self, which: int, *, paused: bool) -> None:
        """Pause or resume."""
        if (expected := self._expected[which]) is not None:
            self._note("paused", which, paused)
            self._owners[which].edit(paused=paused)
            expected.paused = paused

    def delete(self, which: int) -> None:
        """Delete the deployment."""
        if self._expected[which] is not None:
            self._note("delete", which)
            self._owners[which].delete()
            self._expected[which] = None

    def roll_back(self, which: int) -> None:
        """Read what is stored as a version, and write it again later: what the owner has set meanwhile is replaced."""
        if self._expected[which] is not None:
            self._note("version", which)
            name = DEPLOYMENT + self._owners[which].name
            self._server.write(name, self._server.read(name))

    def set_pool_limit(self, limit: int | None) -> None:
        """Set the limit of the pool; to set the number that is there is to set nothing."""
        if self.api.numbers(self.pool)[""][1] == limit:
            return
        self._note("pool limit", limit)
        self.api.call("PATCH", f"/work_pools/{self.pool}", {"concurrency_limit": limit})
        self._numbers[""] = (None, limit, self._numbers[""][2])

    def set_priority(self, priority: int) -> None:
        """Set the priority of the default queue."""
        if self.api.numbers(self.pool)["default"][0] == priority:
            return
        self._note("priority", priority)
        queue = self.api.queues(self.pool)["default"]["id"]
        self.api.call("PATCH", f"/work_queues/{queue}", {"priority": priority})
        self._numbers["default"] = (priority, *self._numbers["default"][1:])

    # Us

    def hold(self, which: int, key: str) -> None:
        """Hold one deployment under a key."""
        self._note("hold", which, key)
        if in_force.claim(self.client, self._key + key, [self._owners[which].name], "hold", 0):
            self._holds[which].add(key)

    def share(self, most: int) -> None:
        """Give both a share in common."""
        self._note("share", most)
        in_force.claim(self.client, self._key + "share", [owner.name for owner in self._owners], "share", most)

    def resize(self, which: int, times: float) -> None:
        """Give one more memory."""
        self._note("resize", which, times)
        in_force.claim(self.client, self._key + f"memory {which}", [self._owners[which].name], "resize", times)

    def avoid(self, which: int) -> None:
        """Keep one off a host."""
        self._note("avoid", which)
        in_force.claim(self.client, self._key + f"host {which}", [self._owners[which].name], "avoid", "host-1")

    def release(self, key: str) -> None:
        """End what has a key."""
        self._note("release", key)
        in_force.release(self.client, self._key + key)
        for held in self._holds:
            held.discard(key)

    def adopt(self) -> None:
        """Give deployments queues of their own."""
        self._note("adopt")
        self._steered.adopt()

    def steer(self, policy: str) -> None:
        """A pass of the controller."""
        self._note("steer", policy)
        before = self.api.numbers(self.pool)
        self._steered.steer(policy)
        if not self._steering:
            assert self.api.numbers(self.pool) == before, ("written while switched off", self.steps)

    def restore(self) -> None:
        """Put the pool back; steering is on again with the next pass, unless it was switched off."""
        self._note("restore")
        self._steered.restore()

    def switch(self, *, on: bool) -> None:
        """Switch steering on or off."""
        self._note("steering", on)
        self._steered.switch(on=on)
        self._steering = on

    def look(self) -> None:
        """A pass: mend, then see that what is held does not start and that a second pass finds nothing."""
        self._note("pass")
        in_force.mend(self.client)
        mine = [owner.name for owner in self._owners]
        notes = [note for note in in_force.mend(self.client) if any(name in note for name in mine)]
        again = [note for note in notes if "has been deleted" not in note]
        assert not again, (again, self.steps)
        for owner, expected, holds in zip(self._owners, self._expected, self._holds, strict=True):
            if expected is not None and holds and owner.starts():
                self.held_runs_started += 1

    # The end

    def lost(self) -> list[str]:
        """Release everything; what owners have not got back then, in sentences."""
        for key in (*HOLDS, "share", "memory 0", "memory 1", "host 0", "host 1"):
            self.release(key)
        in_force.mend(self.client)
        self.restore()
        now = self.api.numbers(self.pool)
        wrong = [f"{name or 'pool'}: got {now.get(name)}, not {right}" for name, right in self._numbers.items()
                 if now.get(name) != right]  # fmt: skip
        wrong += [f"left behind: queue {name}" for name in now if name not in self._numbers]
        for owner, expected in zip(self._owners, self._expected, strict=True):
            if expected is None:
                continue
            found = owner.values()
            got: dict[str, Any] = {
                "limit": found["limit"],
                "taken": found["taken"] or 0,
                "strategy": (found["options"] or {}).get("collision_strategy"),
                "job_variables": found["job_variables"],
                "paused": found["paused"],
                "queue": found["queue"],
            }
            right = {
                "limit": expected.limit,
                "taken": 0,
                "strategy": expected.strategy,
                "job_variables": {} if expected.memory is None else {"memory": expected.memory},
                "paused": expected.paused,
                "queue": "default",
            }
            wrong += [f"{name}: got {got[name]}, not {right[name]}" for name in got if got[name] != right[name]]
        body = {"variables": {"tags": {"all_": ["prefect-intelligent-hold"]}}, "limit": 200}
        left = [json.dumps(v["value"]) for v in self.api.call("POST", "/variables/filter", body)]
        wrong += [f"left behind: {value}" for value in left if any(owner.name in value for owner in self._owners)]
        return wrong

    def _note(self, *what: Any) -> None:
        self.steps.append(" ".join(map(str, what)))
