"""Automations that send our alerts to Prefect's notification blocks.

There is one automation per pool and block. Writing is idempotent, and only automations with our tag are changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.prefect_client.api import PrefectApi, path

TAG: Final = "prefect-intelligent-alerts"
"""Tag of the automations that are ours."""

_EVENTS: Final = ("prefect-intelligent.alert.opened", "prefect-intelligent.alert.resolved")
_SUBJECT: Final = (
    "{% if event.event == 'prefect-intelligent.alert.resolved' %}Resolved: {% endif %}"
    "{{ event.payload.severity }} in pool {{ event.resource.name }}: {{ event.payload.rule }}"
)
_BODY: Final = (
    "{{ event.payload.summary }}"
    "{% if event.payload.folded %}\nConcerns: {{ event.payload.folded | join(', ') }}{% endif %}"
    "\nWhat to do: {{ event.payload.link }}"
)
_COMPARED: Final = ("description", "enabled", "trigger", "actions")


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationChange:
    """A planned change of one automation.

    Attributes:
        name: Name of the automation.
        step: "create", "change", "keep" or "delete".
        body: What to write; None to delete.
        id: Id of the existing automation; None to create.
    """

    name: str
    step: Literal["create", "change", "keep", "delete"]
    body: Mapping[str, Any] | None = None
    id: str | None = None


def plan_notifications(
    api: PrefectApi, pool: str, blocks: Sequence[str], *, pages_only: bool
) -> list[NotificationChange]:
    """The changes that make alerts of the pool go to these blocks; nothing is written.

    Args:
        api: The Prefect API.
        pool: Name of the work pool.
        blocks: "type/name" of notification blocks, as `prefect block ls` shows them.
        pages_only: Whether tickets are left out.

    Raises:
        UnknownNameError: There is no such block.
        InvalidInputError: The block cannot notify, or there is an automation of that name without our tag.
    """
    existing = _by_name(api)
    changes = []
    for block in blocks:
        body = _automation(pool, block, _block_id(api, block), pages_only=pages_only)
        found = existing.get(body["name"])
        if found is None:
            changes.append(NotificationChange(name=body["name"], step="create", body=body))
        elif TAG not in found["tags"]:
            raise InvalidInputError("automation", body["name"], "exists and is not ours; rename or delete it first")
        else:
            same = all(_plain(found[key], body[key]) == body[key] for key in _COMPARED)
            changes.append(
                NotificationChange(name=body["name"], step="keep" if same else "change", body=body, id=found["id"])
            )
    return changes


def plan_removal(api: PrefectApi, pool: str) -> list[NotificationChange]:
    """The changes that delete all our automations of the pool; nothing is written."""
    prefix = _prefix(pool)
    return [
        NotificationChange(name=name, step="delete", id=found["id"])
        for name, found in sorted(_by_name(api).items())
        if name.startswith(prefix) and TAG in found["tags"]
    ]


def write_changes(api: PrefectApi, changes: Sequence[NotificationChange]) -> None:
    """Write the changes; repeating it changes nothing more."""
    for change in changes:
        if change.step == "create":
            api.call("POST", "/automations/", dict(change.body or {}))
        elif change.step == "change":
            api.call("PUT", f"/automations/{change.id}", dict(change.body or {}))
        elif change.step == "delete":
            api.call("DELETE", f"/automations/{change.id}", absent_ok=True)


def _prefix(pool: str) -> str:
    return f"prefect-intelligent alerts of {pool} to "


def _automation(pool: str, block: str, block_id: str, *, pages_only: bool) -> dict[str, Any]:
    match = {"prefect.resource.id": f"prefect-intelligent.pool.{pool}"}
    if pages_only:
        match["prefect-intelligent.severity"] = "page"
    return {
        "name": _prefix(pool) + block,
        "description": f"Sends {'pages' if pages_only else 'alerts'} of work pool {pool} to {block}.",
        "enabled": True,
        "tags": [TAG],
        "trigger": {
            "type": "event",
            "posture": "Reactive",
            "expect": list(_EVENTS),
            "match": match,
            "threshold": 1,
            "within": 0.0,
        },
        "actions": [{"type": "send-notification", "block_document_id": block_id, "subject": _SUBJECT, "body": _BODY}],
    }


def _plain(found: Any, wanted: Any) -> Any:
    """The part of an automation in Prefect that we write, with sets of texts in our order."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return {key: _plain(found.get(key), value) for key, value in wanted.items()}
    if isinstance(wanted, list) and isinstance(found, list) and len(found) == len(wanted):
        if all(isinstance(item, str) for item in found):
            return wanted if set(found) == set(wanted) else found
        return [_plain(a, b) for a, b in zip(found, wanted, strict=True)]
    return found


def _by_name(api: PrefectApi) -> dict[str, Mapping[str, Any]]:
    return {found["name"]: found for page in api.pages("/automations/filter", {}) for found in page}


def _block_id(api: PrefectApi, block: str) -> str:
    kind, _, name = block.partition("/")
    if not (kind and name):
        raise InvalidInputError("--block", block, 'must be "type/name", e.g. slack-webhook/data-team')
    route = path("block_types", "slug", kind, "block_documents", "name", name)
    found = api.call("GET", route, absent_ok=True)
    if found is None:
        known = api.call(
            "POST", "/block_documents/filter", {"block_schemas": {"block_capabilities": {"all_": ["notify"]}}}
        )
        raise UnknownNameError("notification block", block, [f"{b['block_type']['slug']}/{b['name']}" for b in known])
    if "notify" not in found["block_schema"]["capabilities"]:
        raise InvalidInputError("--block", block, "is not a notification block")
    return str(found["id"])
