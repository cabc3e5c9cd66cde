"""The words on nodes are those that the user wrote and PyTorch's."""

import pytest

from gradwire.graph import AttributeValue, Leaf, Op, TensorType
from gradwire.graph.labels import clean, details, heading, one_line, shortened, tooltip

SCALAR = TensorType("float32", ())


@pytest.mark.parametrize(
    ("op", "attributes", "expected"),
    [
        ("add", (("other", 2),), "Add (+2)"),
        ("add", (), "Add"),
        ("add", (("other", 2), ("alpha", 3)), "Add"),
        ("add_", (("other", 0.5),), "Add_ (+0.5)"),
        ("sub", (("other", -1),), "Sub (-(-1))"),
        ("mul", (("other", 1j),), "Mul (*1j)"),
        ("div", (("other", 4),), "Div (/4)"),
        ("pow", (("exponent", 2),), "Pow (**2)"),
        ("pow", (("self", 2),), "Pow (2**)"),
        ("rsub", (("other", 1),), "Rsub (1-)"),
        ("log_softmax", (("dim", 1),), "LogSoftmax"),
        ("max.dim", (("dim", 1),), "Max.dim"),
        ("linalg.solve", (), "Linalg.solve"),
        ("_of_the_server", (), "Some"),
    ],
)
def test_arithmetic_with_a_number_is_headed_as_it_was_written(
    op: str, attributes: tuple[tuple[str, AttributeValue], ...], expected: str
) -> None:
    assert heading(Op("n1", 1, "SomeBackward0", op, attributes)) == expected


def test_other_arguments_stand_below_the_name() -> None:
    node = Op("n1", 1, "SumBackward1", "sum", (("dim", (0, 1)), ("keepdim", True)), (SCALAR,))
    assert details(node) == ("SumBackward1", "dim=[0, 1], keepdim=True", "float32 []")
    assert one_line(node) == "Sum (dim=[0, 1], keepdim=True)  SumBackward1  float32 []"


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ((SCALAR,) * 3, "3 × float32 []"),
        ((SCALAR, TensorType("int64", (2,))), "float32 [] and 1 more"),
    ],
)
def test_many_outputs_are_told_in_a_few_words(
    outputs: tuple[TensorType, ...], expected: str
) -> None:
    assert details(Op("n1", 1, "SplitBackward0", "split", (), outputs))[-1] == expected


def test_a_nameless_leaf_goes_by_its_handle() -> None:
    assert heading(Leaf("n1", handle=7)) == "tensor 7"
    assert heading(Leaf("n1")) == "tensor"


def test_a_tooltip_tells_all_that_is_known() -> None:
    node = Op("n1", 5, "MulBackward0", "mul", (("other", 3),), (SCALAR,), (1,), released=True)
    assert tooltip(node).splitlines() == [
        "Mul (*3)",
        "MulBackward0, node 5",
        "other = 3",
        "output: float32 []",
        "no gradient to input 1",
        "values kept for backward were released",
    ]


def test_text_keeps_to_one_line_and_to_what_can_be_shown() -> None:
    assert clean("a\n\tb\x00\ud800\u202ec") == "a b���c"


@pytest.mark.parametrize(
    ("text", "expected"), [("abcdef", "abcdef"), ("abcdefg", "abcde…"), ("日本語日本", "日本…")]
)
def test_long_text_is_cut_to_its_columns(text: str, expected: str) -> None:
    assert shortened(text, 6) == expected
