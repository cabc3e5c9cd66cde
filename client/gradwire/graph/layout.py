"""Where the boxes and lines of a layered drawing go.

grandalf finds the order of the boxes in their layers (few crossings) and their positions (few
bends). This module hands it one connected component at a time, keeps boxes apart whatever it
answers, and runs each line through the gaps between layers, so that no line crosses a box.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from grandalf.graphs import Edge, Vertex, graph_core
from grandalf.layouts import SugiyamaLayout

Point = tuple[float, float]
Size = tuple[float, float]
Link = tuple[int, int]
"""Source and target of an edge, as indices of boxes."""

GAP_IN_LAYER: Final = 24.0
GAP_BETWEEN_LAYERS: Final = 38.0

MAX_BOXES: Final = 3000
"""grandalf takes time in the square of the boxes: this many take some seconds in a chain, some tens
of seconds in a thicket."""

MAX_BENDS: Final = 6_000
"""Places, one a layer, that long lines may take up."""

_OTHER_FORMS: Final = "to_dot() and to_text() take a graph of any size"

_SWEEPS: Final = 6
"""Passes down and up in search of an order with fewer crossings; more change little."""

_PORT: Final = 16.0
"""Distance between lines that arrive at one box, where the box is wide enough."""

_CORNER: Final = 14.0
"""How far from its corners a box is left by lines."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The geometry of a drawing, within (0, 0) and (width, height).

    Attributes:
        centres: Of each box, in order.
        routes: Of each edge, in order: points from the lower border of its source to the upper
            border of its target. The first stretch and every second one after it run straight
            down through a layer; those between bridge the gap to the next layer.
        width: Extent of the whole.
        height: Extent of the whole.
    """

    centres: tuple[Point, ...]
    routes: tuple[tuple[Point, ...], ...]
    width: float
    height: float


def layers(count: int, links: Sequence[Link]) -> list[int]:
    """The layer of each box: below all its sources, and as near to its targets as that allows.

    Args:
        count: How many boxes there are; each comes after its sources.
        links: The edges.
    """
    sources: list[list[int]] = [[] for _ in range(count)]
    targets: list[list[int]] = [[] for _ in range(count)]
    for source, target in links:
        sources[target].append(source)
        targets[source].append(target)
    layer = [0] * count
    for box in range(count):
        layer[box] = max((layer[source] + 1 for source in sources[box]), default=0)
    for box in reversed(range(count)):
        layer[box] = min((layer[target] - 1 for target in targets[box]), default=layer[box])
    return layer


def lay_out(sizes: Sequence[Size], links: Sequence[Link]) -> Layout:
    """Lays boxes out in layers from top to bottom, components side by side.

    Args:
        sizes: Width and height of each box; each box comes after its sources.
        links: The edges.

    Raises:
        ValueError: Too many boxes or too long lines to be laid out in a few seconds, or too
            little stack left.
    """
    layer = layers(len(sizes), links)
    bends = sum(layer[target] - layer[source] - 1 for source, target in set(links))
    if len(sizes) > MAX_BOXES or bends > MAX_BENDS:
        raise ValueError(
            f"too large a graph for a picture: {len(sizes)} boxes (at most {MAX_BOXES}) and "
            f"{bends} bends of lines (at most {MAX_BENDS}); {_OTHER_FORMS}"
        )
    centres: list[Point] = [(0.0, 0.0)] * len(sizes)
    routes: list[tuple[Point, ...]] = [()] * len(links)
    width = height = 0.0
    for boxes, edges in _components(len(sizes), links):
        place = {box: index for index, box in enumerate(boxes)}
        part = _lay_out_connected(
            [sizes[box] for box in boxes],
            [(place[links[edge][0]], place[links[edge][1]]) for edge in edges],
        )
        left = width + 2 * GAP_IN_LAYER if width else 0.0
        for box, (x, y) in zip(boxes, part.centres, strict=True):
            centres[box] = (left + x, y)
        for edge, route in zip(edges, part.routes, strict=True):
            routes[edge] = tuple((left + x, y) for x, y in route)
        width, height = left + part.width, max(height, part.height)
    return Layout(tuple(centres), tuple(routes), width, height)


def _components(count: int, links: Sequence[Link]) -> list[tuple[list[int], list[int]]]:
    """The boxes and the edges of each connected component, in order."""
    parent = list(range(count))

    def representative(box: int) -> int:
        while parent[box] != box:
            parent[box] = parent[parent[box]]
            box = parent[box]
        return box

    for source, target in links:
        parent[representative(target)] = representative(source)
    components: dict[int, tuple[list[int], list[int]]] = {}
    for box in range(count):
        components.setdefault(representative(box), ([], []))[0].append(box)
    for edge, (source, _) in enumerate(links):
        components[representative(source)][1].append(edge)
    return list(components.values())


@dataclass(slots=True)
class _Place:
    """A box, or a line's passage through a layer, as grandalf reads its size and sets `xy`."""

    w: float = 0.0
    h: float = 0.0
    xy: Point = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class _Layer:
    """One row: what stands in it from left to right, and its extent downwards."""

    places: tuple[_Place, ...]
    top: float
    bottom: float


