"""Groups failing deployments by the failing deployment furthest upstream of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

Upstream = Mapping[str, Sequence[str]]
"""Deployment to the deployments whose outputs it reads."""


def find_root(name: str, failing: Collection[str], upstream: Upstream) -> str:
    """The failing deployment furthest upstream of `name` that is reached over failing ones; else itself."""
    seen, root = {name}, name
    while True:
        above = sorted(source for source in upstream.get(root, ()) if source in failing and source not in seen)
        if not above:
            return root
        root = above[0]
        seen.add(root)


def group_by_root(names: Iterable[str], upstream: Upstream) -> dict[str, list[str]]:
    """Each root, with the names downstream of it; deployments in a cycle are roots of their own.

    Args:
        names: Failing deployments.
        upstream: Deployment to the deployments whose outputs it reads.
    """
    unique = list(dict.fromkeys(names))
    failing = frozenset(unique)
    by_root: dict[str, list[str]] = {}
    for name in unique:
        root = find_root(name, failing, upstream)
        if root == name or find_root(root, failing, upstream) != root:
            by_root.setdefault(name, [])
        else:
            by_root.setdefault(root, []).append(name)
    return by_root
