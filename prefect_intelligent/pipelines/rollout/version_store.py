"""Storage of versions: records in the history, content in the blob store."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from prefect_intelligent.domain.clock import Clock
from prefect_intelligent.errors import InvalidInputError, UnknownNameError
from prefect_intelligent.history.ports import HistoryStore
from prefect_intelligent.history.reading import read_each
from prefect_intelligent.pipelines.ports import BlobStore
from prefect_intelligent.pipelines.rollout.transactions import SCOPE
from prefect_intelligent.pipelines.version import SHORT, DeploymentVersion, find_version, pull_inputs

KIND: Final = "pipeline-version"
TAG_KIND: Final = "pipeline-version-tag"
GONE_KIND: Final = "pipeline-version-gone"


@dataclass(frozen=True, slots=True)
class VersionStore:
    """Versions of all deployments.

    Attributes:
        history: Stores the records.
        blobs: Stores manifests, source, diffs and lists of packages.
        clock: The time.
    """

    history: HistoryStore
    blobs: BlobStore
    clock: Clock

    def all(self, deployment: str | None = None) -> list[DeploymentVersion]:
        """Return versions that were not collected, oldest first, of one deployment or of all."""
        deleted = set(read_each(GONE_KIND, self.history.records(GONE_KIND, SCOPE), lambda record: str(record["id"])))
        found: dict[str, DeploymentVersion] = {}
        for name, version in read_each(KIND, self.history.records(KIND, SCOPE), _read):
            if deployment in (None, version.deployment):
                found.setdefault(name, version)
        return [version for name, version in found.items() if name not in deleted]

    def tags(self) -> dict[str, str]:
        """Return version ids by tag."""
        found: dict[str, str] = {}
        tags = self.history.records(TAG_KIND, SCOPE)
        for tag, name in read_each(TAG_KIND, tags, lambda record: (str(record["tag"]), record["id"])):
            if name is None:
                found.pop(tag, None)
            else:
                found[tag] = str(name)
        return found

    def get(self, text: str, deployment: str | None = None) -> DeploymentVersion:
        """Return the version with a tag, or with an id that starts with the given digits.

        Raises:
            UnknownNameError: There is none.
            InvalidInputError: There are several, or it belongs to another deployment.
        """
        return find_version(self.all(), self.tags(), text, deployment)

    def keep(self, version: DeploymentVersion) -> DeploymentVersion:
        """Store a version and return it, or return the stored version with the same content."""
        digest = self.blobs.put(version.content())
        for known in self.all(version.deployment):
            if known.id == digest:
                return known
        stamped = replace(version, at_s=self.clock.now_s())
        self.history.append(KIND, SCOPE, stamped.at_s, stamped.to_dict())
        return stamped

    def check(self, version: DeploymentVersion) -> DeploymentVersion:
        """Return the version if all its blobs are stored.

        Raises:
            UnknownNameError: A blob is missing.
        """
        for digest in sorted(version.blobs()):
            if not self.blobs.has(digest):
                raise UnknownNameError(f"snapshot blob of version {version.id[:SHORT]}", digest[:SHORT], ())
        return version

    def current(self, deployment: str, content: Mapping[str, Any] | None) -> DeploymentVersion | None:
        """Return the version that a deployment, as Prefect stores it, runs; None if it is not stored here."""
        if content is None:
            return None
        inputs = pull_inputs(content)
        known = self.all(deployment)
        if inputs is not None:
            return next((version for version in known if version.id == inputs["version"]), None)
        return next((v for v in reversed(known) if v.code is None and v.spec == content), None)

    def tag(self, version: DeploymentVersion, name: str | None) -> None:
        """Tag a version; a tag names one version at a time.

        Raises:
            InvalidInputError: The name could be the first digits of an id.
        """
        if not name or all(character in "0123456789abcdef" for character in name):
            raise InvalidInputError("tag", name, "must have a character that no version id has, e.g. 'stable'")
        self.history.append(TAG_KIND, SCOPE, self.clock.now_s(), {"tag": name, "id": version.id})

    def collect(
        self, in_force: Collection[str], keep: int, *, write: bool = True
    ) -> tuple[list[DeploymentVersion], int]:
        """Delete old versions, and blobs that no version needs.

        Args:
            in_force: Ids of versions that deployments run; these and tagged versions are never deleted.
            keep: Number of the newest versions to keep per deployment.
            write: Whether to delete, or only to return what would be deleted.

        Returns:
            The deleted versions, and the number of deleted blobs.
        """
        everything = self.all()
        kept = {*in_force, *self.tags().values()}
        by_deployment: dict[str, list[DeploymentVersion]] = {}
        for version in everything:
            by_deployment.setdefault(version.deployment, []).append(version)
        for versions in by_deployment.values():
            kept.update(version.id for version in versions[-keep:] if keep > 0)
        deleted = [version for version in everything if version.id not in kept]
        for version in deleted if write else ():
            self.history.append(GONE_KIND, SCOPE, self.clock.now_s(), {"id": version.id})
        needed = {digest for version in everything if version.id in kept for digest in version.blobs()}
        unreferenced = [digest for digest in self.blobs.digests() if digest not in needed]
        for digest in unreferenced if write else ():
            self.blobs.delete(digest)
        return deleted, len(unreferenced)


def _read(record: Mapping[str, Any]) -> tuple[str, DeploymentVersion]:
    """Return the id of a recorded version, and the version."""
    return str(record["id"]), DeploymentVersion.from_dict(record)
