"""Bringing a version to a deployment: swap, drain, restart, and going back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.pipelines.conflicts.schema_contracts import parameter_errors
from prefect_intelligent.pipelines.ports import PipelineServer
from prefect_intelligent.pipelines.resource_changes import DEPLOYMENT, ResourceChange
from prefect_intelligent.pipelines.rollout.transactions import Transactions
from prefect_intelligent.pipelines.rollout.version_store import VersionStore
from prefect_intelligent.pipelines.runs import ACTIVE, PipelineRun
from prefect_intelligent.pipelines.version import SHORT, VERSION_ENV, DeploymentVersion, pull_inputs

ROLLBACK: Final = "rollback"
_DAY_S: Final = 86_400.0
_CLAIMED_S: Final = 120.0

Strategy = Literal["swap", "drain", "restart"]


@dataclass(frozen=True, slots=True)
class Rollout:
    """Changes the version of deployments.

    Attributes:
        transactions: Writes to Prefect.
        versions: The versions.
        store: Address of the blob store for the machines that run flows.
    """

    transactions: Transactions
    versions: VersionStore
    store: str

    @property
    def server(self) -> PipelineServer:
        """Prefect."""
        return self.transactions.server

    def held(self, deployment: str) -> Mapping[str, Any] | None:
        """The deployment as Prefect stores it."""
        return self.server.read(DEPLOYMENT + deployment)

    def baseline(self, deployment: str, author: str) -> DeploymentVersion | None:
        """The version in force; what Prefect holds is kept as one if we do not know it."""
        content = self.held(deployment)
        if content is None:
            return None
        known = self.versions.current(deployment, content)
        if known is not None:
            return known
        return self.versions.keep(DeploymentVersion(deployment=deployment, spec=content, author=author))

    def change(self, version: DeploymentVersion) -> ResourceChange:
        """The change that makes a deployment run a version."""
        resource = DEPLOYMENT + version.deployment
        return ResourceChange(resource=resource, before=self.held(version.deployment), after=version.render(self.store))

    def swap(self, version: DeploymentVersion, *, scheduled: Literal["new", "old"] = "new") -> None:
        """New runs execute `version`, running ones finish on what they began with.

        Args:
            version: What to bring.
            scheduled: What runs do that were created before and have not been claimed: "new" (Prefect's own way, made
                explicit) or "old", which pins them to the version in force.

        Raises:
            InvalidInputError: `scheduled="old"` cannot be kept, claimed runs did not begin in time, or with "new" a run
                that waits was given parameters which the version does not take. Nothing has changed.
            UnknownNameError: A blob of the version is missing.
        """
        self.versions.check(version)
        if scheduled == "old":
            self._pin_scheduled(version)
        else:
            self._refuse_misfits(version)
        self.transactions.commit("deploy", [self.change(version)], {"version": version.id})

    def drain(self, version: DeploymentVersion, timeout_s: float, poll_s: float = 1.0) -> None:
        """Let everything that is scheduled, pending or running finish on the version in force, then swap.

        Schedules are paused meanwhile, so that no new runs come.

        Raises:
            InvalidInputError: It did not finish in time; nothing has changed.
        """
        self.versions.check(version)
        held = self.held(version.deployment)
        if held is not None:
            paused = ResourceChange(
                resource=DEPLOYMENT + version.deployment, before=held, after={**held, "paused": True}
            )
            self.transactions.begin("deploy --strategy drain", [paused])
            clock = self.transactions.clock
            deadline = clock.now_s() + timeout_s
            while self._busy(version.deployment):
                if clock.now_s() >= deadline:
                    self.transactions.abandon()
                    raise InvalidInputError("--timeout", timeout_s, "runs were still active; nothing has changed")
                clock.sleep(poll_s)
        change = ResourceChange(resource=DEPLOYMENT + version.deployment, before=held, after=version.render(self.store))
        self.transactions.commit("deploy --strategy drain", [change], {"version": version.id})

    def restart(self, version: DeploymentVersion, begin: Literal["first", "failed"] = "first") -> int:
        """Swap, then cancel running runs and start them again under the new version.

        Args:
            version: What to bring.
            begin: "first" starts new runs with the same parameters; "failed" runs the runs that failed within the
                last day again under their own ids, so that tasks whose results were kept are not repeated.

        Returns:
            How many runs were started again.
        """
        self.versions.check(version)
        runs = self.server.runs(version.deployment) if self.held(version.deployment) is not None else []
        since_s = self.transactions.clock.now_s() - _DAY_S
        again: list[dict[str, Any]] = []
        for run in runs:
            if begin == "first" and run.state in ACTIVE:
                again.append(_again(run, version, "cancel"))
            elif begin == "failed" and run.failed and (run.ended_s or 0.0) >= since_s:
                again.append(_again(run, version, "retry"))
        details = {"version": version.id, "again": again}
        self.transactions.commit("deploy --strategy restart", [self.change(version)], details)
        return len(again)

    def roll_back(self, deployment: str, text: str | None = None) -> DeploymentVersion:
        """Go back to the version before the one in force, or to the one named.

        Going back twice goes back two versions. What was gone back over is no longer "before": a version named that was
        in force before is a way back, too, and one that never was can itself be gone back from.

        Raises:
            UnknownNameError: There is no such deployment or version, or a blob of it is missing.
            InvalidInputError: There is nothing to go back to, or the version is one of another deployment.
        """
        content = self.held(deployment)
        if content is None:
            names = [name.removeprefix(DEPLOYMENT) for name in self.server.read_all(DEPLOYMENT)]
            raise UnknownNameError("deployment", deployment, names)
        if text is not None:
            target = self.versions.check(self.versions.get(text, deployment))
            after: Mapping[str, Any] = target.render(self.store)
        else:
            after = self._before(deployment, content)
            found = self.versions.current(deployment, after)
            if found is None:
                raise InvalidInputError("rollback", deployment, "the version before is not kept any more; name one")
            target = self.versions.check(found)
        change = ResourceChange(resource=DEPLOYMENT + deployment, before=content, after=after)
        self.transactions.commit(ROLLBACK, [change], {"version": target.id})
        return target

    def _before(self, deployment: str, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the deployment held before the change that brought the version in force."""
        chain = self._chain(deployment)
        while chain and not _same_version(chain[-1]["after"], content):
            chain.pop()
        if not chain:
            raise InvalidInputError("rollback", deployment, "no version was in force before; name one")
        before: Mapping[str, Any] | None = chain[-1]["before"]
        if before is None:
            raise InvalidInputError("rollback", deployment, "it did not exist before; delete it in Prefect")
        return before

    def _chain(self, deployment: str) -> list[Mapping[str, Any]]:
        """The changes that led to the version in force; a rollback takes off what it went back over."""
        chain: list[Mapping[str, Any]] = []
        for intent in self.transactions.intents():
            for item in intent["changes"]:
                if item["resource"] != DEPLOYMENT + deployment:
                    continue
                if intent["title"] == ROLLBACK:
                    there = [step for step in chain if item["after"] and _same_version(step["before"], item["after"])]
                    if there:
                        del chain[chain.index(there[-1]) :]
                        continue
                chain.append(item)
        return chain

    def _busy(self, deployment: str) -> bool:
        now_s = self.transactions.clock.now_s()
        runs = self.server.runs(deployment)
        return any(run.state in ACTIVE or (run.state == "SCHEDULED" and run.scheduled_s <= now_s) for run in runs)

    def _pin_scheduled(self, version: DeploymentVersion) -> None:
        held = self.held(version.deployment)
        inputs = None if held is None else pull_inputs(held)
        if held is None or not held.get("entrypoint"):
            return
        if inputs is None or held["entrypoint"] != version.spec.get("entrypoint"):
            raise InvalidInputError(
                "--scheduled", "old", "needs a deployment that `deploy` has made, and the same entrypoint; use new"
            )
        for run in self._waiting(version.deployment):
            self.server.pin_run(run.id, {VERSION_ENV: str(inputs["version"])})
        self._wait_for_claimed(version.deployment)

    def _refuse_misfits(self, version: DeploymentVersion) -> None:
        """Raise if a run that waits would fail at its first step."""
        schema = version.spec.get("parameter_openapi_schema")
        if not schema or self.held(version.deployment) is None:
            return
        for run in self._waiting(version.deployment):
            if wrong := parameter_errors(schema, run.parameters, complete=True):
                misfit = f"run {run.id} waits with other parameters ({wrong[0]}); use old, drain, or cancel it before"
                raise InvalidInputError("--scheduled", "new", misfit)

    def _waiting(self, deployment: str) -> list[PipelineRun]:
        """Runs that nobody has claimed, without those of the schedule to come, which Prefect makes anew."""
        now_s = self.transactions.clock.now_s()
        runs = self.server.runs(deployment, phase="SCHEDULED")
        return [run for run in runs if not run.auto_scheduled or run.scheduled_s <= now_s]

    def _wait_for_claimed(self, deployment: str) -> None:
        """Wait until no run is between its claim and its first step: what it reads there would be chance."""
        clock = self.transactions.clock
        deadline_s = clock.now_s() + _CLAIMED_S
        while any(run.state == "PENDING" for run in self.server.runs(deployment)):
            if clock.now_s() >= deadline_s:
                claimed = f"runs that a worker has claimed did not begin within {_CLAIMED_S:.0f} s; nothing has changed"
                raise InvalidInputError("--scheduled", "old", claimed)
            clock.sleep(0.5)


def _same_version(one: Mapping[str, Any] | None, other: Mapping[str, Any]) -> bool:
    """Whether two contents of a deployment run the same version."""
    if one is None:
        return False
    mine, theirs = pull_inputs(one), pull_inputs(other)
    if mine is None or theirs is None:
        return one == other
    return bool(mine["version"] == theirs["version"])


def _again(run: PipelineRun, version: DeploymentVersion, how: str) -> dict[str, Any]:
    return {
        "how": how,
        "run": run.id,
        "deployment": run.deployment,
        "parameters": dict(run.parameters),
        "env": {key: value for key, value in run.env.items() if key != VERSION_ENV},
        "key": f"restart {run.id} {version.id[:SHORT]}",
    }


def follow_up(server: PipelineServer, details: Mapping[str, Any]) -> None:
    """What has to happen to runs after a change has been written; harmless when repeated."""
    for item in details.get("again", ()):
        if item["how"] == "cancel":
            server.cancel_run(item["run"])
            server.start_run(item["deployment"], item["parameters"], key=item["key"], env=item["env"])
        else:
            server.retry_run(item["run"])
