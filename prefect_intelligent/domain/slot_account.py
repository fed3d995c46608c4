"""Slots of a pool over time: how many are paid for, since when there are any, and how many of them nothing holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotAccount:
    """The slots that a pool pays for, from instant to instant.

    Attributes:
        at_s: From when each number holds, Unix seconds, ascending, shape (n,), n at least 1. Before the first the pool
            does not exist.
        slots: The number, shape (n,); 0 while the pool had no limit: then no slot is paid for that nobody uses.
    """

    at_s: Array
    slots: Array

    @classmethod
    def constant(cls, slots: float, since_s: float) -> Self:
        """A number that has never changed."""
        return cls(at_s=np.array([since_s]), slots=np.array([float(slots)]))

    @property
    def begun_s(self) -> float:
        """Since when there is the pool, Unix seconds."""
        return float(self.at_s[0])

    @property
    def now(self) -> float | None:
        """The number that holds now; None without a limit."""
        return float(self.slots[-1]) or None

    @property
    def limited(self) -> bool:
        """Whether the pool ever had a limit."""
        return bool((self.slots > 0).any())

    def paid_s(self, edges: Array) -> Array:
        """Slot-seconds paid for between instants.

        Args:
            edges: Instants, Unix seconds, ascending, shape (m,).

        Returns:
            Shape (m - 1,).
        """
        return self.idle_s(edges, np.zeros(0), np.zeros(0))

    def idle_s(self, edges: Array, started_s: Array, ended_s: Array) -> Array:
        """Slot-seconds paid for between instants that no run held; runs above a lowered limit are not set off.

        Args:
            edges: Instants, Unix seconds, ascending, shape (m,).
            started_s: When runs took their slots, shape (k,).
            ended_s: When the same runs gave them back, shape (k,); inf is not yet.

        Returns:
            Shape (m - 1,).
        """
        begins, ends = np.sort(started_s), np.sort(ended_s)
        at = np.unique(np.concatenate([edges, self.at_s, begins, ends]))
        at = at[(at >= edges[0]) & (at <= edges[-1])]
        since = at[:-1]
        held = np.searchsorted(begins, since, side="right") - np.searchsorted(ends, since, side="right")
        place = np.searchsorted(self.at_s, since, side="right") - 1
        slots = np.where(place >= 0, self.slots[np.maximum(place, 0)], 0.0)
        idle: Array = np.maximum(0.0, slots - held) * np.diff(at)
        span = np.searchsorted(edges, since, side="right") - 1
        return np.bincount(span, weights=idle, minlength=len(edges) - 1)[: len(edges) - 1].astype(float)


def slot_account(limits: Iterable[tuple[float, float | None]], first_run_s: float | None) -> SlotAccount | None:
    """The account of a pool.

    Args:
        limits: Its limit from an instant on (Unix seconds, None is unlimited), in any order.
        first_run_s: When its first run was submitted, if that is known: the first limit that is known held since then.

    Returns:
        None if nothing is known.
    """
    known = sorted(limits, key=lambda pair: pair[0])
    if not known:
        return None if first_run_s is None else SlotAccount.constant(0.0, first_run_s)
    at_s = np.array([at for at, _ in known])
    if first_run_s is not None:
        at_s[0] = min(at_s[0], first_run_s)
    return SlotAccount(at_s=at_s, slots=np.array([0.0 if limit is None else float(limit) for _, limit in known]))
