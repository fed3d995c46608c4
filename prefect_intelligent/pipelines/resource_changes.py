"""Changes to what Prefect stores, as values: each names a resource, what it held, and what it shall hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

ResourceContent = Mapping[str, Any] | None
"""JSON-ready content of a resource; None if it does not exist."""

DEPLOYMENT: Final = "deployment:"
AUTOMATION: Final = "automation:"
EPOCHS: Final = "epochs:"
TOKENS: Final = "tokens:"
"""Prefixes of resources. "epochs:flow/name" holds which pipeline version was in force from when, for its batches;
"tokens:name" how many runs may execute a version on trial, each of them by taking one."""

KEPT_EPOCHS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceChange:
    """One resource from one content to another.

    Attributes:
        resource: Prefix and name, e.g. "deployment:clean/prod".
        before: What it held; None if it did not exist.
        after: What it shall hold; None to remove it.
    """

    resource: str
    before: ResourceContent
    after: ResourceContent

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {"resource": self.resource, "before": self.before, "after": self.after}

    @property
    def verb(self) -> str:
        """What happens to the resource: create, change or remove."""
        return "create" if self.before is None else "remove" if self.after is None else "change"


def from_dicts(items: Sequence[Mapping[str, Any]]) -> tuple[ResourceChange, ...]:
    """Inverse of `ResourceChange.to_dict` for a list."""
    return tuple(
        ResourceChange(resource=item["resource"], before=item["before"], after=item["after"]) for item in items
    )


def inverse_changes(changes: Sequence[ResourceChange]) -> tuple[ResourceChange, ...]:
    """What takes the changes back, last one first."""
    return tuple(ResourceChange(resource=c.resource, before=c.after, after=c.before) for c in reversed(changes))


def differences(
    wanted: Mapping[str, ResourceContent], held: Mapping[str, ResourceContent]
) -> tuple[ResourceChange, ...]:
    """Changes that make `held` into `wanted`, for the resources named in `wanted`; creations first, removals last."""
    found = [
        ResourceChange(resource=name, before=held.get(name), after=value)
        for name, value in wanted.items()
        if held.get(name) != value
    ]
    rank = {"create": 0, "change": 1, "remove": 2}
    return tuple(sorted(found, key=lambda change: (rank[change.verb], change.resource)))


def add_epoch(held: ResourceContent, label: str, since_s: float) -> ResourceContent:
    """The epochs of a root with `label` in force from `since_s`; unchanged if it is in force already."""
    epochs = [list(item) for item in (held or {}).get("epochs", [])]
    if epochs and epochs[-1][1] == label:
        return held
    return {"epochs": [*epochs, [round(since_s, 3), label]][-KEPT_EPOCHS:]}


def epoch_at(held: ResourceContent, at_s: float) -> str | None:
    """The pipeline version in force at an instant: the first one also before it began; None if there is none."""
    epochs = (held or {}).get("epochs", [])
    found = None
    for since_s, label in epochs:
        if found is None or since_s <= at_s:
            found = str(label)
    return found
