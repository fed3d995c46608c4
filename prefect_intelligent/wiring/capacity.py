"""Settings to what brings capacity to a pool."""

from __future__ import annotations

import hashlib
import os
import socket
import statistics
import time
from contextlib import suppress

from prefect_intelligent.capacity.adapters.fleet_files import FleetFolder
from prefect_intelligent.capacity.adapters.local_fleet import LocalFleet
from prefect_intelligent.capacity.adapters.notifier import CapacityNotifier, command_teller, webhook_teller
from prefect_intelligent.capacity.fleet_plan import FleetBounds
from prefect_intelligent.capacity.ports import Capacity
from prefect_intelligent.errors import InvalidInputError, StoreError
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.history.reading import read_each
from prefect_intelligent.prefect_client.api import PrefectApi
from prefect_intelligent.settings import PoolSettings, Settings
from prefect_intelligent.settings.loading import SCALE_TOKEN_VARIABLE
from prefect_intelligent.steering.adapters.prefect_pool import PrefectOrchestrator
from prefect_intelligent.wiring.history import has_history, open_history

BOOT = "worker-boot"
_BOOTS = 20


def open_notifiers(settings: Settings, pool: str) -> tuple[Capacity, ...]:
    """Those that the settings of the pool name: a command, a webhook, both or none."""
    own = settings.pools.get(pool, PoolSettings())
    made: list[Capacity] = []
    if own.scale_command:
        made.append(CapacityNotifier(pool, command_teller(own.scale_command)))
    if own.scale_webhook:
        token = os.environ.get(SCALE_TOKEN_VARIABLE)
        made.append(CapacityNotifier(pool, webhook_teller(own.scale_webhook, token=token)))
    return tuple(made)


def open_fleet_folder(settings: Settings, api: PrefectApi, pool: str) -> FleetFolder:
    """The folder of the fleet of a pool of a server on this machine."""
    digest = hashlib.sha256(f"{api.url}\0{pool}".encode()).hexdigest()[:16]
    return FleetFolder(settings.folder / "fleet" / digest)


def open_fleet(settings: Settings, api: PrefectApi, pool: str, bounds: FleetBounds) -> LocalFleet:
    """The fleet of a pool on this machine; how long its workers take to come is recorded.

    Raises:
        StoreError: The history store cannot be opened.
    """
    history = open_history(settings)

    def booted(seconds: float) -> None:
        with suppress(StoreError):
            history.append(BOOT, pool, time.time(), {"seconds": seconds, "host": socket.gethostname()})

    return LocalFleet(
        open_fleet_folder(settings, api, pool),
        pool,
        bounds,
        env=os.environ | {"PREFECT_API_URL": api.url},
        prefix=f"fleet-{socket.gethostname()}",
        booted=booted,
    )


def check_process_pool(orchestrator: PrefectOrchestrator) -> None:
    """Refuse a pool whose runs are not started by process workers.

    Raises:
        InvalidInputError: It is of another type; `OrchestratorError` if Prefect does not say.
    """
    held, _ = orchestrator.settings()
    if held.type != "process":
        raise InvalidInputError(
            "--pool", held.name, f"is of type {held.type}; a fleet has process workers, so name a pool of type process"
        )


def boot_s(settings: Settings, pool: str, history: HistoryStore | None = None) -> float:
    """Seconds until capacity that was asked for is there: the setting, else the median of what fleets took lately.

    Raises:
        StoreError: The history cannot be read.
    """
    own = settings.pools.get(pool, PoolSettings()).boot_s
    if own is not None:
        return own
    if history is None and not has_history(settings):
        return 0.0
    records = (history or open_history(settings)).records(BOOT, pool, last=_BOOTS)
    measured = read_each(BOOT, records, lambda record: float(record["seconds"]))
    return statistics.median(measured) if measured else 0.0
