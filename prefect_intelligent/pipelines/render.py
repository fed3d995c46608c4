"""Render the graph as Mermaid, as SVG, and as rows for the dashboard."""

from __future__ import annotations

from collections.abc import Collection
from html import escape
from typing import Any

from prefect_intelligent.pipelines.graph import Edge, Graph, NodeKey

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y = 190, 34, 60, 18  # pixels


def to_mermaid(graph: Graph) -> str:
    """Return a Mermaid flowchart; inferred edges are dotted."""
    ids = {node: f"n{index}" for index, node in enumerate((*graph.deployments, *graph.datasets))}
    lines = ["flowchart LR"]
    lines += [f'  {ids[name]}["{_quoted(name)}"]' for name in graph.deployments]
    lines += [f'  {ids[name]}[("{_quoted(name)}")]' for name in graph.datasets]
    for edge in graph.edges:
        arrow = "-->" if edge.certainty == 1 else "-.->"
        label = f"|{edge.kind}|" if edge.kind in ("calls", "triggers") else ""
        lines.append(f"  {ids[edge.source]} {arrow}{label} {ids[edge.target]}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return text.replace('"', "#quot;")


def _ends(edge: Edge) -> tuple[NodeKey, NodeKey]:
    return (1 if edge.kind == "reads" else 0, edge.source), (1 if edge.kind == "writes" else 0, edge.target)


def layers(graph: Graph) -> dict[NodeKey, int]:
    """Return the layer of each node: 0 without predecessors, else one more than the highest predecessor's.

    Nodes on or behind a cycle are in layer 0.
    """
    nodes, unordered = graph.sequence, graph.unordered
    layer = dict.fromkeys(unordered, 0)
    before: dict[NodeKey, list[NodeKey]] = {}
    for edge in graph.edges:
        source, target = _ends(edge)
        if edge.kind != "calls":
            before.setdefault(target, []).append(source)
    for node in nodes:
        layer[node] = max((layer[up] + 1 for up in before.get(node, ()) if up in layer), default=0)
    return layer


def to_rows(graph: Graph, *, joined_only: bool = False) -> dict[str, list[Any]]:
    """Return the graph as JSON-ready rows: nodes with their layer, and edges as pairs of indices into `nodes`.

    Args:
        graph: The graph.
        joined_only: Leave out nodes without edges.
    """
    layer = layers(graph)
    if joined_only:
        joined = {node for edge in graph.edges for node in _ends(edge)}
        layer = {node: column for node, column in layer.items() if node in joined}
    nodes = sorted(layer, key=lambda node: (layer[node], node))
    place = {node: at for at, node in enumerate(nodes)}
    return {
        "nodes": [{"name": n[1], "kind": ("deployment", "dataset")[n[0]], "layer": layer[n]} for n in nodes],
        "edges": [[place[source], place[target]] for source, target in map(_ends, graph.edges)],
    }


def to_svg(graph: Graph, marked: Collection[str] = ()) -> str:
    """Return a stand-alone SVG: layers from left to right, deployments as boxes, datasets with round ends.

    Args:
        graph: The graph; nodes on a cycle are drawn in the first layer.
        marked: Names to highlight, e.g. the critical path.
    """
    layer = layers(graph)
    rows: dict[int, int] = {}
    place: dict[NodeKey, tuple[int, int]] = {}
    for node in sorted(layer, key=lambda item: (layer[item], item)):
        row = rows.get(layer[node], 0)
        rows[layer[node]] = row + 1
        place[node] = (20 + layer[node] * (_WIDTH + _GAP_X), 20 + row * (_HEIGHT + _GAP_Y))
    width = 20 + (max(rows, default=0) + 1) * (_WIDTH + _GAP_X)
    height = 40 + max(rows.values(), default=1) * (_HEIGHT + _GAP_Y)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#667"/></marker></defs>',
    ]
    for edge in graph.edges:
        source, target = _ends(edge)
        (x1, y1), (x2, y2) = place[source], place[target]
        dash = "" if edge.certainty == 1 else ' stroke-dasharray="5 4"'
        x1, y1, y2 = x1 + _WIDTH, y1 + _HEIGHT // 2, y2 + _HEIGHT // 2
        out.append(
            f'<path d="M{x1},{y1} C{x1 + 30},{y1} {x2 - 30},{y2} {x2},{y2}" fill="none" stroke="#667"{dash} '
            f'marker-end="url(#tip)"><title>{escape(edge.kind)}, certainty {edge.certainty:g}</title></path>'
        )
    for node, (x, y) in place.items():
        kind, name = node
        colour = "#f6c453" if name in marked else ("#dfe8f5" if kind == 0 else "#e5f2e2")
        shown = name if len(name) <= 28 else name[:27] + "\u2026"
        out.append(
            f'<g><title>{escape(name)}</title><rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" '
            f'rx="{4 if kind == 0 else 17}" fill="{colour}" stroke="#667"/>'
            f'<text x="{x + _WIDTH // 2}" y="{y + 21}" text-anchor="middle">{escape(shown)}</text></g>'
        )
    return "\n".join([*out, "</svg>"]) + "\n"
