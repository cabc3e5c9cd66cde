"""The picture is XML that holds each node and each edge once, where the eye expects them."""

import re
import xml.etree.ElementTree as ET
from collections import Counter

import pytest
from hypothesis import given, settings

from gradwire.graph import Direction, Edge, Graph, Leaf, Op, Result
from gradwire.graph.svg import FAR
from tests.unit.client.graph.samples import FLOATS, chain, graphs, loop, tutorial

NS = "{http://www.w3.org/2000/svg}"
Box = tuple[float, float, float, float]


def parsed(graph: Graph, direction: Direction = "down") -> ET.Element:
    return ET.fromstring(graph.to_svg(direction))


def shape(group: ET.Element) -> ET.Element:
    found = group.find(f"{NS}rect")
    return found if found is not None else group.findall(f"{NS}polygon")[0]


def box(group: ET.Element) -> Box:
    """Left, top, right and bottom."""
    element = shape(group)
    if element.tag == f"{NS}polygon":
        points = [tuple(map(float, pair.split(","))) for pair in element.attrib["points"].split()]
        xs, ys = zip(*points, strict=True)
        return min(xs), min(ys), max(xs), max(ys)
    left, top, width, height = (float(element.attrib[n]) for n in ("x", "y", "width", "height"))
    return left, top, left + width, top + height


def nodes(svg: ET.Element) -> dict[str, ET.Element]:
    groups = {group.attrib["data-node"]: group for group in svg.iterfind(".//*[@data-node]")}
    assert len(groups) == len(svg.findall(".//*[@data-node]"))
    return groups


def title(group: ET.Element) -> str:
    return group.findtext(f"{NS}title", "")


@given(graphs())
def test_every_node_and_edge_stands_once(graph: Graph) -> None:
    svg = parsed(graph)
    assert nodes(svg).keys() == {node.key for node in graph}
    drawn = Counter(group.attrib["data-edge"] for group in svg.iterfind(".//*[@data-edge]"))
    assert drawn == Counter(f"{edge.source} {edge.target}" for edge in graph.edges)


@pytest.mark.parametrize("direction", ["down", "right"])
@given(graph=graphs())
@settings(max_examples=50)
def test_no_two_boxes_overlap(direction: Direction, graph: Graph) -> None:
    svg = parsed(graph, direction)
    groups = [*svg.iterfind(".//*[@data-node]"), *svg.iterfind(".//*[@data-repeats]")]
    boxes = [box(group) for group in groups]
    for index, (left, top, right, bottom) in enumerate(boxes):
        for left0, top0, right0, bottom0 in boxes[:index]:
            assert left >= right0 or left0 >= right or top >= bottom0 or top0 >= bottom


@pytest.mark.parametrize("direction", ["down", "right"])
def test_edges_run_from_border_to_border_with_the_data(direction: Direction) -> None:
    svg = parsed(tutorial(), direction)
    boxes = {key: box(group) for key, group in nodes(svg).items()}
    start, end = (3, 1) if direction == "down" else (2, 0)
    for group in svg.iterfind(".//*[@data-edge]"):
        source, target = group.attrib["data-edge"].split()
        path, head = group.find(f"{NS}path"), group.find(f"{NS}polygon")
        assert path is not None
        assert head is not None
        first = re.findall(r"-?[\d.]+", path.attrib["d"])[:2]
        tip = head.attrib["points"].split()[0].split(",")
        axis = 1 if direction == "down" else 0
        assert float(first[axis]) == pytest.approx(boxes[source][start], abs=0.11)
        assert float(tip[axis]) == pytest.approx(boxes[target][end], abs=0.11)
        assert float(first[axis]) < float(tip[axis])


def test_sorts_differ_in_shape_and_colour() -> None:
    groups = nodes(parsed(tutorial()))
    leaf, op, middle, result = (shape(groups[key]) for key in ("n10", "n11", "t2", "t3"))
    assert len({element.attrib["fill"] for element in (leaf, op, middle, result)}) == 4
    assert result.tag == f"{NS}polygon"
    assert float(leaf.attrib["rx"]) == float(leaf.attrib["height"]) / 2
    assert float(op.attrib["rx"]) < float(middle.attrib["rx"]) < float(leaf.attrib["rx"])


def test_boxes_say_what_the_tutorial_says() -> None:
    groups = nodes(parsed(tutorial()))
    words = {key: [text.text for text in group.iter(f"{NS}text")] for key, group in groups.items()}
    assert words == {
        "n10": ["x", "float32 [1]"],
        "n11": ["Add (+2)", "AddBackward0", "float32 [1]"],
        "t2": ["z"],
        "n12": ["Pow (**2)", "PowBackward0", "float32 [1]"],
        "t3": ["y", "float32 [1]"],
    }


