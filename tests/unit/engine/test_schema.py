"""Schema strings: what they say, what they refuse, and that they print as they are read."""

import numpy as np
import pytest

from gradwire_engine import EngineError, operators
from gradwire_engine.schema import REQUIRED, parse_schema


def test_a_schema_in_full() -> None:
    schema = parse_schema(
        "f.over(Tensor self, Tensor? weight=None, int[]? dim=None, Tensor[] tensors=[], "
        "Tensor?[] indices=[], *, Scalar alpha=1, ScalarType? dtype=None, str mode='mean', "
        "float eps=1e-05, bool flag=False) -> (Tensor values, Tensor indices)"
    )
    assert schema.name == "f.over"
    assert schema.results == ("values", "indices")
    by_name = {argument.name: argument for argument in schema.arguments}
    assert by_name["self"].required and by_name["self"].default is REQUIRED
    assert by_name["weight"].is_tensor and by_name["weight"].optional
    assert by_name["dim"].is_list and by_name["dim"].optional and by_name["dim"].default is None
    assert by_name["tensors"].is_tensor_list and by_name["tensors"].default == ()
    assert by_name["indices"].is_tensor_list and by_name["indices"].holes
    assert not by_name["indices"].keyword_only and by_name["alpha"].keyword_only
    assert by_name["alpha"].default == 1
    assert by_name["eps"].default == 1e-5
    assert by_name["mode"].default == "mean"
    assert by_name["flag"].default is False


@pytest.mark.parametrize(
    ("text", "results"),
    [
        ("f(Tensor self) -> Tensor", ("",)),
        ("f(Tensor self) -> Tensor[]", ("[]",)),
        ("f(Tensor self) -> (Tensor a, Tensor b)", ("a", "b")),
        ("f() -> Tensor", ("",)),
    ],
)
def test_results(text: str, results: tuple[str, ...]) -> None:
    assert parse_schema(text).results == results


@pytest.mark.parametrize("op", operators.values(), ids=lambda op: op.name)
def test_every_schema_prints_as_it_is_read(op: object) -> None:
    schema = op.schema  # type: ignore[attr-defined]
    assert parse_schema(str(schema)) == schema


@pytest.mark.parametrize(
    "text",
    [
        "f",
        "f(Tensor self)",
        "f(tensor self) -> Tensor",
        "f(Tensor) -> Tensor",
        "f(Tensor self, wat x) -> Tensor",
        "f(Tensor self -> Tensor",
    ],
)
def test_what_is_no_schema(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        parse_schema(text)


def convert(type_name: str, value: object) -> object:
    schema = parse_schema(f"f(Tensor self, {type_name} x) -> Tensor")
    return schema.arguments[1].convert(value, "f")


@pytest.mark.parametrize(
    ("type_name", "value", "canonical"),
    [
        ("int", 3, 3),
        ("int[]", [1, 2], (1, 2)),
        ("int[]", 1, (1,)),
        ("int[]", (), ()),
        ("int[]?", None, None),
        ("float", 1, 1.0),
        ("float", 1.5, 1.5),
        ("Scalar", True, True),
        ("Scalar", 2j, 2j),
        ("bool", False, False),
        ("str", "mean", "mean"),
        ("ScalarType", np.dtype("float32"), np.dtype("float32")),
        ("ScalarType?", None, None),
        ("Scalar?", None, None),
    ],
)
def test_arguments_take_their_canonical_form(
    type_name: str, value: object, canonical: object
) -> None:
    converted = convert(type_name, value)
    assert converted == canonical
    assert type(converted) is type(canonical)


@pytest.mark.parametrize(
    ("type_name", "value"),
    [
        ("int", 1.0),
        ("int", True),
        ("int", None),
        ("int", "1"),
        ("int[]", [1.5]),
        ("int[]", [True]),
        ("int[]", None),
        ("float", "1"),
        ("float", True),
        ("float", 1j),
        ("Scalar", "1"),
        ("Scalar", None),
        ("bool", 1),
        ("bool", None),
        ("str", 1),
        ("ScalarType", "float32"),
        ("ScalarType", np.float32),
    ],
)
def test_arguments_of_another_type_are_refused(type_name: str, value: object) -> None:
    with pytest.raises(EngineError) as refusal:
        convert(type_name, value)
    assert refusal.value.reason == "BAD_ATTRIBUTE"
    assert refusal.value.argument == "x"
    assert refusal.value.metadata["expected"] == type_name
    assert type_name in refusal.value.message and repr(value) in refusal.value.message
