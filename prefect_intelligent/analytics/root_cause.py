"""Who hurts because of whom: things that are wrong folded into the one furthest upstream."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

Upstream = Mapping[str, Sequence[str]]
"""Deployment to the deployments it waits for."""


def find_root(name: str, hurt: Collection[str], upstream: Upstream) -> str:
    """The hurt deployment furthest upstream of `name` over hurt ones; itself if none is."""
    seen, at = {name}, name
    while True:
        above = sorted(source for source in upstream.get(at, ()) if source in hurt and source not in seen)
        if not above:
            return at
        at = above[0]
        seen.add(at)


def group_by_root(names: Iterable[str], upstream: Upstream) -> dict[str, list[str]]:
    """Roots, in the order given, with the names that hurt because of each; a circle has no root and hides nothing."""
    given = list(dict.fromkeys(names))
    hurt = frozenset(given)
    folded: dict[str, list[str]] = {}
    for name in given:
        root = find_root(name, hurt, upstream)
        if root == name or find_root(root, hurt, upstream) != root:
            folded.setdefault(name, [])
        else:
            folded.setdefault(root, []).append(name)
    return folded
