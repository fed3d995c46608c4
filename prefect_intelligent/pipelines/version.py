"""Versions of a deployment: immutable records identified by the hash of their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from prefect_intelligent.errors import InvalidInputError, UnknownNameError

PULL_STEP: Final = "prefect_intelligent.pull_step.use_version"
"""Stands in deployments on users' servers, so it stays."""
_FORMER_PULL_STEP: Final = "prefect_intelligent.adapters.pull.use_version"  # until version 0.2
VERSION_ENV: Final = "PREFECT_INTELLIGENT_VERSION"
"""Environment variable that pins a single run to a version, whatever the deployment says."""
SHORT: Final = 12
"""Hexadecimal digits of a version's id that are shown."""
_KEPT_LABELS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCode:
    """The source of a version.

    Attributes:
        blob: Digest of the packed source tree.
        commit: Git commit; None outside a repository.
        changes: Digest of the diff of uncommitted changes; None without any.
    """

    blob: str
    commit: str | None = None
    changes: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentVersion:
    """One version of a deployment.

    Attributes:
        deployment: "flow/deployment".
        spec: The deployment as Prefect stores it, without the pull step of this product and its version name.
        code: Its source; None for a deployment that `deploy` did not make (its pull steps are in `spec`).
        terms: Its terms: deadline, prices, inputs and outputs.
        contract: Text of its data contract; None without one.
        lock: Digest of the list of installed packages.
        author: User who made it.
        at_s: Time of creation, Unix seconds.
        parent: Id of the version that was in force before; None for the first.
    """

    deployment: str
    spec: Mapping[str, Any]
    code: SourceCode | None = None
    terms: Mapping[str, Any] = field(default_factory=dict)
    contract: str | None = None
    lock: str | None = None
    author: str = ""
    at_s: float = 0.0
    parent: str | None = None

    def content(self) -> bytes:
        """Return the hashed content as canonical JSON: everything except author, time, parent and commit."""
        code = None if self.code is None else self.code.blob
        content = {
            "deployment": self.deployment,
            "spec": self.spec,
            "code": code,
            "terms": self.terms,
            "contract": self.contract,
            "lock": self.lock,
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @property
    def id(self) -> str:
        """sha256 of the content, 64 hexadecimal digits."""
        return hashlib.sha256(self.content()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        code = self.code
        return {
            **json.loads(self.content()),
            "id": self.id,
            "code": None if code is None else {"blob": code.blob, "commit": code.commit, "changes": code.changes},
            "author": self.author,
            "at_s": self.at_s,
            "parent": self.parent,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`; unknown fields are ignored.

        Raises:
            Exception: One of `UNREADABLE`.
        """
        values = {key: value for key, value in data.items() if key in cls.__slots__}
        if (code := values.get("code")) is not None:
            known = {key: value for key, value in code.items() if key in SourceCode.__slots__}
            values["code"] = SourceCode(**known)
        return cls(**values)

    def blobs(self) -> set[str]:
        """Return the digests of all blobs that it needs: manifest, code, changes and lock."""
        code = self.code
        found = {self.lock, *(() if code is None else (code.blob, code.changes))}
        return {self.id} | {digest for digest in found if digest is not None}

    def render(
        self, store: str, *, under: Mapping[str, str] | None = None, canary: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the content of a deployment that runs this version.

        Args:
            store: URL of the blob store, as seen from the machine that runs flows.
            under: Version to run instead, by pipeline version of the batch; the last five are kept.
            canary: `version`, the id of the version on trial, and `tokens`, the name of the concurrency limit whose
                slots admit runs to it.
        """
        if self.code is None:
            return dict(self.spec)
        inputs: dict[str, Any] = {"version": self.id, "store": store}
        if under:
            inputs["under"] = dict(list(under.items())[-_KEPT_LABELS:])
        if canary:
            inputs["canary"] = dict(canary)
        return {**self.spec, "version": self.id[:SHORT], "pull_steps": [{PULL_STEP: inputs}]}


def pull_inputs(content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the inputs of the pull step `PULL_STEP` of a deployment as Prefect stores it; None without such a step."""
    for step in content.get("pull_steps") or ():
        for name in (PULL_STEP, _FORMER_PULL_STEP):
            if name in step:
                found: Mapping[str, Any] = step[name]
                return found
    return None


def canary_limit_name(version: DeploymentVersion) -> str:
    """Return the name of the concurrency limit whose slots admit runs to a canary of this version."""
    return (
        f"prefect-intelligent-canary-{hashlib.sha256(f'{version.deployment} {version.id}'.encode()).hexdigest()[:16]}"
    )


def choose_version(
    inputs: Mapping[str, Any],
    *,
    label: str | None,
    pinned: str | None,
    stamped: Callable[[], str | None] = lambda: None,
    admit: Callable[[str], bool] = lambda tokens: False,
) -> str:
    """Return the id of the version that a run executes.

    In this order: the version to which the run is pinned, the version for its batch's pipeline version, the version on
    trial while there are tokens, the deployment's version. A retry during a trial keeps the version it had.

    Args:
        inputs: Inputs of the pull step.
        label: Pipeline version of the run's batch; None without one.
        pinned: Version to which the run is pinned; None if it is not.
        stamped: Returns the version that the run has executed before; called only during a trial.
        admit: Takes a token (a slot of the named concurrency limit); False if none is left. Called only during a trial.
    """
    if pinned:
        return pinned
    under = inputs.get("under") or {}
    if label is not None and label in under:
        return str(under[label])
    canary = inputs.get("canary")
    if canary:
        before = stamped()
        if before in (canary["version"], inputs["version"]):
            return str(before)
        if admit(str(canary["tokens"])):
            return str(canary["version"])
    return str(inputs["version"])


def find_version(
    versions: Sequence[DeploymentVersion], tags: Mapping[str, str], text: str, deployment: str | None = None
) -> DeploymentVersion:
    """Return the version with a tag, or with an id that starts with the given digits.

    Raises:
        UnknownNameError: There is none.
        InvalidInputError: There are several, or it belongs to another deployment.
    """
    wanted = tags.get(text, text)
    found = {version.id: version for version in versions if version.id.startswith(wanted)}
    if not found:
        raise UnknownNameError("version", text, [*(version.id[:SHORT] for version in versions), *tags])
    if len(found) > 1:
        raise InvalidInputError("version", text, f"{len(found)} versions begin so: give more digits")
    version = next(iter(found.values()))
    if deployment is not None and version.deployment != deployment:
        raise InvalidInputError("version", text, f"it is one of {version.deployment}, not of {deployment}")
    return version


def version_differences(old: DeploymentVersion, new: DeploymentVersion) -> list[str]:
    """Return the differences between two versions, one line each: "spec.entrypoint: 'a.py:f' -> 'b.py:f'"."""
    lines: list[str] = []
    _compare("", json.loads(old.content()), json.loads(new.content()), lines)
    return lines


def _compare(path: str, old: Any, new: Any, lines: list[str]) -> None:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            _compare(f"{path}.{key}" if path else key, old.get(key), new.get(key), lines)
        return
    lines.append(f"{path}: {_short(old)} -> {_short(new)}")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."
