"""What prevention can do to deployments and runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from prefect_intelligent.quality.ports import Downstream


class PreventionActions(Downstream, Protocol):
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
