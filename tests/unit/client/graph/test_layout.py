"""Boxes stand apart, in the direction of data flow, and lines stay clear of them."""

import inspect
import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradwire.graph.layout import GAP_IN_LAYER, MAX_BENDS, MAX_BOXES, Layout, lay_out, layers

Size = tuple[float, float]
Link = tuple[int, int]


@st.composite
def drawings(draw: st.DrawFn) -> tuple[list[Size], list[Link]]:
    count = draw(st.integers(1, 30))
    side = st.floats(20, 300)
    sizes = draw(st.lists(st.tuples(side, side), min_size=count, max_size=count))
    if count == 1:
        return sizes, []
    pairs = st.tuples(st.integers(0, count - 2), st.integers(1, count - 1))
    ordered = pairs.filter(lambda pair: pair[0] < pair[1])
    return sizes, draw(st.lists(ordered, max_size=60))


def overlaps(layout: Layout, sizes: list[Size]) -> list[Link]:
    """Pairs of boxes that touch."""
    boxes = list(zip(layout.centres, sizes, strict=True))
    return [
        (first, second)
        for second, ((x, y), (width, height)) in enumerate(boxes)
        for first, ((x0, y0), (width0, height0)) in enumerate(boxes[:second])
        if abs(x - x0) < (width + width0) / 2 and abs(y - y0) < (height + height0) / 2
    ]


@given(drawings())
@settings(max_examples=200)
def test_no_two_boxes_overlap(drawing: tuple[list[Size], list[Link]]) -> None:
    sizes, links = drawing
    assert overlaps(lay_out(sizes, links), sizes) == []


@given(drawings())
def test_everything_lies_within_the_drawing(drawing: tuple[list[Size], list[Link]]) -> None:
    sizes, links = drawing
    layout = lay_out(sizes, links)
    tiny = 1e-6
    for (x, y), (width, height) in zip(layout.centres, sizes, strict=True):
        assert width / 2 - tiny <= x <= layout.width - width / 2 + tiny
        assert height / 2 - tiny <= y <= layout.height - height / 2 + tiny
    for x, y in (point for route in layout.routes for point in route):
        assert -tiny <= x <= layout.width + tiny
        assert -tiny <= y <= layout.height + tiny


@given(drawings())
def test_lines_join_the_borders_of_their_boxes(drawing: tuple[list[Size], list[Link]]) -> None:
    sizes, links = drawing
    layout = lay_out(sizes, links)
    for (source, target), route in zip(links, layout.routes, strict=True):
        (x, y), (width, height) = layout.centres[source], sizes[source]
        assert route[0] == pytest.approx((x, y + height / 2))
        (x, y), (width, height) = layout.centres[target], sizes[target]
        assert route[-1][1] == pytest.approx(y - height / 2)
        assert abs(route[-1][0] - x) < width / 2
        assert route[0][1] < route[-1][1]


@given(drawings())
def test_no_line_crosses_a_box(drawing: tuple[list[Size], list[Link]]) -> None:
    sizes, links = drawing
    layout = lay_out(sizes, links)
    tiny = 1e-6
    for link, route in zip(links, layout.routes, strict=True):
        for index, ((x, top), (other, bottom)) in enumerate(pairwise(route)):
            straight = index % 2 == 0
            assert not straight or x == other
            # A curve stays within the rectangle that its ends span.
            left, right = min(x, other), max(x, other)
            for box, (centre, (width, height)) in enumerate(
                zip(layout.centres, sizes, strict=True)
            ):
                beside = abs((left + right) / 2 - centre[0]) > (right - left + width) / 2 - tiny
                clear = abs((top + bottom) / 2 - centre[1]) > (bottom - top + height) / 2 - tiny
                assert beside or clear, (link, box)


def test_layers_are_below_all_sources_and_as_near_to_targets_as_can_be() -> None:
    #  0 → 1 → 2 → 4,  3 → 4,  3 → 5
    assert layers(6, [(0, 1), (1, 2), (2, 4), (3, 4), (3, 5)]) == [0, 1, 2, 0, 3, 1]
    assert layers(5, [(0, 1), (1, 2), (2, 4), (3, 4)]) == [0, 1, 2, 2, 3]


def test_parallel_lines_arrive_side_by_side() -> None:
    layout = lay_out([(100, 40), (100, 40)], [(0, 1), (0, 1)])
    first, second = (route[-1][0] for route in layout.routes)
    assert abs(first - second) > 8


def test_components_stand_side_by_side() -> None:
    layout = lay_out([(50, 20), (50, 20), (50, 20)], [(0, 2)])
    assert layout.centres[1][0] - layout.centres[0][0] >= 50 + GAP_IN_LAYER


def test_nothing_takes_no_room() -> None:
    assert lay_out([], []) == Layout((), (), 0.0, 0.0)


def test_too_many_boxes_are_refused_before_any_work() -> None:
    with pytest.raises(ValueError, match=rf"too large.*{MAX_BOXES + 1} boxes"):
        lay_out([(10, 10)] * (MAX_BOXES + 1), [])


def test_too_long_lines_are_refused_before_any_work() -> None:
    chain = [(box, box + 1) for box in range(199)]
    skips = [(first, second) for second in range(200) for first in range(0, second, 3)]
    with pytest.raises(ValueError, match=rf"bends of lines \(at most {MAX_BENDS}\)"):
        lay_out([(10, 10)] * 200, chain + skips)


def test_too_little_stack_is_told_and_the_interpreters_limit_stays() -> None:
    fan = [(source, target) for target in range(1, 120) for source in {target // 2, target - 1}]
    links = [(source, target) for source, target in fan if source < target]
    limit = sys.getrecursionlimit()
    told = []
    # How much stack is enough for our own part and too little for the library's depends on how
    # deep this test is called.
    for spare in range(10, 40):
        tight = len(inspect.stack(context=0)) + spare
        try:
            sys.setrecursionlimit(tight)
            lay_out([(100, 40)] * 120, links)
        except RecursionError:
            continue
        except ValueError as error:
            told.append(str(error))
            assert sys.getrecursionlimit() == tight
        finally:
            sys.setrecursionlimit(limit)
    assert told
    assert all("ran out of stack" in text for text in told)
