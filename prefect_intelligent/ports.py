"""What the services need from the world, in the words of the domain. Adapters and fakes implement these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from prefect_intelligent.domain import Change, Deployment, PoolSetting, QueueSetting, Snapshot
from prefect_intelligent.domain.datasets import Dataset
from prefect_intelligent.domain.facts import DeploymentFact, EventFact, QueueFact, RunFact, StateFact, TaskRunFact
from prefect_intelligent.domain.quality import Contract, Verification
from prefect_intelligent.domain.remediation import Edit, EditReport
from prefect_intelligent.outbox import Parcel
from prefect_intelligent.pipelines.runs import PipelineRun, RunState


class Clock(Protocol):
    """Where the time comes from."""

    def now_s(self) -> float:
        """The present instant, Unix seconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait; returns early if the process is asked to stop."""
        ...


class Orchestrator(Protocol):
    """One work pool of a Prefect server.

    Every method may raise `OrchestratorUnavailableError` (try again or skip), `ConflictError` (the thing has changed
    or gone) and, where a name does not exist, `UnknownNameError`; nothing else escapes.
    """

    @property
    def pool(self) -> str:
        """Name of the work pool."""
        ...

    def observe(self) -> Snapshot:
        """The pool as it is now, with at most a handful of calls."""
        ...

    def settings(self) -> tuple[PoolSetting, tuple[QueueSetting, ...]]:
        """The settings alone; queues by name."""
        ...

    def apply(self, changes: Sequence[Change]) -> tuple[Change, ...]:
        """Write the changes in order, read back, and return those that now hold.

        A change whose queue has gone is skipped, and so is one whose setting is no longer what `Change.before` says
        (a person has edited it: human-set values win). A transient refusal ends the pass and the rest is left for the
        next one.
        """
        ...

    def emit(self, event: str, payload: Mapping[str, Any]) -> None:
        """Send an event about the pool (name after `prefect-intelligent.`); never raises."""
        ...

    def deployments(self) -> tuple[Deployment, ...]:
        """The pool's deployments, by name."""
        ...

    def create_queue(self, setting: QueueSetting) -> None:
        """Make a work queue with exactly these settings.

        Raises:
            ConflictError: The pool already has a queue of that name.
        """
        ...

    def delete_queue(self, name: str) -> None:
        """Remove a work queue; nothing happens if it has already gone.

        Raises:
            ConflictError: Prefect does not allow it (the queue "default").
        """
        ...

    def assign(self, deployment: str, queue: str) -> None:
        """Send the deployment's new runs ("flow/deployment") to `queue`; runs that exist keep theirs.

        Raises:
            UnknownNameError: There is no such deployment or queue.
        """
        ...


class Lease(Protocol):
    """Leadership over one pool: at most one holder, and it lapses by itself when the holder dies."""

    def acquire(self) -> bool:
        """Try to become the holder, without waiting; True if we now hold it."""
        ...

    def renew(self) -> bool:
        """Prolong it; False if it was lost, and then nothing may be written any more.

        Raises:
            OrchestratorUnavailableError: Not known; it still lapses by itself if this goes on.
        """
        ...

    def release(self) -> None:
        """Give it up so that another may take over at once; never raises."""
        ...


class Signals(Protocol):
    """Tells that something happened in the pool, so that a decision need not wait for the interval."""

    def wait(self, timeout_s: float) -> bool:
        """Block until something happened since the last call (True) or the time is over (False); never raises."""
        ...

    def close(self) -> None:
        """Stop listening."""
        ...


class HistoryStore(Protocol):
    """Where decisions and original settings are kept."""

    def append(self, kind: str, pool: str, at_s: float, record: Mapping[str, Any]) -> int:
        """Keep one record for good and return its number."""
        ...

    def latest(self, kind: str, pool: str) -> Mapping[str, Any] | None:
        """The record of that kind for the pool that was written last (clocks jump, the order of writing does not)."""
        ...

    def records(self, kind: str, pool: str | None = None, since_s: float | None = None) -> Sequence[Mapping[str, Any]]:
        """Records of that kind in the order in which they were written."""
        ...

    def forget(self, kind: str, before_s: float) -> int:
        """Remove the records of that kind that are older than `before_s`; returns how many."""
        ...


