"""Graphs as pictures: an SVG that stands alone and reads the same on light and dark ground.

It has no style sheet, ids, fonts or scripts of its own, so that several can stand in one notebook
without touching each other. Each node is a group with `data-node` (its key), each edge one with
`data-edge` (the keys that it joins); their titles, which browsers show as tooltips, tell all that
is known of them.
"""

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, assert_never

from gradwire.graph import style
from gradwire.graph.labels import (
    Sort,
    cells,
    details,
    edge_tooltip,
    heading,
    shortened,
    sort_of,
    tooltip,
)
from gradwire.graph.layout import Link, Point, Size, lay_out, layers
from gradwire.graph.model import Direction, Graph, Intermediate, Leaf, Node, Op, Result

FAR: Final = 6
"""A leaf's lines span at most so many layers; uses farther off show its name once more."""

_SANS: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_MONO: Final = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"

_HEADING_COLUMNS: Final = 32
_DETAIL_COLUMNS: Final = 36
# Advances of the widest common fonts, since which one the reader has is not known: DejaVu Sans
# Bold at 13 px, and any fixed-width font at 11 px.
_HEADING_ADVANCE: Final = 8.8
_DETAIL_ADVANCE: Final = 6.7
_HEADING_HEIGHT: Final = 17.0
_DETAIL_HEIGHT: Final = 14.0
_PADDING: Final = 8.0
_MARGIN: Final = 14.0
_ARROW: Final = 8.0
_INPUT_NUMBERS: Final = 5.0
"""What a box with several inputs is higher by, for their numbers."""
_POINT: Final = 13.0
"""How far the hexagon of a result comes to a point."""

_LEGEND: Final[tuple[tuple[Sort, str], ...]] = (
    ("leaf", "leaf (requires_grad)"),
    ("op", "operator"),
    ("intermediate", "named tensor"),
    ("result", "result"),
)
_LEGEND_HEIGHT: Final = 22.0
_LEGEND_GAP: Final = 10.0
_LEGEND_SPACE: Final = 28.0
"""Between the picture and its legend."""


@dataclass(frozen=True, slots=True)
class _Box:
    """What is drawn at one place: a node, or the name of a leaf that stands far above."""

    node: Node
    lines: tuple[str, ...]
    size: Size
    numbered: bool = False
    repeats: bool = False


def to_svg(graph: Graph, direction: Direction) -> str:
    """The graph as the text of an SVG document.

    Raises:
        ValueError: The graph is too large to be laid out.
    """
    right = direction == "right"
    boxes, links = _boxes(graph)
    layout = lay_out([_turned(box.size, right) for box in boxes], links)
    width, height = _turned((layout.width, layout.height), right)

    canvas = ET.Element("g")
    lines = _add(canvas, "g", fill="none", stroke=style.EDGE, stroke_width=1.4)
    nodes = {node.key: node for node in graph.nodes}
    for edge, route in zip(graph.edges, layout.routes, strict=True):
        group = _add(lines, "g", data_edge=f"{edge.source} {edge.target}")
        _add(group, "title").text = edge_tooltip(edge, nodes)
        _draw_line(group, route, right)
    for box, centre in zip(boxes, layout.centres, strict=True):
        _draw_box(canvas, box, _turned(centre, right))
    numbers = _add(canvas, "g", fill=style.NODE["op"].text, font_size=8)
    for edge, link, route in zip(graph.edges, links, layout.routes, strict=True):
        if boxes[link[1]].numbered:
            x, y = _turned(route[-1], right)
            x, y = (x + 6, y + 3) if right else (x, y + 9)
            _add(numbers, "text", x=x, y=y).text = str(edge.input_nr)

    legend, legend_width = _legend(boxes)
    full_width = max(width, legend_width) + 2 * _MARGIN
    legend_top = _MARGIN + height + _LEGEND_SPACE
    full_height = legend_top + _LEGEND_HEIGHT + _MARGIN
    canvas.set("transform", f"translate({_number((full_width - width) / 2)} {_number(_MARGIN)})")
    legend.set("transform", f"translate({_number(_MARGIN)} {_number(legend_top)})")
    svg = ET.Element("svg", xmlns="http://www.w3.org/2000/svg")
    _set(
        svg,
        width=full_width,
        height=full_height,
        viewBox=f"0 0 {_number(full_width)} {_number(full_height)}",
        role="img",
        aria_label=repr(graph).strip("<>"),
        font_family=_SANS,
        text_anchor="middle",
        style="max-width: 100%",
    )
    svg.extend([canvas, legend])
    return ET.tostring(svg, encoding="unicode")


