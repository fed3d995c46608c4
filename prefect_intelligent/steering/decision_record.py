"""What one pass of the control loop decided, and why: the record that is stored, sent as an event and explained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

KIND = "decision"

Outcome = Literal["applied", "unchanged", "recorded", "off", "restored"]
"""Result of a pass: written to Prefect; nothing to write; only recorded (shadow, advise); switched off; or the original
settings were put back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTarget:
    """Settings of one queue in some plan.

    Attributes:
        place: Place in the serving order, 1 is first.
        limit: Runs at once; None is unlimited.
    """

    place: int
    limit: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDecision:
    """One queue in a decision.

    Attributes:
        name: Name of the queue.
        waiting: Runs due and unclaimed.
        active: Runs that hold a slot.
        late: Waiting runs that cannot finish in time any more.
        held: Place and limit when the pass began.
        priority: Its priority number when the pass began.
        wanted: What the policy proposed; None if the proposal was unusable.
        permitted: What the guard allowed.
        rule: The base rule's settings after the guard.
        applied: Place and limit when the pass ended.
        applied_priority: Its priority number when the pass ended.
        reasons: Why, one sentence each.
    """

    name: str
    waiting: int
    active: int
    late: int
    held: QueueTarget
    priority: int
    wanted: QueueTarget | None
    permitted: QueueTarget
    rule: QueueTarget
    applied: QueueTarget
    applied_priority: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolDecision:
    """The pool limit in a decision; None is unlimited everywhere.

    Attributes:
        held: When the pass began.
        wanted: What the policy proposed; also None if the proposal was unusable.
        permitted: What the guard allowed.
        rule: The base rule's limit after the guard.
        applied: When the pass ended.
        reasons: Why, one sentence each.
    """

    held: int | None
    wanted: int | None
    permitted: int | None
    rule: int | None
    applied: int | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One pass of the control loop.

    Attributes:
        pool: Name of the work pool.
        at_s: The instant of the snapshot.
        mode: shadow, advise or auto.
        by: The process that decided, e.g. "controller host:1234" or "hook".
        policy: Name of the policy in charge.
        rule: Name of the base rule beside it.
        outcome: Result of the pass.
        queues: Queue by queue, in serving order when the pass began.
        pool_limit: The pool's limit.
        planned: Values to write: (queue or None, setting, before, after).
        applied: Those of them that held when read back.
        reasons: What applies to the pass as a whole, one sentence each.
        foreseen: What the twin expects of the policy's plan and of the rule's, if it was asked.
        stakes: What the pool costs and how long runs wait at this instant (`cost_rate`); None if not computed.
        desired_slots: Slots that the pool can use (`capacity.desired_slots`) under its limits at the end of the pass;
            None if not computed.
        own_ms: Computing time of the pass, milliseconds.
        wall_ms: Time of the whole pass with all calls to Prefect and to the history store, milliseconds.
    """

    pool: str
    at_s: float
    mode: str
    by: str
    policy: str
    rule: str
    outcome: Outcome
    queues: tuple[QueueDecision, ...] = ()
    pool_limit: PoolDecision | None = None
    planned: tuple[tuple[str | None, str, int | None, int | None], ...] = ()
    applied: tuple[tuple[str | None, str, int | None, int | None], ...] = ()
    reasons: tuple[str, ...] = ()
    foreseen: Mapping[str, float] | None = None
    stakes: Mapping[str, float] | None = None
    desired_slots: int | None = None
    own_ms: float = 0.0
    wall_ms: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        whole = {name: getattr(self, name) for name in self.__slots__}
        whole["queues"] = [_plain(queue) for queue in self.queues]
        whole["pool_limit"] = None if self.pool_limit is None else _plain(self.pool_limit)
        for name in ("planned", "applied", "reasons"):
            whole[name] = [list(item) if isinstance(item, tuple) else item for item in whole[name]]
        return whole

    def event(self) -> Mapping[str, Any]:
        """What the Prefect event carries: the decision without the queues that nothing was planned for."""
        touched = {queue for queue, *_ in self.planned}
        whole = self.to_dict()
        return whole | {"queues": [queue for queue in whole["queues"] if queue["name"] in touched]}


def read_decision(record: Mapping[str, Any]) -> dict[str, Any]:
    """A decision as it was kept, with defaults for what its version of the package did not write.

    Raises:
        Exception: One of `UNREADABLE`: it lacks its instant, its outcome or the name of a queue.
    """
    found = {**_OF_PASS, **record, "outcome": str(record["outcome"])}
    found |= {name: float(found[name]) for name in ("at_s", "own_ms", "wall_ms")}
    found["queues"] = [{**_OF_QUEUE, **queue, "name": str(queue["name"])} for queue in found["queues"]]
    if found["pool_limit"] is not None:
        found["pool_limit"] = {**_OF_POOL, **found["pool_limit"]}
    return found


_OF_PASS: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("pool", "mode", "by", "policy", "rule"), "-"),
    **dict.fromkeys(("queues", "planned", "applied", "reasons"), ()),
    **dict.fromkeys(("pool_limit", "foreseen", "stakes", "desired_slots")),
    **dict.fromkeys(("own_ms", "wall_ms"), 0.0),
}
_OF_POOL: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("held", "wanted", "permitted", "rule", "applied")),
    "reasons": (),
}
_OF_QUEUE: Final[Mapping[str, Any]] = {
    **_OF_POOL,
    **dict.fromkeys(("waiting", "active", "late"), 0),
    **dict.fromkeys(("priority", "applied_priority")),
}


def _plain(part: QueueDecision | PoolDecision) -> dict[str, Any]:
    """A part of a decision as JSON knows it (`dataclasses.asdict` takes ten times as long)."""
    plain: dict[str, Any] = {}
    for name in part.__slots__:
        value = getattr(part, name)
        if isinstance(value, QueueTarget):
            value = {"place": value.place, "limit": value.limit}
        plain[name] = list(value) if isinstance(value, tuple) else value
    return plain
