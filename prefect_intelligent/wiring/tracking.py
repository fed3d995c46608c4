"""Puts the shipper together from the settings: spool, outbox, MLflow, and the checks that hooks ask for."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prefect_intelligent.domain.clock import Clock
from prefect_intelligent.domain.datasets import DataKind, Dataset, parse_dataset
from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.local.spool import Entry, Spool
from prefect_intelligent.prefect_client.clock import SystemClock
from prefect_intelligent.settings import Settings
from prefect_intelligent.tracking.adapters.mlflow import MlflowTracker
from prefect_intelligent.tracking.outbox import Outbox
from prefect_intelligent.tracking.ports import Tracker
from prefect_intelligent.tracking.shipper import Shipment, ship
from prefect_intelligent.wiring.blocks import mlflow_uri

__all__ = ["MlflowTracker", "Shipper", "open_shipper"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipper:
    """Everything that shipping needs.

    Attributes:
        spool: Where records are left.
        outbox: Keeps events until they are sent and archived.
        tracker: Where they go.
        clock: The time.
        settings: What it was made from.
    """

    spool: Spool
    outbox: Outbox
    tracker: Tracker
    clock: Clock
    settings: Settings

    def once(self, *, archive_all: bool = False) -> Shipment:
        """One pass; see `ship`."""
        return ship(self.spool, self.outbox, self.tracker, self.clock, check=self._check, archive_all=archive_all)

    def status(self) -> Shipment:
        """What waits and what was lost, without touching anything."""
        kept = self.outbox.status()
        return Shipment(
            collected=0,
            sent=0,
            refused=0,
            archived=0,
            checks=0,
            problem="",
            status=replace(kept, waiting=kept.waiting + self.spool.count()),
            dropped=self.spool.losses().records,
        )

    def _check(self, entry: Entry) -> None:
        """Verify the data that a finished run has written, because its hook asked for it."""
        from prefect_intelligent.quality.adapters.prefect_events import attach_quality, emit_quality
        from prefect_intelligent.wiring.quality import load_contract, quality_parts

        asked = entry.record
        folder = Path(asked["folder"])
        contract = load_contract(folder / asked["contract"])
        parts = quality_parts(settings=self.settings)
        run_id = str(asked["flow_run_id"])
        result = parts.gate.run(
            contract, _written(asked["outputs"], folder, contract.table), run_id=run_id, producer=run_id
        )
        record = result.to_record(run_id, result.first.started_s, run_id)
        emit_quality(record)
        attach_quality(record, result.sentence(), run_id)
        self.spool.append("quality", record, event_id=f"quality:{entry.id}", at_s=result.first.started_s)


def _written(outputs: Sequence[str], folder: Path, table: str) -> Dataset:
    """The declared output that bears the name of the contract's table, else the first one that says where it lies.

    Raises:
        InvalidInputError: None does.
    """
    found = []
    for output in outputs:
        with contextlib.suppress(InvalidInputError):
            place = parse_dataset(output)
            if place.kind is not DataKind.POSTGRES:
                place = replace(place, location=str(folder / place.location))
            found.append(place)
    if not found:
        raise InvalidInputError("outputs", list(outputs), "a contract is checked on an output that says where it lies")
    return next((d for d in found if (d.table or Path(d.location).stem) == table), found[0])


def open_shipper(settings: Settings, *, uri: str | None = None) -> Shipper:
    """The shipper as the settings describe it.

    Args:
        settings: Where the spool is.
        uri: MLflow; else `MLFLOW_TRACKING_URI`, else a SQLite file in the data folder.
    """
    folder = settings.folder
    return Shipper(
        spool=Spool(settings.spool_dir),
        outbox=Outbox(folder / "outbox.db"),
        tracker=MlflowTracker(uri or mlflow_uri(settings)),
        clock=SystemClock(),
        settings=settings,
    )
