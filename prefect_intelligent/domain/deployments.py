"""A deployment: the work queue of its runs, and what they are worth."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefect_intelligent.domain.terms import Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One deployment of a work pool.

    Attributes:
        name: "flow/deployment", unique on the server.
        queue: Name of the work queue that its new runs enter.
        terms: Deadline, prices and datasets of its runs.
        declared: Whether the terms were given (decorator, `attach` or a label) and are not just the defaults.
    """

    name: str
    queue: str
    terms: Terms = field(default_factory=Terms)
    declared: bool = False