def _boxes(graph: Graph) -> tuple[list[_Box], list[Link]]:
    """The boxes, each after its sources, and the edges between them.

    A leaf that is taken in places far apart (a weight, in every turn of a loop) would fill the
    picture with lines; its far uses get a box of their own that repeats its name.
    """
    place = {node.key: index for index, node in enumerate(graph.nodes)}
    links = [(place[edge.source], place[edge.target]) for edge in graph.edges]
    layer = layers(len(graph.nodes), links)
    far = [
        (source, target)
        for source, target in dict.fromkeys(links)
        if isinstance(graph.nodes[source], Leaf) and layer[target] - layer[source] > FAR
    ]
    repeat_of = {link: index for index, link in enumerate(far)}
    boxes = [_repeat(graph.nodes[source]) for source, _ in far]
    taken = Counter(edge.target for edge in graph.edges)
    boxes += (_box(node, taken[node.key] > 1) for node in graph.nodes)
    return boxes, [
        (repeat_of.get((source, target), len(far) + source), len(far) + target)
        for source, target in links
    ]


def _box(node: Node, numbered: bool) -> _Box:
    first = shortened(heading(node), _HEADING_COLUMNS)
    # The type of an intermediate stands already on the operator that made it.
    rest = () if isinstance(node, Intermediate) else details(node)
    lines = (first, *(shortened(line, _DETAIL_COLUMNS) for line in rest))
    width = max(cells(first) * _HEADING_ADVANCE, *(cells(line) * _DETAIL_ADVANCE for line in lines))
    height = _HEADING_HEIGHT + _DETAIL_HEIGHT * len(rest) + _INPUT_NUMBERS * numbered
    match node:
        case Leaf() | Result():
            size = (width + 2 * _POINT + _PADDING, height + 2 * _PADDING)
        case Op():
            size = (width + 3 * _PADDING, height + 2 * _PADDING)
        case Intermediate():
            size = (width + 2 * _PADDING, height + _PADDING)
        case _:
            assert_never(node)
    return _Box(node, lines, (max(size[0], 40.0), size[1]), numbered)


def _repeat(leaf: Node) -> _Box:
    name = shortened(heading(leaf), _HEADING_COLUMNS)
    size = (cells(name) * _HEADING_ADVANCE + 3 * _PADDING, _HEADING_HEIGHT + _PADDING)
    return _Box(leaf, (name,), size, repeats=True)


def _draw_box(parent: ET.Element, box: _Box, centre: Point) -> None:
    sort = sort_of(box.node)
    group = _add(parent, "g")
    group.set("data-repeats" if box.repeats else "data-node", box.node.key)
    _add(group, "title").text = tooltip(box.node)
    _draw_shape(group, sort, box.size, centre, dashed=box.repeats or _is_cut(box.node))
    x, y = centre
    y += 13 - (_HEADING_HEIGHT + _DETAIL_HEIGHT * (len(box.lines) - 1)) / 2
    y += _INPUT_NUMBERS / 2 * box.numbered
    words = _add(group, "g", fill=style.NODE[sort].text)
    weight = 400 if box.repeats else 600
    _add(words, "text", x=x, y=y, font_size=13, font_weight=weight).text = box.lines[0]
    if len(box.lines) > 1:
        rest = _add(words, "g", font_size=11, font_family=_MONO)
        for index, line in enumerate(box.lines[1:], start=1):
            _add(rest, "text", x=x, y=y + 1 + _DETAIL_HEIGHT * index).text = line


def _is_cut(node: Node) -> bool:
    """Whether the graph was cut off before this node, so that little is known of it."""
    match node:
        case Op():
            return not node.outputs
        case Leaf():
            return node.type is None
        case Intermediate() | Result():
            return False
        case _:
            assert_never(node)