def test_tooltips_tell_id_shape_and_dtype() -> None:
    svg = parsed(tutorial())
    assert title(nodes(svg)["n12"]).splitlines() == [
        "Pow (**2)",
        "PowBackward0, node 12",
        "exponent = 2",
        "output: float32 [1]",
    ]
    (edge,) = svg.findall(".//*[@data-edge='t2 n12']")
    assert title(edge) == "z → Pow (**2), input 0"


def test_the_legend_has_the_sorts_that_are_there() -> None:
    words = [text.text for text in parsed(tutorial()).iter(f"{NS}text")]
    assert words[-4:] == ["leaf (requires_grad)", "operator", "named tensor", "result"]
    assert [text.text for text in parsed(chain(2)).iter(f"{NS}text")][-2:] == [
        "leaf (requires_grad)",
        "operator",
    ]


def test_several_inputs_are_numbered_in_the_order_of_their_lines() -> None:
    graph = Graph(
        (Leaf("a", "a"), Leaf("b", "b"), Op("c", 1, "SubBackward0", "sub", (), (FLOATS,))),
        (Edge("b", "c", 0, 0), Edge("a", "c", 0, 1)),
    )
    svg = parsed(graph)
    at = {text.text: float(text.attrib["x"]) for text in svg.iter(f"{NS}text") if text.text}
    assert (at["0"] < at["1"]) == (at["b"] < at["a"])


def test_a_leaf_in_a_loop_is_named_again_where_its_line_would_be_long() -> None:
    turns = 20
    svg = parsed(loop(turns))
    repeats = svg.findall(".//*[@data-repeats='w']")
    assert len(repeats) == turns - FAR
    assert len(svg.findall(".//*[@data-node='w']")) == 1
    assert all(shape(group).attrib["stroke-dasharray"] for group in repeats)
    assert "leaf from above" in [text.text for text in svg.iter(f"{NS}text")]
    assert not parsed(loop(FAR)).findall(".//*[@data-repeats]")


def test_what_the_graph_was_cut_off_before_is_dashed() -> None:
    groups = nodes(parsed(Graph((Op("a", 1, "AddBackward0"), Leaf("b")))))
    assert all("stroke-dasharray" in shape(group).attrib for group in groups.values())


def test_nothing_can_touch_the_page_it_stands_in() -> None:
    text = tutorial().to_svg()
    for word in ("<style", "<script", "href", " id=", " class=", "url(", "@import"):
        assert word not in text


def test_dark_text_stands_on_a_light_fill_in_every_box() -> None:
    def luminance(colour: str) -> float:
        channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    svg = parsed(tutorial())
    for group in nodes(svg).values():
        fill, text = shape(group).attrib["fill"], group.findall(f"{NS}g")[0].attrib["fill"]
        assert (luminance(fill) + 0.05) / (luminance(text) + 0.05) > 7
    lines = svg.find(f".//{NS}g[@stroke]")
    assert lines is not None
    edge = luminance(lines.attrib["stroke"])
    assert 1.05 / (edge + 0.05) > 3
    assert (edge + 0.05) / (luminance("#1e1e1e") + 0.05) > 3


@pytest.mark.parametrize(
    "name",
    ["<script>alert(1)</script>", "]]>", "\"&'", "a\x00b\x1b[31m", "\ud800", "日本語", "x" * 500],
)
def test_hostile_names_are_text_and_stay_in_their_box(name: str) -> None:
    graph = Graph((Leaf("a", name, 1, 1, FLOATS), Result("b", name, 2, FLOATS)), (Edge("a", "b"),))
    svg = parsed(graph)
    assert {element.tag.removeprefix(NS) for element in svg.iter()} == {
        *("svg", "g", "title", "path", "polygon", "rect", "text")
    }
    for group in nodes(svg).values():
        left, _, right, _ = box(group)
        text = group.findtext(f".//{NS}text", "")
        assert len(text) * 6 < right - left < 400


def test_the_empty_graph_is_a_picture_too() -> None:
    assert parsed(Graph(())).tag == f"{NS}svg"


def test_a_graph_of_a_thousand_nodes_can_be_drawn() -> None:
    assert len(nodes(parsed(chain(1000)))) == 1000


def test_a_graph_beyond_the_bound_is_refused_with_the_other_forms_named() -> None:
    with pytest.raises(ValueError, match=r"too large.*to_dot\(\).*to_text\(\)"):
        chain(3500).to_svg()