def _lay_out_connected(sizes: Sequence[Size], links: Sequence[Link]) -> Layout:
    vertices = [Vertex(box) for box in range(len(sizes))]
    for vertex, (width, height) in zip(vertices, sizes, strict=True):
        vertex.view = _Place(width, height)
    # grandalf knows one edge between two boxes; parallel ones part where they arrive.
    edges = {link: Edge(vertices[link[0]], vertices[link[1]]) for link in dict.fromkeys(links)}
    drawing = SugiyamaLayout(graph_core(vertices, list(edges.values())))
    drawing.xspace, drawing.yspace = GAP_IN_LAYER, GAP_BETWEEN_LAYERS
    drawing.dw = drawing.dh = 0.0
    recursion_limit = sys.getrecursionlimit()
    try:
        # Without inverted edges it would search for cycles, recursively; there are none.
        drawing.init_all(
            roots=[vertex for vertex in vertices if not vertex.e_in()],
            inverted_edges=[],
            optimize=True,
        )
        drawing.draw(_SWEEPS)
    except RecursionError:
        # Its placement recurses over boxes that lean on one another, some tens deep at most in
        # any graph that was tried, and raises the limit of the interpreter for many layers.
        raise ValueError(
            f"too entangled a graph for a picture ({len(sizes)} boxes, {len(links)} lines): "
            f"the layout ran out of stack; {_OTHER_FORMS}"
        ) from None
    finally:
        sys.setrecursionlimit(recursion_limit)

    rows = [_row([place.view for place in layer]) for layer in drawing.layers]
    row_of = [drawing.grx[vertex].rank for vertex in vertices]
    passages = {
        link: [
            (drawing.ctrls[edge][row].view.xy[0], rows[row])
            for row in range(row_of[link[0]] + 1, row_of[link[1]])
        ]
        for link, edge in edges.items()
    }
    places = [place for row in rows for place in row.places]
    left = min(place.xy[0] - place.w / 2 for place in places)
    right = max(place.xy[0] + place.w / 2 for place in places)
    centres = [vertex.view.xy for vertex in vertices]
    arrivals = _arrivals(sizes, links, centres, passages)
    routes: list[tuple[Point, ...]] = []
    for link, arrival in zip(links, arrivals, strict=True):
        source, target = link
        x, y = centres[source]
        route = [(x, y + sizes[source][1] / 2), (x, rows[row_of[source]].bottom)]
        for bend, row in passages[link]:
            route += [(bend, row.top), (bend, row.bottom)]
        border = centres[target][1] - sizes[target][1] / 2
        route += [(arrival, rows[row_of[target]].top), (arrival, border)]
        routes.append(tuple((x - left, y) for x, y in route))
    return Layout(
        tuple((x - left, y) for x, y in centres), tuple(routes), right - left, rows[-1].bottom
    )


def _row(places: Sequence[_Place]) -> _Layer:
    """A layer as grandalf made it, its places moved apart where they came too close."""
    free = float("-inf")
    for place in places:
        x = max(place.xy[0], free + place.w / 2)
        place.xy = (x, place.xy[1])
        free = x + place.w / 2 + GAP_IN_LAYER
    y = places[0].xy[1]
    half = max(place.h for place in places) / 2
    return _Layer(tuple(places), y - half, y + half)


def _arrivals(
    sizes: Sequence[Size],
    links: Sequence[Link],
    centres: Sequence[Point],
    passages: Mapping[Link, Sequence[tuple[float, _Layer]]],
) -> list[float]:
    """Where on its target's upper border each edge ends: side by side, in the order they come."""

    def comes_from(edge: int) -> float:
        passage = passages[links[edge]]
        return passage[-1][0] if passage else centres[links[edge][0]][0]

    arriving: dict[int, list[int]] = {}
    for edge, (_, target) in enumerate(links):
        arriving.setdefault(target, []).append(edge)
    arrivals = [0.0] * len(links)
    for target, edges in arriving.items():
        room = max(sizes[target][0] - 2 * _CORNER, 0.0)
        step = min(_PORT, room / max(len(edges) - 1, 1))
        start = centres[target][0] - step * (len(edges) - 1) / 2
        for index, edge in enumerate(sorted(edges, key=comes_from)):
            arrivals[edge] = start + index * step
    return arrivals
