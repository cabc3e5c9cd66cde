"""Mixed dtypes: every pair of dtypes, and every rank that an operand can have, as in PyTorch."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from gradwire_engine import EngineError, Tensor, operators
from tests.parity.oracle import Sides, numpy_dtype

DTYPES = (
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
)
NUMBERS = (True, 2, 2.0, 2j)

BINARY: dict[str, Callable[..., torch.Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "pow": torch.pow,
    "maximum": torch.maximum,
    "eq": torch.eq,
    "lt": torch.lt,
    "bitwise_and": torch.bitwise_and,
    "where": lambda a, b: torch.where(torch.tensor(True), a, b),
}


def vector(dtype: torch.dtype) -> torch.Tensor:
    return torch.ones(2, dtype=dtype)


def scalar(dtype: torch.dtype) -> torch.Tensor:
    return torch.ones((), dtype=dtype)


def outcome(function: Callable[..., Any], *args: Any) -> Any:
    """The dtype of the result; None if it is refused."""
    try:
        result = function(*args)
    except (RuntimeError, TypeError, EngineError):
        return None
    if isinstance(result, Tensor):
        return result.dtype
    # NumPy has no complex of halves, and neither have most of torch's operators.
    return None if result.dtype == torch.complex32 else numpy_dtype(result.dtype)


def ours(name: str, a: Any, b: Any) -> Any:
    """The dtype here, of the same operands."""
    sides = Sides()
    args = [sides.ours(a), sides.ours(b)]
    if name == "where":
        args.insert(0, sides.ours(torch.tensor(True)))
    return outcome(operators[name], *args)


def only_torch_refuses(name: str, a: Any, b: Any) -> bool:
    """Operands that torch has no kernel for, or warns of, and that are plain enough here."""
    kinds = {each.dtype if isinstance(each, torch.Tensor) else type(each) for each in (a, b)}
    complex_halves = torch.float16 in kinds and any(
        kind is complex or kind in (torch.complex64, torch.complex128) for kind in kinds
    )
    match name:
        case "sub":
            return bool in kinds or torch.bool in kinds or complex_halves
        case "maximum":
            return not all(isinstance(each, torch.Tensor) for each in (a, b))
        case "pow":
            return kinds <= {torch.bool, bool} or complex_halves
    return complex_halves


def mismatches(name: str, pairs: list[tuple[Any, Any]]) -> list[str]:
    faults: list[str] = []
    for a, b in pairs:
        expected, found = outcome(BINARY[name], a, b), ours(name, a, b)
        if found != expected and not (expected is None and only_torch_refuses(name, a, b)):
            faults.append(f"{a!r} and {b!r}: {found}, expected {expected}")
    return faults


@pytest.mark.parametrize("name", BINARY)
def test_two_tensors(name: str) -> None:
    pairs = itertools.product(DTYPES, DTYPES)
    assert mismatches(name, [(vector(a), vector(b)) for a, b in pairs]) == []


@pytest.mark.parametrize("name", BINARY)
def test_a_tensor_and_one_of_no_dimensions(name: str) -> None:
    pairs = list(itertools.product(DTYPES, DTYPES))
    operands = [(vector(a), scalar(b)) for a, b in pairs]
    operands += [(scalar(a), vector(b)) for a, b in pairs]
    operands += [(scalar(a), scalar(b)) for a, b in pairs]
    assert mismatches(name, operands) == []


@pytest.mark.parametrize("name", BINARY)
def test_a_tensor_and_a_number(name: str) -> None:
    pairs = list(itertools.product(DTYPES, NUMBERS))
    operands = [(make(a), b) for a, b in pairs for make in (vector, scalar)]
    assert mismatches(name, operands) == []


@pytest.mark.parametrize("name", ["pow", "where"])
def test_a_number_and_a_tensor(name: str) -> None:
    pairs = list(itertools.product(NUMBERS, DTYPES))
    operands = [(a, make(b)) for a, b in pairs for make in (vector, scalar)]
    assert mismatches(name, operands) == []


@pytest.mark.parametrize(("name", "function"), [("cat", torch.cat), ("stack", torch.stack)])
def test_joining(name: str, function: Callable[..., torch.Tensor]) -> None:
    for a, b in itertools.product(DTYPES, DTYPES):
        operands = [vector(a), vector(b)]
        expected = numpy_dtype(function(operands).dtype)
        assert operators[name](Sides().ours(operands)).dtype == expected


def test_all_three_of_where_with_numbers_only() -> None:
    for a, b in itertools.product(NUMBERS, NUMBERS):
        expected = numpy_dtype(torch.where(torch.tensor([True]), a, b).dtype)
        condition = Sides().ours(torch.tensor([True]))
        assert operators["where"](condition, a, b).dtype == expected


@pytest.mark.parametrize("name", ["add", "mul", "div", "pow"])
def test_in_place_results_that_do_not_fit_are_refused(name: str) -> None:
    function = getattr(torch.Tensor, f"{name}_")
    for a, b in itertools.product(DTYPES, DTYPES):
        if name == "pow" and {a, b} == {torch.bool}:
            continue
        expected = outcome(lambda x, y: function(x.clone(), y), vector(a), vector(b))
        sides = Sides()
        found = outcome(operators[f"{name}_"], sides.ours(vector(a)), sides.ours(vector(b)))
        assert found == expected, (a, b)
