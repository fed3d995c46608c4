"""Settings and state of the guard, and the notes that say what it did."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from enum import IntFlag
from typing import Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from prefect_intelligent.errors import InvalidInputError
from prefect_intelligent.policy.backend import Column, rows
from prefect_intelligent.policy.census import Array, Census, P, Q

Flags = npt.NDArray[np.bool_]

LONG_AGO_S: Final = -1e18
"""Stands for the instant of a change that never happened."""


class Note(IntFlag):
    """Why a permitted value is not the proposed one. Several may hold."""

    KILLED = 1
    INVALID = 2
    EXPIRED = 4
    PERSON = 8
    BOUNDS = 16
    RUNNING = 32
    STARVED = 64
    CONSERVED = 128
    RESERVED = 256
    STEP = 512
    HYSTERESIS = 1024
    INTERVAL = 2048


SENTENCES: Final[dict[Note, str]] = {
    Note.KILLED: "the kill switch is on, nothing is changed",
    Note.INVALID: "the policy's proposal was not usable, the fallback was taken",
    Note.EXPIRED: "the policy's proposal was older than its time to live, the fallback was taken",
    Note.PERSON: "a person has set this value, it is left alone",
    Note.BOUNDS: "moved into the bounds that are set for it",
    Note.RUNNING: "not lowered below what is running",
    Note.STARVED: "raised because a run has waited too long",
    Note.CONSERVED: "raised because slots would have stayed idle while runs wait",
    Note.RESERVED: "slots are kept free for a run that is scheduled soon",
    Note.STEP: "moved by the largest permitted step only",
    Note.HYSTERESIS: "kept, the difference is too small to be worth a change",
    Note.INTERVAL: "kept, it was changed less than one interval ago",
}
"""Meaning of each note, for `explain`."""


def sentences(note: int) -> tuple[str, ...]:
    """The notes of one value as sentences."""
    return tuple(text for flag, text in SENTENCES.items() if note & flag) if note else ()


class GuardNumbers(NamedTuple):
    """The settings of the guard that are the same for all pools, see `GuardSettings`."""

    enabled: bool
    interval_s: float
    step_fraction: float
    step_slots: float
    hysteresis: float
    starvation_s: float
    ttl_s: float
    reserve_slots: float
    reserve_s: float
    lower_after_s: float


class Bounds(NamedTuple):
    """The guard's settings for one pool, see `GuardSettings`; pins are 0 or 1. In a batch each has a row per pool."""

    queue_min: Column
    queue_max: Column
    order_pinned: Column
    limit_pinned: Column
    pool_min: float
    pool_max: float
    pool_pinned: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GuardSettings:
    """The settings of the guard: what it permits.

    A figure per queue may be one number for all or an array over the queues (last axis), a figure per pool one number
    or an array over the batch.

    Attributes:
        enabled: The kill switch: False changes nothing at all.
        queue_min: Least limit of a queue, runs.
        queue_max: Largest limit of a queue, runs; inf is none.
        pool_min: Least pool limit, slots.
        pool_max: Largest pool limit, slots; inf is none.
        interval_s: A value is changed at most once in this time.
        step_fraction: Largest change of a limit at once, as a share of the limit in force.
        step_slots: Largest change that is always permitted, however small the limit in force, runs.
        hysteresis: A limit is left alone if it would change by no more than this share of itself.
        starvation_s: No run waits longer than this while the pool has room.
        ttl_s: Age at which a proposal is no longer followed.
        reserve_slots: Slots that may be kept free for runs scheduled soon.
        reserve_s: How soon they must be scheduled, seconds.
        lower_after_s: The pool limit is lowered only if it has not changed for so many seconds; it is raised at once.
        order_pinned: Queues whose place in the order a person has pinned.
        limit_pinned: Queues whose limit a person has pinned.
        pool_pinned: Whether a person has pinned the pool limit.
    """

    enabled: bool = True
    queue_min: Array | float = 1.0
    queue_max: Array | float = math.inf
    pool_min: Array | float = 1.0
    pool_max: Array | float = math.inf
    interval_s: float = 60.0
    step_fraction: float = 1.0
    step_slots: float = 4.0
    hysteresis: float = 0.1
    starvation_s: float = 14_400.0
    ttl_s: float = 300.0
    reserve_slots: float = 2.0
    reserve_s: float = 600.0
    lower_after_s: float = 0.0
    order_pinned: Flags | bool = False
    limit_pinned: Flags | bool = False
    pool_pinned: bool = False

    def __post_init__(self) -> None:
        for low, high in (("queue_min", "queue_max"), ("pool_min", "pool_max")):
            least, most = np.asarray(getattr(self, low)), np.asarray(getattr(self, high))
            if not (np.all(least >= 1) and np.all(least <= most)):
                raise InvalidInputError(low, getattr(self, low), f"must be 1 or more and at most {high}")
        for name in (
            "interval_s",
            "step_fraction",
            "hysteresis",
            "starvation_s",
            "ttl_s",
            "reserve_slots",
            "reserve_s",
            "lower_after_s",
        ):
            if not getattr(self, name) >= 0:
                raise InvalidInputError(name, getattr(self, name), "must be a number, 0 or more")
        if not self.step_slots >= 1:
            raise InvalidInputError("step_slots", self.step_slots, "must be 1 or more, else no limit could ever move")

    def numbers(self) -> GuardNumbers:
        """The figures that are the same for all pools and queues."""
        return GuardNumbers(
            bool(self.enabled), *(float(getattr(self, name)) for name in GuardNumbers._fields if name != "enabled")
        )

    def bounds(self, shape: tuple[int, ...]) -> Bounds:
        """`Bounds` whose columns have one row per pool of a batch of that shape, (..., n_queues)."""
        per_queue = [rows(getattr(self, name), shape, 1) for name in Bounds._fields[:4]]
        return Bounds._make([*per_queue, *(rows(getattr(self, name), shape[:-1], 0) for name in Bounds._fields[4:])])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GuardState:
    """The guard's state between decisions. Shapes (..., n_queues) and (...,); instants are Unix seconds.

    Attributes:
        own_limit: Each queue's limit as a person last set it (at the start the one in force): what the queue may
            always use when slots would be idle otherwise.
        order_changed_s: When the order was last changed by us, per pool.
        limit_changed_s: The same for each queue's limit.
        pool_changed_s: The same for the pool limit.
    """

    own_limit: Array
    order_changed_s: Array
    limit_changed_s: Array
    pool_changed_s: Array

    @classmethod
    def start(cls, census: Census) -> Self:
        """The state of a guard that has not decided yet: the settings in force count as set by people."""
        per_queue, per_pool = census[Q.LIMIT].shape, census[P.LIMIT].shape
        return cls(
            own_limit=census[Q.LIMIT].copy(),
            order_changed_s=np.full(per_pool, LONG_AGO_S),
            limit_changed_s=np.full(per_queue, LONG_AGO_S),
            pool_changed_s=np.full(per_pool, LONG_AGO_S),
        )

    def copy(self) -> GuardState:
        """A state that shares no memory with this one."""
        return GuardState(**{field.name: np.array(getattr(self, field.name), dtype=float) for field in fields(self)})

    def restart(self, worlds: Flags, census: Census) -> GuardState:
        """This state, reset from `census` in the given worlds of a batch, shape (n_worlds,)."""
        reset = GuardState.start(census)
        values = {}
        for field in fields(self):
            old, new = getattr(self, field.name), getattr(reset, field.name)
            values[field.name] = np.where(worlds[:, None] if old.ndim > worlds.ndim else worlds, new, old)
        return GuardState(**values)
