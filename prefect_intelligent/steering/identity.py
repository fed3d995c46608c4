"""Which pools and queues are those that we know: one that was deleted and made again keeps its name, not its id.

What was set for the old one says nothing about the new one; so it is neither put back nor taken for a person's edit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

from prefect_intelligent.domain import PoolSetting, QueueSetting

Ids = Mapping[str | None, str]
"""Name of a queue (None is the pool itself) to its id."""


def ids_of(pool: PoolSetting, queues: Iterable[QueueSetting]) -> dict[str | None, str]:
    """The ids that are known."""
    found: dict[str | None, str | None] = {None: pool.id}
    for queue in queues:
        found[queue.name] = queue.id
    return {name: value for name, value in found.items() if value is not None}


def remade(known: Ids, now: Ids) -> frozenset[str | None]:
    """Names of what was deleted and made again; all names if it is the pool."""
    different = {name for name, value in known.items() if name in now and now[name] != value}
    return frozenset(known.keys() | now.keys() if None in different else different)


def describe_remade(pool: str, names: Set[str | None]) -> tuple[str, ...]:
    """What was made again, in sentences; none if nothing was."""
    if None in names:
        return (f"work pool {pool!r} was deleted and made again: what was known of the old one is left",)
    return tuple(
        f"work queue {name!r} was deleted and made again: what was known of the old one is left"
        for name in sorted(name for name in names if name is not None)
    )


def to_rows(ids: Ids) -> list[list[str | None]]:
    """Ids in a form that JSON can hold."""
    return [[name, value] for name, value in ids.items()]


def from_rows(rows: Iterable[Iterable[str | None]]) -> dict[str | None, str]:
    """Inverse of `to_rows`."""
    return {name: str(value) for name, value in rows}
