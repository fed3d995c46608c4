"""Blobs of versions in a folder or an object store, through fsspec."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import fsspec

from prefect_intelligent.errors import MissingExtraError, StoreError, UnknownNameError


class FsspecBlobStore:
    """Implements `BlobStore`: content under its sha256, written once and never changed.

    Args:
        url: A folder, or e.g. `s3://bucket/versions`.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise MissingExtraError(f"versions in {url}", "object storage driver") from error

    def put(self, content: bytes) -> str:
        """Store content and return its digest."""
        digest = hashlib.sha256(content).hexdigest()
        path = self._path(digest)
        try:
            if not self._fs.exists(path):
                self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
                draft = f"{path}.{hashlib.sha256(path.encode()).hexdigest()[:6]}.draft"
                self._fs.pipe_file(draft, content)
                self._fs.mv(draft, path)
        except OSError as error:
            raise StoreError(f"{self.url} cannot be written: {error}") from error
        return digest

    def get(self, digest: str) -> bytes:
        """Return the content of a digest.

        Raises:
            UnknownNameError: It is missing.
            StoreError: It is damaged, or the store cannot be read.
        """
        try:
            content: bytes = self._fs.cat_file(self._path(digest))
        except FileNotFoundError as error:
            raise UnknownNameError(f"snapshot blob in {self.url}", digest, ()) from error
        except OSError as error:
            raise StoreError(f"{self.url} cannot be read: {error}") from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise StoreError(f"{self._path(digest)} is damaged: its content has another digest")
        return content

    def has(self, digest: str) -> bool:
        """Return whether the content is stored."""
        return bool(self._fs.exists(self._path(digest)))

    def digests(self) -> Iterator[str]:
        """Iterate over all stored digests."""
        for path in self._fs.find(self._root) if self._fs.exists(self._root) else ():
            name = str(path).rsplit("/", 1)[-1]
            if len(name) == 64:
                yield name

    def delete(self, digest: str) -> None:
        """Remove content; no effect if it is not stored."""
        if self.has(digest):
            self._fs.rm_file(self._path(digest))

    def _path(self, digest: str) -> str:
        return f"{self._root.rstrip('/')}/{digest[:2]}/{digest}"
