"""Prevention actions in memory, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect_intelligent.errors import OrchestratorUnavailableError


@dataclass
class InMemoryPreventionActions:
    """Implements `PreventionActions` for the deployments and runs that it is given.

    Attributes:
        deployments: Name to its settings: "memory" (0 without such a variable), "avoid" (hosts, or absent where the
            pool knows no such variable), "versions" (oldest first, the last is in force).
        runs: Run id to "scheduled", "running" or how it ended, its deployment, and what was changed about it.
        done: Actions in force by key and deployment.
        stopped: Runs that were stopped.
        restarted: Runs that were started again.
        broken: While True every call raises `OrchestratorUnavailableError`.
    """

    deployments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    done: dict[str, dict[str, tuple[str, Any]]] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    broken: bool = False

    def slots(self, deployment: str) -> float:
        """Return how many of its runs may be active at once: the smallest limit in force."""
        own = [what for done in self.done.values() if (what := done.get(deployment)) is not None]
        return min((0 if kind == "hold" else amount for kind, amount in own if kind in ("hold", "share")), default=999)

    def memory(self, deployment: str) -> float:
        """Memory of its next runs."""
        given = float(self.deployments[deployment].get("memory", 0.0))
        times = [what[1] for done in self.done.values() if (what := done.get(deployment)) and what[0] == "resize"]
        return given * max(times, default=1.0)

    def avoided(self, deployment: str) -> set[str]:
        """Hosts that its next runs keep away from."""
        return {what[1] for done in self.done.values() if (what := done.get(deployment)) and what[0] == "avoid"}

    def hold(self, key: str, deployments: Sequence[str]) -> tuple[str, ...]:
        """Hold those that exist."""
        return self._do(key, deployments, "hold", 0)

    def share(self, key: str, deployments: Sequence[str], most: int) -> tuple[str, ...]:
        """Limit those that exist, together."""
        return self._do(key, deployments, "share", most)

    def resize(self, key: str, deployments: Sequence[str], times: float) -> tuple[str, ...]:
        """Resize those that have a variable for memory."""
        return self._do(key, [n for n in deployments if self.deployments.get(n, {}).get("memory")], "resize", times)

    def avoid(self, key: str, deployments: Sequence[str], host: str) -> tuple[str, ...]:
        """Those whose pool knows how to."""
        return self._do(key, [n for n in deployments if "avoid" in self.deployments.get(n, {})], "avoid", host)

    def add_retries(self, key: str, deployments: Sequence[str], retries: int) -> tuple[str, ...]:
        """Change the scheduled runs."""
        self._do(key, deployments, "patience", retries)
        found = [k for k, run in self.runs.items() if run["deployment"] in deployments and run["state"] == "scheduled"]
        for run in found:
            self.runs[run]["retries"] = retries
        return tuple(found)

    def postpone(self, runs: Sequence[str], until_s: float) -> tuple[str, ...]:
        """Move the scheduled ones."""
        self._check()
        found = tuple(run for run in runs if self.runs.get(run, {}).get("state") == "scheduled")
        for run in found:
            self.runs[run]["scheduled_s"] = until_s
        return found

    def cancel(self, runs: Sequence[str], why: str) -> tuple[str, ...]:
        """Cancel the scheduled ones."""
        self._check()
        for run in runs:
            if self.runs.get(run, {}).get("state") == "scheduled":
                self.runs[run] |= {"state": "cancelled", "cancelled by": "us"}
        return tuple(run for run in runs if "cancelled by" in self.runs.get(run, {}))

    def bring_back(self, runs: Sequence[str]) -> tuple[str, ...]:
        """Schedule again what `cancel` has cancelled."""
        self._check()
        found = tuple(run for run in runs if self.runs.get(run, {}).pop("cancelled by", None))
        for run in found:
            self.runs[run]["state"] = "scheduled"
        return found

    def stop(self, run: str, why: str) -> bool:
        """Begin to cancel a running run; a test lets it end by setting its state to "cancelled"."""
        self._check()
        if self.runs.get(run, {}).get("state") != "running":
            return False
        self.runs[run]["state"] = "cancelling"
        self.stopped.append(run)
        return True

    def finish_stop(self, run: str, *, again: bool) -> bool:
        """Those that have ended."""
        self._check()
        state = self.runs.get(run, {}).get("state", "gone")
        if state == "cancelled" and again and run not in self.restarted:
            self.restarted.append(run)
        return state in ("cancelled", "completed", "gone")

    def roll_back(self, deployment: str, version: str | None) -> bool:
        """Drop the last version."""
        self._check()
        versions = self.deployments.get(deployment, {}).get("versions", [])
        if len(versions) < 2 or (version is not None and versions[-1] != version):
            return False
        versions.pop()
        return True

    def release(self, key: str) -> tuple[str, ...]:
        """Revert the actions with a key; returns the deployments that no other hold applies to."""
        self._check()
        freed = self.done.pop(key, {})
        for name, (kind, amount) in freed.items():
            for run in self.runs.values():
                if kind == "patience" and run["deployment"] == name and run.get("retries") == amount:
                    del run["retries"]
        return tuple(name for name in freed if self.slots(name) > 0)

    def mend(self) -> tuple[str, ...]:
        """Return nothing: nobody deploys here."""
        self._check()
        return ()

    def in_force(self) -> tuple[str, ...]:
        """Return the keys of all actions in force."""
        self._check()
        return tuple(sorted(self.done))

    def _do(self, key: str, deployments: Sequence[str], kind: str, amount: Any) -> tuple[str, ...]:
        self._check()
        found = tuple(name for name in deployments if name in self.deployments)
        if found:
            before: Mapping[str, tuple[str, Any]] = self.done.get(key, {})
            self.done[key] = {**before, **dict.fromkeys(found, (kind, amount))}
        return found

    def _check(self) -> None:
        if self.broken:
            raise OrchestratorUnavailableError("the actions are set to fail")
