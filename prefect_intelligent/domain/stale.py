"""What a deployment's owner wants done with runs that wait so long that they are worth nothing any more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from prefect_intelligent.domain.spans import format_span, parse_span
from prefect_intelligent.errors import InvalidInputError

_EXPECTED = "must be 'keep', 'latest only' or 'cancel after SPAN', e.g. 'cancel after 2h'"


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleRuns:
    """What is done with runs that wait.

    Attributes:
        latest_only: Whether a run is cancelled once a later one with the same parameters is due.
        after_s: Seconds of waiting after which a run is cancelled; None is never.
    """

    latest_only: bool = False
    after_s: float | None = None

    @classmethod
    def parse(cls, text: str, *, what: str = "stale") -> Self:
        """From the text of an owner.

        Raises:
            InvalidInputError: It is none of the three.
        """
        words = text.split() if isinstance(text, str) else []
        if words == ["keep"]:
            return cls()
        if words == ["latest", "only"]:
            return cls(latest_only=True)
        if len(words) > 2 and words[:2] == ["cancel", "after"]:
            return cls(after_s=parse_span(" ".join(words[2:]), what=what))
        raise InvalidInputError(what, text, _EXPECTED)

    def __str__(self) -> str:
        if self.after_s is not None:
            return f"cancel after {format_span(self.after_s)}"
        return "latest only" if self.latest_only else "keep"