class RunSource(Protocol):
    """What a server remembers, in pieces that stay small. Every method may raise `OrchestratorUnavailableError`."""

    def first_s(self) -> float | None:
        """An instant before which no run has ended; None if there is no run at all."""
        ...

    def ended_count(self, since_s: float, until_s: float) -> int:
        """How many flow runs ended from `since_s` (included) to `until_s` (excluded)."""
        ...

    def ended_runs(self, since_s: float, until_s: float) -> Iterator[list[RunFact]]:
        """Those flow runs, page by page."""
        ...

    def live_runs(self) -> Iterator[list[RunFact]]:
        """Flow runs that hold a slot or are due, page by page."""
        ...

    def task_runs(self, run_ids: Sequence[str]) -> Iterator[list[TaskRunFact]]:
        """Task runs of these flow runs, page by page."""
        ...

    def events(self, since_s: float, until_s: float) -> Iterator[tuple[list[EventFact], list[StateFact]]]:
        """Events of the span and the changes of state they tell of, page by page; the server forgets them in days."""
        ...

    def deployments(self) -> list[DeploymentFact]:
        """All deployments."""
        ...

    def queues(self) -> list[QueueFact]:
        """Settings of all pools and queues as they are now."""
        ...


class RunStore(Protocol):
    """Where what a server remembered is kept for good. Putting a thing twice is putting it once."""

    def cursor(self, name: str) -> float | None:
        """Up to which instant `name` has been copied; None if never."""
        ...

    def put(
        self,
        *,
        runs: Sequence[RunFact] = (),
        task_runs: Sequence[TaskRunFact] = (),
        events: Sequence[EventFact] = (),
        states: Sequence[StateFact] = (),
        cursor: tuple[str, float] | None = None,
    ) -> None:
        """Keep rows and move a cursor, all or nothing; a row with a known key replaces the old one."""
        ...

    def put_deployments(self, deployments: Sequence[DeploymentFact]) -> None:
        """Keep the deployments as they are now; those that have gone stay as they were."""
        ...

    def put_queues(self, queues: Sequence[QueueFact]) -> int:
        """Keep settings that differ from those kept last; returns how many did."""
        ...

    def pack(self, before_s: float) -> int:
        """Make the days before an instant faster to read, where the store can; returns how many were made so."""
        ...


class QualityChecker(Protocol):
    """Verifies a dataset against a contract."""

    def verify(
        self,
        contract: Contract,
        dataset: Dataset,
        *,
        variables: Mapping[str, str] | None = None,
        at_s: float | None = None,
    ) -> Verification:
        """The outcome of every check; what keeps the checker from its work is in the result's `errors`.

        Args:
            contract: What must hold.
            dataset: Where the data lies.
            variables: Values of the contract's variables.
            at_s: The instant that freshness is measured against; now by default.

        Raises:
            InvalidInputError: A variable cannot be used.
        """
        ...


class DatasetEditor(Protocol):
    """Changes datasets: moves rows to quarantine, repairs values, keeps and restores good snapshots."""

    def edit(
        self,
        dataset: Dataset,
        table: str,
        edits: Sequence[Edit],
        *,
        run_id: str,
        at_s: float,
        budget_rows: int | None = None,
        dry_run: bool = False,
    ) -> EditReport:
        """Apply the edits, all or none; a frame comes back as a new one in the report.

        Raises:
            BudgetExceededError: More than `budget_rows` rows would be moved.
            PrefectIntelligentError: The dataset cannot be changed; it is as it was.
        """
        ...

    def keep_good(self, dataset: Dataset, table: str) -> bool:
        """Keep the dataset as it is as its last good snapshot; False if there is nowhere to keep it."""
        ...

    def restore_good(self, dataset: Dataset, table: str, run_id: str) -> bool:
        """Put the last good snapshot back, and keep what was there beside it; False if there is no snapshot."""
        ...


class Downstream(Protocol):
    """What depends on a dataset, in Prefect."""

    def hold(self, dataset: str, deployments: Sequence[str]) -> tuple[str, ...]:
        """Keep the deployments ("flow/deployment") from starting runs, without losing any; returns those held now."""
        ...

    def release(self, dataset: str) -> tuple[str, ...]:
        """Undo `hold` for a dataset; returns the deployments that may start runs again."""
        ...

    def retry(self, run_id: str) -> bool:
        """Run a finished flow run again; False if it cannot be."""
        ...


