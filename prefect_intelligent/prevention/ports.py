"""Port of prevention: actions on deployments and runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class PreventionActions(Protocol):
    """Actions on deployments and runs of Prefect.

    An action on deployments ("flow/deployment") has a `key` and is reverted by `release(key)`; the original settings
    are stored in Prefect itself, so that any process can do that. Actions are idempotent, and the last action with a
    key replaces the ones before. Each method returns the deployments or runs that it changed, without those for which
    Prefect offers no such setting. Every method may raise `OrchestratorUnavailableError`.
    """

    def hold(self, key: str, deployments: Sequence[str]) -> tuple[str, ...]:
        """Keep the deployments from starting runs; scheduled runs wait."""
        ...

    def release(self, key: str) -> tuple[str, ...]:
        """Revert the action with a key; returns the deployments that have their original settings again."""
        ...

    def share(self, key: str, deployments: Sequence[str], most: int) -> tuple[str, ...]:
        """Limit the deployments to `most` active runs in total."""
        ...

    def resize(self, key: str, deployments: Sequence[str], times: float) -> tuple[str, ...]:
        """Multiply the memory of unclaimed and later runs by `times`."""
        ...

    def avoid(self, key: str, deployments: Sequence[str], host: str) -> tuple[str, ...]:
        """Keep unclaimed and later runs off a host."""
        ...

    def add_retries(self, key: str, deployments: Sequence[str], retries: int) -> tuple[str, ...]:
        """Add retries, minutes apart, to unclaimed runs; returns the ids of these runs."""
        ...

    def postpone(self, runs: Sequence[str], until_s: float) -> tuple[str, ...]:
        """Reschedule unclaimed runs to start no earlier than `until_s`; returns the ids of those that were changed."""
        ...

    def cancel(self, runs: Sequence[str], why: str) -> tuple[str, ...]:
        """Cancel unclaimed runs; returns the ids of those that are cancelled."""
        ...

    def bring_back(self, runs: Sequence[str]) -> tuple[str, ...]:
        """Schedule runs again that `cancel` has cancelled, as they were; returns the ids of those that are."""
        ...

    def stop(self, run: str, why: str) -> bool:
        """Have a run that occupies a slot cancelled, with its process; returns False if it does not occupy one."""
        ...

    def finish_stop(self, run: str, *, again: bool) -> bool:
        """Return whether the process of a stopped run is known to have ended.

        Missing heartbeats prove nothing, nor does a state that someone else has set: only what a worker or the process
        itself reports.

        Args:
            run: Id of the flow run.
            again: Whether to create, once, a new run with the same parameters if the stopped one was cut off.
        """
        ...

    def roll_back(self, deployment: str, version: str | None) -> bool:
        """Deploy the version that was in force before `version`; False if there is none."""
        ...

    def mend(self) -> tuple[str, ...]:
        """Put actions on deployments in force again that somebody has ended, e.g. by a deploy; says what was found."""
        ...

    def in_force(self) -> tuple[str, ...]:
        """Return the keys of all actions in force."""
        ...
