"""Settings to the quality gate, and what the `quality` commands do beside it: contracts, profiles, bad rows, holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect_intelligent.domain.datasets import Dataset
from prefect_intelligent.errors import OrchestratorUnavailableError, UnknownNameError
from prefect_intelligent.local.spool import Spool
from prefect_intelligent.quality.gate import Gate
from prefect_intelligent.quality.model import Contract
from prefect_intelligent.quality.remediation import RemediationPolicy
from prefect_intelligent.settings import Settings, load_settings

if TYPE_CHECKING:
    from prefect_intelligent.quality.adapters.editing.quarantine import QuarantineBatch
    from prefect_intelligent.quality.adapters.profiler import TableProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityParts:
    """A gate with the spool that takes its results.

    Attributes:
        gate: The use case with its adapters.
        spool: Where results wait for the shipper.
        settings: What they were made from.
    """

    gate: Gate
    spool: Spool
    settings: Settings


def quality_parts(
    policy: RemediationPolicy | None = None,
    *,
    settings: Settings | None = None,
    prefect: bool = True,
    quarantine: str | None = None,
) -> QualityParts:
    """The gate as the settings describe it.

    Args:
        policy: Limits of remediation; the default ones if None.
        settings: Read from flags, environment and file if None.
        prefect: Whether deployments may be held and runs retried.
        quarantine: DuckDB file for the bad rows of frames; else `quarantine.duckdb` in the data folder.
    """
    from prefect_intelligent.prefect_client.clock import SystemClock
    from prefect_intelligent.quality.adapters.editing.editor import RowEditor
    from prefect_intelligent.quality.adapters.prefect_holds import PrefectDownstream
    from prefect_intelligent.quality.adapters.soda.checker import SodaChecker
    from prefect_intelligent.wiring.history import open_history
    from prefect_intelligent.wiring.pool_records import switch_position

    found = settings or load_settings().settings
    history = open_history(found)
    gate = Gate(
        checker=SodaChecker(),
        editor=RowEditor(Path(quarantine) if quarantine else found.folder / "quarantine.duckdb"),
        history=history,
        downstream=PrefectDownstream(lambda pool: switch_position(found, pool) == "off") if prefect else None,
        clock=SystemClock(),
        policy=policy or RemediationPolicy(),
    )
    return QualityParts(gate=gate, spool=Spool(found.spool_dir), settings=found)


def load_contract(source: str | Path) -> Contract:
    """The contract in a file.

    Raises:
        InvalidInputError: It cannot be read, or there is a mistake in it.
    """
    from prefect_intelligent.quality.adapters.contracts import lint

    return lint.load_contract(source)


def lint_contract(path: str) -> list[str]:
    """Mistakes in a contract that Soda would ignore, with the line of each.

    Raises:
        InvalidInputError: The file cannot be read.
    """
    from prefect_intelligent.quality.adapters.contracts.lint import lint, read_contract

    return [str(finding) for finding in lint(read_contract(Path(path)), path)]


def profile_dataset(dataset: Dataset) -> TableProfile:
    """What each column of a dataset holds.

    Raises:
        InvalidInputError: It cannot be read.
    """
    from prefect_intelligent.quality.adapters.profiler import profile

    return profile(dataset)


def draft_contract(dataset: Dataset) -> str:
    """YAML of a contract that passes on the dataset as it is.

    Raises:
        InvalidInputError: It cannot be read.
    """
    from prefect_intelligent.quality.adapters.profiler import new_contract, profile

    return new_contract(profile(dataset), dataset.schema or "main")


def check_deployments(names: Sequence[str]) -> None:
    """Refuse deployments that do not exist; a server that does not answer is no error here.

    Raises:
        UnknownNameError: There is none of such a name.
    """
    from prefect_intelligent.quality.adapters.prefect_holds import PrefectDownstream

    with suppress(OrchestratorUnavailableError):
        if missing := PrefectDownstream().unknown(names):
            raise UnknownNameError("deployment", missing[0], PrefectDownstream().deployments())


def release_deployments(dataset: str) -> tuple[str, ...]:
    """Give the deployments back that a dataset holds; their names.

    Raises:
        OrchestratorUnavailableError: The API cannot be reached.
    """
    from prefect_intelligent.quality.adapters.prefect_holds import PrefectDownstream

    return PrefectDownstream().release(dataset)


def quarantined_batches(dataset: Dataset) -> tuple[QuarantineBatch, ...]:
    """How many rows of a dataset are set aside, by run and reason."""
    from prefect_intelligent.quality.adapters.editing.quarantine import batches

    return batches(dataset)


def quarantined_rows(
    dataset: Dataset, *, run_id: str | None, limit: int
) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    """Columns, and the newest rows that are set aside of a dataset, at most `limit`."""
    from prefect_intelligent.quality.adapters.editing.quarantine import rows

    return rows(dataset, run_id=run_id, limit=limit)


def release_rows(
    dataset: Dataset,
    *,
    ids: Sequence[str],
    run_id: str | None,
    corrections: Mapping[str, str],
    dry_run: bool,
) -> int:
    """Put rows that are set aside back into their dataset; how many. See `editing.quarantine.release`."""
    from prefect_intelligent.quality.adapters.editing.quarantine import release

    return release(dataset, ids=ids, run_id=run_id, corrections=corrections, dry_run=dry_run)
