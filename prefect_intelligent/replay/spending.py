"""Money spent over time while a policy plays a world to its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from prefect_intelligent.policy.base import Policy
from prefect_intelligent.policy.census import Array
from prefect_intelligent.twin.closed_loop import ClosedLoop

_LONGEST_S: Final = 30 * 86400.0
"""Simulated time after the last scheduled start at which a world is stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendingCurve:
    """Money spent by the instants of decisions.

    Attributes:
        at_s: Instants, ascending, Unix seconds, shape (n,).
        usd: Money spent until then, US dollars, shape (n,).
    """

    at_s: Array
    usd: Array

    def spent_by(self, at_s: Array) -> Array:
        """Return the money spent until the given instants, interpolated between decisions; the same shape as `at_s`."""
        spent: Array = np.interp(at_s, self.at_s, self.usd)
        return spent


def play(
    loop: ClosedLoop,
    policy: Policy | None = None,
    *,
    every: int = 1,
    tell: Callable[[float], None] = lambda at_s: None,
) -> SpendingCurve:
    """Let a policy decide until all runs of the (single) world have ended.

    Args:
        loop: The world at its begin, with the guard; afterwards at its end.
        policy: What decides; None is the loop's base rule, which is far quicker.
        every: Decisions between two points of the curve; the end is always one.
        tell: Is told the instant of each point, Unix seconds.
    """
    twin = loop.twin
    at_s, usd = [float(twin.now_s[0])], [0.0]
    last_s = float(twin.world.runs["scheduled_s"].max()) + _LONGEST_S
    decisions = 0
    while loop.running[0] and twin.now_s[0] < last_s:
        if policy is None:
            loop.follow()
        else:
            loop.step(policy.propose(loop.census))
        decisions += 1
        if decisions % every == 0:
            at_s.append(float(twin.now_s[0]))
            tell(at_s[-1])
            usd.append(float(twin.money[0].sum()))
    at_s.append(float(twin.now_s[0]))
    usd.append(float(twin.money[0].sum()))
    return SpendingCurve(at_s=np.array(at_s), usd=np.array(usd))
