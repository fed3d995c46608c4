"""Puts the quality gate together from the settings, for the flow task, the command line and the shipper."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prefect_intelligent.history.adapters.sql_records import open_history
from prefect_intelligent.local.spool import Spool
from prefect_intelligent.prefect_client.clock import SystemClock
from prefect_intelligent.quality.adapters.editing.editor import RowEditor
from prefect_intelligent.quality.adapters.prefect_holds import PrefectDownstream
from prefect_intelligent.quality.adapters.soda.checker import SodaChecker
from prefect_intelligent.quality.gate import Gate
from prefect_intelligent.quality.remediation import RemediationPolicy
from prefect_intelligent.settings import Settings, load_settings


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
    found = settings or load_settings().settings
    gate = Gate(
        checker=SodaChecker(),
        editor=RowEditor(Path(quarantine) if quarantine else found.folder / "quarantine.duckdb"),
        history=open_history(found.history),
        downstream=PrefectDownstream() if prefect else None,
        clock=SystemClock(),
        policy=policy or RemediationPolicy(),
    )
    return QualityParts(gate=gate, spool=Spool(found.spool_dir), settings=found)
