"""What quality gates need from the world."""

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
        edits: Sequence[RowEdit],
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
