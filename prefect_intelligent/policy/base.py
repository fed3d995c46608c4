"""The contract of a policy: a census in, a proposal out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from prefect_intelligent.domain import Plan, Snapshot
from prefect_intelligent.policy.census import Array, Census


@dataclass(frozen=True, slots=True)
class Proposal:
    """The settings that a policy wants, before the guard.

    Attributes:
        score: Shape (..., n_queues). The higher, the earlier served; entries of absent queues are ignored.
        limit: Shape (..., n_queues), runs; `inf` is unlimited.
        pool_limit: Shape (...,), slots; `inf` is unlimited.
    """

    score: Array
    limit: Array
    pool_limit: Array


@runtime_checkable
class Policy(Protocol):
    """Decides the settings of a pool. Pure: the same census gives the same proposal."""

    @property
    def name(self) -> str:
        """Short name, as used on the command line and in records."""
        ...

    def propose(self, census: Census) -> Proposal:
        """The settings wanted; works on one pool and on a batch of pools alike."""
        ...


def to_plan(snapshot: Snapshot, proposal: Proposal, reasons: tuple[str, ...] = ()) -> Plan:
    """A proposal for one pool as a plan in Prefect's terms.

    Queues of equal score keep the order in force, so that equal scores for all change nothing.
    """
    names = [queue.name for queue in snapshot.queues]
    ranks = {name: rank for rank, name in enumerate(snapshot.order)}
    order = sorted(range(len(names)), key=lambda i: (-proposal.score[i], ranks[names[i]]))
    return Plan(
        order=tuple(names[i] for i in order),
        limits={name: _limit(value) for name, value in zip(names, proposal.limit, strict=True)},
        pool_limit=_limit(float(proposal.pool_limit)),
        sets_pool_limit=True,
        reasons=reasons,
    )


def _limit(value: float) -> int | None:
    """A limit as in Prefect: None is unlimited."""
    return None if math.isinf(value) else int(np.rint(value))
