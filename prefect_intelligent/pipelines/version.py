"""Versions of a deployment: immutable records named by their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from prefect_intelligent.errors import InvalidInputError, UnknownNameError

PULL_STEP: Final = "prefect_intelligent.pull_step.use_version"
VERSION_ENV: Final = "PREFECT_INTELLIGENT_VERSION"
"""Set on a single run, it runs that version whatever the deployment says."""
SHORT: Final = 12
"""Hexadecimal digits of a version that people see."""
_KEPT_LABELS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCode:
    """The source of a version.

    Attributes:
        blob: Digest of the packed source tree.
        commit: Git commit, if the tree was in a repository.
        changes: Digest of the uncommitted changes (a diff), if there were any.
    """

    blob: str
    commit: str | None = None
    changes: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentVersion:
    """One version of a deployment.

    Attributes:
        deployment: "flow/deployment".
        spec: The deployment as Prefect stores it, without our pull step and version name.
        code: Its source; None for a version that was found, not made (its pull steps are in `spec`).
        terms: What it is worth, reads and writes.
        contract: Text of its data contract.
        lock: Digest of the list of installed packages.
        author: Who made it.
        at_s: When.
        parent: The version that was in force before.
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
        """What the name is made of: everything but author, time, parent and commit, as canonical JSON."""
        code = None if self.code is None else self.code.blob
        plain = {
            "deployment": self.deployment,
            "spec": self.spec,
            "code": code,
            "terms": self.terms,
            "contract": self.contract,
            "lock": self.lock,
        }
        return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

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
        """Inverse of `to_dict`."""
        values = {key: value for key, value in data.items() if key != "id"}
        if values.get("code") is not None:
            values["code"] = SourceCode(**values["code"])
        return cls(**values)

    def blobs(self) -> set[str]:
        """Digests that it needs: its own manifest, code, changes and lock."""
        code = self.code
        found = {self.lock, *(() if code is None else (code.blob, code.changes))}
        return {self.id} | {digest for digest in found if digest is not None}

    def render(
        self, store: str, *, under: Mapping[str, str] | None = None, canary: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The deployment that runs this version.

        Args:
            store: Address of the blob store, for the machine that runs flows.
            under: Version to run instead for batches that began under a pipeline version; the latest few are kept.
            canary: `version` on trial, and `tokens`, the name of what admits runs to it.
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
    """Inputs of our pull step in a deployment as Prefect stores it; None if it is not one of ours."""
    for step in content.get("pull_steps") or ():
        if PULL_STEP in step:
            found: Mapping[str, Any] = step[PULL_STEP]
            return found
    return None


def canary_limit_name(version: DeploymentVersion) -> str:
    """Names the tokens by which runs are admitted to a trial of this version."""
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
    """The version that a run executes.

    A pin on the run wins, then the version of the batch's pipeline, then the trial for as many runs as it has tokens,
    then the deployment's own. A run that is tried again during a trial stays with the version it had.

    Args:
        inputs: Of the pull step.
        label: Pipeline version of the run's batch.
        pinned: Version the run is pinned to.
        stamped: The version that the run has executed before; only asked during a trial.
        admit: Takes one of the named tokens; False if none is left. Only asked during a trial.
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
    """The version meant by a tag or the first digits of its id.

    Raises:
        UnknownNameError: There is none.
        InvalidInputError: There are several, or it is one of another deployment.
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
    """What differs between two versions, one line each: "spec.entrypoint: 'a.py:f' -> 'b.py:f'"."""
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
