"""Several batches of worlds as one: tables are padded to the largest."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.twin.model.world import QUEUE_DTYPE, Table, World

_PADDING: Final = {"at_s": np.inf, "back_s": np.inf, "limit": np.inf, "priority": np.inf}


def stack(worlds: list[World]) -> World:
    """Join batches into one, padding each table to the largest.

    Raises:
        InvalidInputError: The worlds have different numbers of pools (queues are numbered by pool).
    """
    pools = worlds[0].pools.shape[1]
    if any(world.pools.shape[1] != pools for world in worlds):
        got = sorted({world.pools.shape[1] for world in worlds})
        raise InvalidInputError(
            "pools per world", got, "all worlds of a batch need the same number; make batches apart"
        )
    width = max(world.width for world in worlds)
    widened = [world if world.width == width else _widen(world, width, pools) for world in worlds]
    return World(*(_join([getattr(world, name) for world in widened]) for name in World._fields))


def _widen(world: World, width: int, pools: int) -> World:
    """The same worlds with more padding queues per pool."""
    old = world.width
    queues = _blank((world.n_worlds, pools * width), QUEUE_DTYPE)
    queues["pool"] = np.repeat(np.arange(pools), width)
    runs = world.runs.copy()
    runs["queue"] = runs["queue"] // old * width + runs["queue"] % old
    polled = np.zeros((*world.polled.shape[:2], pools * width), np.int8)
    for pool in range(pools):
        queues[:, pool * width : pool * width + old] = world.queues[:, pool * old : (pool + 1) * old]
        polled[:, :, pool * width : pool * width + old] = world.polled[:, :, pool * old : (pool + 1) * old]
    return world._replace(queues=queues, runs=runs, polled=polled)


def _join(tables: list[Table]) -> Table:
    """The tables below each other, each padded to the largest."""
    shape = tuple(max(sizes) for sizes in zip(*(table.shape[1:] for table in tables), strict=True))
    out = _blank((sum(table.shape[0] for table in tables), *shape), tables[0].dtype)
    row = 0
    for table in tables:
        place = (slice(row, row + table.shape[0]), *(slice(0, size) for size in table.shape[1:]))
        out[place] = table
        row += table.shape[0]
    return out


def _blank(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Table:
    """Padding rows: at no instant, without a limit, served last."""
    out = np.zeros(shape, dtype)
    for name in dtype.names or ():
        if name in _PADDING:
            out[name] = _PADDING[name]
    return out
