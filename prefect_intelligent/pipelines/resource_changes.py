"""Changes to resources of a Prefect server as values: the resource, its content before, and its content after."""

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
"""Prefixes of resource names. "epochs:flow/name" holds the pipeline versions of a deployment and since when batches
begin under each; "tokens:name" how many runs a canary admits: each run takes one slot of a concurrency limit."""

KEPT_EPOCHS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceChange:
    """The change of one resource.

    Attributes:
        resource: Prefix and name, e.g. "deployment:clean/prod".
        before: Old content; None if it did not exist.
        after: New content; None to remove it.
    """

    resource: str
    before: ResourceContent
    after: ResourceContent

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {"resource": self.resource, "before": self.before, "after": self.after}

    @property
    def verb(self) -> str:
        """The kind of change: "create", "change" or "remove"."""
        return "create" if self.before is None else "remove" if self.after is None else "change"


def from_dicts(items: Sequence[Mapping[str, Any]]) -> tuple[ResourceChange, ...]:
    """Convert a list of dictionaries back to changes; inverse of `ResourceChange.to_dict`."""
    return tuple(
        ResourceChange(resource=item["resource"], before=item["before"], after=item["after"]) for item in items
    )


def taken_back(change: ResourceChange, now: ResourceContent) -> ResourceContent:
    """Return the content with a change undone: a field that somebody has changed since is left as it is."""
    if change.before is None or change.after is None or now is None:
        return change.before
    before, after = change.before, change.after
    undone = {
        name: before.get(name)
        for name in before.keys() | after.keys()
        if before.get(name) != after.get(name) and now.get(name) == after.get(name)
    }
    return {**now, **undone}


def differences(
    wanted: Mapping[str, ResourceContent], stored: Mapping[str, ResourceContent]
) -> tuple[ResourceChange, ...]:
    """Return the changes from `stored` to `wanted`, for the resources in `wanted`; creations first, removals last."""
    found = [
        ResourceChange(resource=name, before=stored.get(name), after=value)
        for name, value in wanted.items()
        if stored.get(name) != value
    ]
    rank = {"create": 0, "change": 1, "remove": 2}
    return tuple(sorted(found, key=lambda change: (rank[change.verb], change.resource)))


def add_epoch(stored: ResourceContent, label: str, since_s: float) -> ResourceContent:
    """Return the epochs with `label` in force since `since_s`; unchanged if it is in force already."""
    epochs = [list(item) for item in (stored or {}).get("epochs", [])]
    if epochs and epochs[-1][1] == label:
        return stored
    return {"epochs": [*epochs, [round(since_s, 3), label]][-KEPT_EPOCHS:]}


def epoch_at(stored: ResourceContent, at_s: float) -> str | None:
    """Return the pipeline version in force at an instant, before the first epoch the first one; None without epochs."""
    epochs = (stored or {}).get("epochs", [])
    found = None
    for since_s, label in epochs:
        if found is None or since_s <= at_s:
            found = str(label)
    return found