class Levers(Downstream, Protocol):
    """What prevention can do to deployments and runs of Prefect.

    What is done under a `key` to deployments ("flow/deployment") is undone by `release(key)`; what was there before is
    kept in Prefect itself, so that any process can do that. Doing a thing twice is doing it once, and the last word
    under a key counts. Each method returns what it is done for; nothing where Prefect or the deployment has no such
    lever. Every method may raise `OrchestratorUnavailableError`.
    """

    def share(self, key: str, deployments: Sequence[str], most: int) -> tuple[str, ...]:
        """Let at most `most` runs of the deployments be at work at once, all together."""
        ...

    def resize(self, key: str, deployments: Sequence[str], times: float) -> tuple[str, ...]:
        """Give runs that have not been claimed yet, and later ones, `times` the memory the deployment asked for."""
        ...

    def avoid(self, key: str, deployments: Sequence[str], host: str) -> tuple[str, ...]:
        """Keep runs that have not been claimed yet, and later ones, away from a host."""
        ...

    def be_patient(self, key: str, deployments: Sequence[str], retries: int) -> tuple[str, ...]:
        """Give runs that have not been claimed yet so many more retries, with pauses of minutes; returns the runs."""
        ...

    def postpone(self, runs: Sequence[str], until_s: float) -> tuple[str, ...]:
        """Let runs that have not been claimed yet start no earlier than an instant; returns those that now do."""
        ...

    def stop(self, run: str, *, again: bool, lost: bool) -> bool:
        """End a run that holds a slot, and start it anew if `again`.

        Args:
            run: Id of the flow run.
            again: Whether a new run with the same parameters is made.
            lost: Whether its process is thought dead: it is then crashed at once instead of asked to cancel.
        """
        ...

    def roll_back(self, deployment: str, version: str | None) -> bool:
        """Bring back the version that was in force before `version`; False if there is none."""
        ...

    def in_force(self) -> tuple[str, ...]:
        """Keys under which something is done now."""
        ...


class Tracker(Protocol):
    """A tracking server for what happened. Sending the same parcels again must change nothing."""

    def log(self, parcels: Sequence[Parcel]) -> None:
        """Send parcels of one stream.

        Raises:
            TrackerUnavailableError: Try again later; some may have arrived.
            TrackerError: The server will not take (one of) them.
        """
        ...

    def archive(self, parcels: Sequence[Parcel]) -> None:
        """Keep parcels of one stream as a file, whole.

        Raises:
            TrackerUnavailableError: Try again later.
        """
        ...


class PipelineServer(Protocol):
    """What pipelines need of a Prefect server: its deployments, the automations we own, and runs.

    Every method may raise `OrchestratorUnavailableError`, `ConflictError` and `UnknownNameError`; nothing else escapes.
    """

    def read(self, resource: str) -> Mapping[str, Any] | None:
        """Content of a resource (see `pipelines.changes`); None if it does not exist."""
        ...

    def read_all(self, prefix: str) -> dict[str, Mapping[str, Any]]:
        """All resources of one prefix by their full name; of automations those we own."""
        ...

    def write(self, resource: str, value: Mapping[str, Any] | None) -> None:
        """Make the resource hold exactly this, or remove it; twice is as good as once.

        Raises:
            ConflictError: Prefect refuses the content.
        """
        ...

    def runs(
        self, deployment: str, *, phase: RunState | None = None, since_s: float | None = None
    ) -> list[PipelineRun]:
        """Runs of a deployment, the latest 200 of that state type, oldest first."""
        ...

    def start_run(
        self, deployment: str, parameters: Mapping[str, Any], *, key: str, env: Mapping[str, str] | None = None
    ) -> str:
        """Start a run now and return its id; the same `key` gives the same run."""
        ...

    def cancel_run(self, run_id: str) -> None:
        """Ask for a run's end; nothing happens if it has ended."""
        ...

    def retry_run(self, run_id: str) -> None:
        """Run an ended run again under the same id: tasks whose results were kept are not repeated."""
        ...

    def pin_run(self, run_id: str, env: Mapping[str, str]) -> bool:
        """Add environment variables to a run that has not been claimed; False if it already has."""
        ...


class BlobStore(Protocol):
    """Content kept under its sha256, for versions of pipelines."""

    def put(self, content: bytes) -> str:
        """Keep content and return its digest."""
        ...

    def get(self, digest: str) -> bytes:
        """Content of a digest; `UnknownNameError` if it is not there, `StoreError` if it is damaged."""
        ...

    def has(self, digest: str) -> bool:
        """Whether the content is there."""
        ...

    def digests(self) -> Iterator[str]:
        """All digests that are kept."""
        ...

    def delete(self, digest: str) -> None:
        """Remove content; nothing happens if it has gone."""


class PolicyStore(Protocol):
    """Versions of exported policies, and which of them bears which alias."""

    def add(self, folder: Path) -> str:
        """Take over a bundle and return its version; the same weights are the same version.

        Raises:
            InvalidInputError: The folder holds no bundle that can be read.
        """
        ...

    def folder(self, version: str) -> Path:
        """Where the bundle of a version lies.

        Raises:
            UnknownNameError: There is no such version.
        """
        ...

    def weights_sha256(self, version: str) -> str:
        """The fingerprint of a version's weights."""
        ...

    def alias(self, name: str) -> str | None:
        """The version that bears the alias, if any."""
        ...

    def past(self, name: str) -> Sequence[str]:
        """Versions that have borne the alias, oldest first, the present one last."""
        ...

    def set_alias(self, name: str, version: str, *, why: str, at_s: float) -> None:
        """Give the alias to a version and record why."""
        ...
