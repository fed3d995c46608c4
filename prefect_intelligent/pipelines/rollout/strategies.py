"""Rollout strategies of a version: swap, drain, restart, and rollback."""

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
        versions: Stored versions.
        store: URL of the blob store, as seen from the machines that run flows.
    """

    transactions: Transactions
    versions: VersionStore
    store: str

    @property
    def server(self) -> PipelineServer:
        """The Prefect server."""
        return self.transactions.server

    def stored(self, deployment: str) -> Mapping[str, Any] | None:
        """Return a deployment as Prefect stores it; None if it does not exist."""
        return self.server.read(DEPLOYMENT + deployment)

    def keep_current(self, deployment: str, author: str) -> DeploymentVersion | None:
        """Return the version in force; a deployment that is not a known version is stored as one first."""
        content = self.stored(deployment)
        if content is None:
            return None
        known = self.versions.current(deployment, content)
        if known is not None:
            return known
        return self.versions.keep(DeploymentVersion(deployment=deployment, spec=content, author=author))

    def change(self, version: DeploymentVersion) -> ResourceChange:
        """Return the change that makes a deployment run a version."""
        resource = DEPLOYMENT + version.deployment
        return ResourceChange(
            resource=resource, before=self.stored(version.deployment), after=version.render(self.store)
        )

    def swap(self, version: DeploymentVersion, *, scheduled: Literal["new", "old"] = "new") -> None:
        """Deploy a version: new runs execute it, running ones finish on their version.

        Args:
            version: The version to deploy.
            scheduled: Version of runs that exist already and that no worker has claimed: "new" (the behaviour of
                Prefect) or "old", which pins them to the version in force.

        Raises:
            InvalidInputError: Runs cannot be pinned to the old version, claimed runs did not start in time, or (with
                "new") a waiting run has parameters that the version does not accept. Nothing was changed.
            UnknownNameError: A blob of the version is missing.
        """
        self.versions.check(version)
        if scheduled == "old":
            self._pin_scheduled(version)
        else:
            self._check_waiting_runs(version)
        self.transactions.commit("deploy", [self.change(version)], {"version": version.id})

    def drain(self, version: DeploymentVersion, timeout_s: float, poll_s: float = 1.0) -> None:
        """Wait until all runs that are due, pending or running have ended on the version in force, then swap.

        Schedules are paused meanwhile, so that no new runs are created.

        Raises:
            InvalidInputError: Runs did not end in time; nothing was changed.
        """
        self.versions.check(version)
        stored = self.stored(version.deployment)
        if stored is not None:
            paused = ResourceChange(
                resource=DEPLOYMENT + version.deployment, before=stored, after={**stored, "paused": True}
            )
            self.transactions.begin("deploy --strategy drain", [paused])
            clock = self.transactions.clock
            deadline = clock.now_s() + timeout_s
            while self._busy(version.deployment):
                if clock.now_s() >= deadline:
                    self.transactions.abandon()
                    raise InvalidInputError("--timeout", timeout_s, "runs were still active; nothing has changed")
                clock.sleep(poll_s)
        change = ResourceChange(
            resource=DEPLOYMENT + version.deployment, before=stored, after=version.render(self.store)
        )
        self.transactions.commit("deploy --strategy drain", [change], {"version": version.id})

    def restart(self, version: DeploymentVersion, begin: Literal["first", "failed"] = "first") -> int:
        """Swap, then cancel running runs and start them again under the new version.

        Args:
            version: The version to deploy.
            begin: "first" creates new runs with the same parameters; "failed" retries the runs that failed within the
                last day under their own ids, so that tasks with persisted results are not repeated.

        Returns:
            Number of runs that were started again.
        """
        self.versions.check(version)
        runs = self.server.runs(version.deployment) if self.stored(version.deployment) is not None else []
        since_s = self.transactions.clock.now_s() - _DAY_S
        reruns: list[dict[str, Any]] = []
        for run in runs:
            if begin == "first" and run.state in ACTIVE:
                reruns.append(_rerun(run, version, "cancel"))
            elif begin == "failed" and run.failed and (run.ended_s or 0.0) >= since_s:
                reruns.append(_rerun(run, version, "retry"))
        details = {"version": version.id, "again": reruns}
        self.transactions.commit("deploy --strategy restart", [self.change(version)], details)
        return len(reruns)

    def roll_back(self, deployment: str, text: str | None = None) -> DeploymentVersion:
        """Roll back to the previous version, or to the one that `text` names by tag or id.

        Two rollbacks go back two versions: a rollback removes the versions that it skips from the deployment's history.
        Rolling back to a named version that was in force before does the same; one that was never in force becomes the
        latest entry of the history.

        Raises:
            UnknownNameError: There is no such deployment or version, or a blob of it is missing.
            InvalidInputError: There is no previous version, or the version belongs to another deployment.
        """
        content = self.stored(deployment)
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
        """Return the content of a deployment before the change to the version in force."""
        changes = self._version_history(deployment)
        while changes and not _same_version(changes[-1]["after"], content):
            changes.pop()
        if not changes:
            raise InvalidInputError("rollback", deployment, "no version was in force before; name one")
        before: Mapping[str, Any] | None = changes[-1]["before"]
        if before is None:
            raise InvalidInputError("rollback", deployment, "it did not exist before; delete it in Prefect")
        return before

    def _version_history(self, deployment: str) -> list[Mapping[str, Any]]:
        """Return the changes that led to the version in force, oldest first, without those that a rollback reverted."""
        changes: list[Mapping[str, Any]] = []
        for intent in self.transactions.intents():
            for item in intent["changes"]:
                if item["resource"] != DEPLOYMENT + deployment:
                    continue
                if intent["title"] == ROLLBACK:
                    reverted = [c for c in changes if item["after"] and _same_version(c["before"], item["after"])]
                    if reverted:
                        del changes[changes.index(reverted[-1]) :]
                        continue
                changes.append(item)
        return changes

    def _busy(self, deployment: str) -> bool:
        now_s = self.transactions.clock.now_s()
        runs = self.server.runs(deployment)
        return any(run.state in ACTIVE or (run.state == "SCHEDULED" and run.scheduled_s <= now_s) for run in runs)

    def _pin_scheduled(self, version: DeploymentVersion) -> None:
        stored = self.stored(version.deployment)
        inputs = None if stored is None else pull_inputs(stored)
        if stored is None or not stored.get("entrypoint"):
            return
        if inputs is None or stored["entrypoint"] != version.spec.get("entrypoint"):
            raise InvalidInputError(
                "--scheduled", "old", "needs a deployment that `deploy` has made, and the same entrypoint; use new"
            )
        for run in self._waiting(version.deployment):
            self.server.pin_run(run.id, {VERSION_ENV: str(inputs["version"])})
        self._wait_for_claimed(version.deployment)

    def _check_waiting_runs(self, version: DeploymentVersion) -> None:
        """Raise if the version does not accept the parameters of a waiting run."""
        schema = version.spec.get("parameter_openapi_schema")
        if not schema or self.stored(version.deployment) is None:
            return
        for run in self._waiting(version.deployment):
            if errors := parameter_errors(schema, run.parameters, complete=True):
                reason = f"run {run.id} waits with other parameters ({errors[0]}); use old, drain, or cancel it before"
                raise InvalidInputError("--scheduled", "new", reason)

    def _waiting(self, deployment: str) -> list[PipelineRun]:
        """Return runs that no worker has claimed, without future scheduled runs, which Prefect creates anew."""
        now_s = self.transactions.clock.now_s()
        runs = self.server.runs(deployment, phase="SCHEDULED")
        return [run for run in runs if not run.auto_scheduled or run.scheduled_s <= now_s]

    def _wait_for_claimed(self, deployment: str) -> None:
        """Wait until no run is pending: which version a pending run would load is undefined."""
        clock = self.transactions.clock
        deadline_s = clock.now_s() + _CLAIMED_S
        while any(run.state == "PENDING" for run in self.server.runs(deployment)):
            if clock.now_s() >= deadline_s:
                reason = f"runs that a worker has claimed did not begin within {_CLAIMED_S:.0f} s; nothing has changed"
                raise InvalidInputError("--scheduled", "old", reason)
            clock.sleep(0.5)


def _same_version(one: Mapping[str, Any] | None, other: Mapping[str, Any]) -> bool:
    """Return whether two contents of a deployment run the same version."""
    if one is None:
        return False
    inputs, other_inputs = pull_inputs(one), pull_inputs(other)
    if inputs is None or other_inputs is None:
        return one == other
    return bool(inputs["version"] == other_inputs["version"])


def _rerun(run: PipelineRun, version: DeploymentVersion, how: str) -> dict[str, Any]:
    return {
        "how": how,
        "run": run.id,
        "deployment": run.deployment,
        "parameters": dict(run.parameters),
        "env": {key: value for key, value in run.env.items() if key != VERSION_ENV},
        "key": f"restart {run.id} {version.id[:SHORT]}",
    }


def follow_up(server: PipelineServer, details: Mapping[str, Any]) -> None:
    """Cancel, restart or retry the runs in an intent's details. Idempotent."""
    for item in details.get("again", ()):
        if item["how"] == "cancel":
            server.cancel_run(item["run"])
            server.start_run(item["deployment"], item["parameters"], key=item["key"], env=item["env"])
        else:
            server.retry_run(item["run"])
