"""Fakes of the quality ports: a checker with given results, and deployments in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prefect_intelligent.domain.datasets import Dataset
from prefect_intelligent.quality.model import Contract, Verification


class ScriptedChecker:
    """A `QualityChecker` that returns the given results in turn, then the last one again and again."""

    def __init__(self, *results: Verification) -> None:
        self._results = list(results)
        self.calls: list[tuple[Contract, Dataset]] = []

    def verify(
        self,
        contract: Contract,
        dataset: Dataset,
        *,
        variables: Mapping[str, str] | None = None,
        at_s: float | None = None,
    ) -> Verification:
        """The next result."""
        self.calls.append((contract, dataset))
        return self._results.pop(0) if len(self._results) > 1 else self._results[0]


@dataclass
class InMemoryDownstream:
    """A `Downstream` that stores which deployment is held for which datasets.

    Attributes:
        known: Deployments that exist.
        holds: Deployment to the datasets that hold it.
        retried: Runs that were run again.
    """

    known: Sequence[str] = ()
    holds: dict[str, set[str]] = field(default_factory=dict)
    retried: list[str] = field(default_factory=list)

    def hold(self, dataset: str, deployments: Sequence[str]) -> tuple[str, ...]:
        """Hold those that exist."""
        found = tuple(name for name in deployments if name in self.known)
        for name in found:
            self.holds.setdefault(name, set()).add(dataset)
        return found

    def release(self, dataset: str) -> tuple[str, ...]:
        """Release those that nothing else holds."""
        freed = []
        for name, datasets in list(self.holds.items()):
            datasets.discard(dataset)
            if not datasets:
                del self.holds[name]
                freed.append(name)
        return tuple(freed)

    def unknown(self, deployments: Sequence[str]) -> tuple[str, ...]:
        """Those that do not exist."""
        return tuple(name for name in deployments if name not in self.known)

    def retry(self, run_id: str) -> bool:
        """Note the run."""
        self.retried.append(run_id)
        return True