def _draw_shape(
    parent: ET.Element, sort: Sort, size: Size, centre: Point, *, dashed: bool = False
) -> None:
    (width, height), (x, y) = size, centre
    left, top = x - width / 2, y - height / 2
    shape: ET.Element
    match sort:
        case "result":
            right, bottom = left + width, top + height
            corners = [
                (left, y),
                (left + _POINT, top),
                (right - _POINT, top),
                (right, y),
                (right - _POINT, bottom),
                (left + _POINT, bottom),
            ]
            shape = _add(parent, "polygon", points=_points(corners), stroke_width=2)
        case "leaf" | "op" | "intermediate":
            radius = {"leaf": height / 2, "op": 2, "intermediate": 7}[sort]
            shape = _add(parent, "rect", x=left, y=top, width=width, height=height, rx=radius)
            _set(shape, stroke_width=1.4)
        case _:
            assert_never(sort)
    colours = style.NODE[sort]
    _set(shape, fill=colours.fill, stroke=colours.line)
    if dashed:
        _set(shape, stroke_dasharray="4 3")


def _draw_line(parent: ET.Element, route: Sequence[Point], right: bool) -> None:
    """A line with an arrowhead: straight through layers, curved between them."""
    x, y = route[-1]
    head = [(x, y), (x - _ARROW / 2, y - _ARROW), (x + _ARROW / 2, y - _ARROW)]
    shaft = [*route[:-1], (x, y - _ARROW)]
    # In a layer's tallest box the last straight stretch has no length, and the arrowhead
    # reaches into the curve.
    shaft[-2] = (shaft[-2][0], min(shaft[-2][1], shaft[-1][1]))
    words = [f"M{_pair(_turned(shaft[0], right))}"]
    for index, (start, end) in enumerate(pairwise(shaft)):
        if index % 2 == 0:
            words.append(f"L{_pair(_turned(end, right))}")
        else:
            middle = (start[1] + end[1]) / 2
            curve = ((start[0], middle), (end[0], middle), end)
            words.append("C" + " ".join(_pair(_turned(point, right)) for point in curve))
    _add(parent, "path", d="".join(words))
    points = _points([_turned(point, right) for point in head])
    _add(parent, "polygon", points=points, fill=style.EDGE, stroke="none")


def _legend(boxes: Sequence[_Box]) -> tuple[ET.Element, float]:
    """One sample of each sort that the picture has, in a row, and its width."""
    legend = ET.Element("g", {"font-size": "11"})
    present = {sort_of(box.node) for box in boxes}
    samples = [(sort, word, False) for sort, word in _LEGEND if sort in present]
    if any(box.repeats for box in boxes):
        samples.insert(1, ("leaf", "leaf from above", True))
    x = 0.0
    for sort, word, dashed in samples:
        width = cells(word) * _DETAIL_ADVANCE + 2 * _POINT
        centre = (x + width / 2, _LEGEND_HEIGHT / 2)
        _draw_shape(legend, sort, (width, _LEGEND_HEIGHT), centre, dashed=dashed)
        text = _add(legend, "text", x=centre[0], y=centre[1] + 4, fill=style.NODE[sort].text)
        text.text = word
        x += width + _LEGEND_GAP
    return legend, max(x - _LEGEND_GAP, 0.0)


def _turned(point: Point, right: bool) -> Point:
    """Layouts run downwards; for pictures to the right, the two coordinates change places."""
    return (point[1], point[0]) if right else point


def _add(parent: ET.Element, tag: str, **attributes: str | float) -> ET.Element:
    element = ET.SubElement(parent, tag)
    _set(element, **attributes)
    return element


def _set(element: ET.Element, **attributes: str | float) -> None:
    for name, value in attributes.items():
        text = value if isinstance(value, str) else _number(value)
        element.set(name.replace("_", "-"), text)


def _points(points: Sequence[Point]) -> str:
    return " ".join(map(_pair, points))


def _pair(point: Point) -> str:
    return f"{_number(point[0])},{_number(point[1])}"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
