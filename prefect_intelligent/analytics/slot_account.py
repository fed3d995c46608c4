"""Slots of a pool over time: how many are paid for, and since when there are any."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np

from prefect_intelligent.policy.census import Array


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
    def now(self) -> float:
        """The number that holds now."""
        return float(self.slots[-1])

    def paid_s(self, edges: Array) -> Array:
        """Slot-seconds paid for between instants.

        Args:
            edges: Instants, Unix seconds, ascending, shape (m,).

        Returns:
            Shape (m - 1,).
        """
        at_s = np.concatenate([self.at_s, [np.inf]])
        paid = np.zeros(len(edges) - 1)
        for number, slots in enumerate(self.slots):
            held = np.minimum(edges[1:], at_s[number + 1]) - np.maximum(edges[:-1], at_s[number])
            paid += slots * np.maximum(0.0, held)
        return paid


def slot_account(limits: Iterable[tuple[float, float | None]], first_run_s: float | None) -> SlotAccount | None:
    """The account of a pool.

    Args:
        limits: Its limit from an instant on (Unix seconds, None is unlimited), in any order.
        first_run_s: When its first run was submitted, if that is known: the first limit that is known held since then.

    Returns:
        None if nothing is known, or the pool has no limit now.
    """
    known = sorted(limits, key=lambda pair: pair[0])
    if not known or known[-1][1] is None:
        return None
    at_s = np.array([at for at, _ in known])
    if first_run_s is not None:
        at_s[0] = min(at_s[0], first_run_s)
    return SlotAccount(at_s=at_s, slots=np.array([0.0 if limit is None else float(limit) for _, limit in known]))
