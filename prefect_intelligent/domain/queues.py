"""The settings of one work queue in Prefect."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefect_intelligent.errors import InvalidInputError

MAX_PRIORITY = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSetting:
    """The settings of one work queue of a pool.

    Attributes:
        name: Unique within the pool.
        priority: 1 is served first; two queues of equal priority merge first come, first served.
        limit: Flow runs allowed at once; None is unlimited, 0 is a soft pause.
        paused: Whether a person (or an automation) has paused it; never changed by a plan.
        polled_s: When a worker last asked for its runs, Unix seconds; None if none has or it is not known.
        id: Prefect's id, which a queue that is deleted and made again does not keep; None if not known.
    """

    name: str
    priority: int
    limit: int | None = None
    paused: bool = False
    polled_s: float | None = field(default=None, compare=False)
    id: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= self.priority <= MAX_PRIORITY:
            raise InvalidInputError(f"priority of queue {self.name!r}", self.priority, f"must be 1 to {MAX_PRIORITY}")
        if self.limit is not None and self.limit < 0:
            raise InvalidInputError(
                f"limit of queue {self.name!r}", self.limit, "must be 0 or more, or None for unlimited"
            )
