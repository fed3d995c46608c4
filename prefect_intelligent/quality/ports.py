"""Ports of the quality gate: a checker, an editor of datasets, and the deployments downstream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from prefect_intelligent.domain.datasets import Dataset
from prefect_intelligent.quality.model import Contract, Verification
from prefect_intelligent.quality.remediation import EditReport, RowEdit


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
        """Evaluate every check of the contract; failures of the checker itself are in the result's `errors`.

        Args:
            contract: The checks.
            dataset: The data.
            variables: Values of the contract's variables.
            at_s: Instant against which freshness is measured, Unix seconds; now by default.

        Raises:
            InvalidInputError: A variable is not declared, or its value is not safe in SQL.
        """
        ...


class DatasetEditor(Protocol):
    """Changes datasets: moves rows to quarantine, repairs values, saves and restores snapshots."""

    def edit(
        self,
        dataset: Dataset,
        table: str,
        edits: Sequence[RowEdit],
        *,
        run_id: str,
        at_s: float,
        budget_rows: int | None = None,
        dry_run: bool = False,
    ) -> EditReport:
        """Apply the edits, all or none; an edited frame is returned in the report's `data`.

        Raises:
            BudgetExceededError: More than `budget_rows` rows would be moved.
            PrefectIntelligentError: The dataset cannot be changed; it is unchanged.
        """
        ...

    def save_snapshot(self, dataset: Dataset, table: str) -> bool:
        """Copy the dataset as its last good snapshot; False if a dataset of this kind cannot be copied."""
        ...

    def restore_snapshot(self, dataset: Dataset, table: str, run_id: str) -> bool:
        """Restore the last good snapshot and save the replaced data beside it; False if there is no snapshot."""
        ...


class Downstream(Protocol):
    """The deployments in Prefect that read a dataset."""

    def hold(self, dataset: str, deployments: Sequence[str]) -> tuple[str, ...]:
        """Keep the deployments ("flow/deployment") from starting runs; returns those that are held."""
        ...

    def release(self, dataset: str) -> tuple[str, ...]:
        """Undo `hold` for a dataset; returns the deployments that may start runs again."""
        ...

    def unknown(self, deployments: Sequence[str]) -> tuple[str, ...]:
        """Those that do not exist."""
        ...

    def retry(self, run_id: str) -> bool:
        """Run a finished flow run again; False if it cannot be."""
        ...
