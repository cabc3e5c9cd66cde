"""A table of cases from PyTorch's semantics. Each runs with gradwire and with torch, in one test.

A case is a function of the library: written once, as a user would write it, and called with both.
What it returns must be the same. A case that is refused must be refused by both: at the same line,
with the same built-in exception; ours says besides why (its reason) and what to do.
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

import gradwire
from gradwire_server.errors import ServiceError

Case = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A case that raises.

    Attributes:
        case: The last thing it does is refused.
        reason: Of the contract.
        remedy: What the text says to do.
    """

    case: Case
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Table:
    """The cases of one section."""

    cases: list[Case] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def gives(self, case: Case) -> Case:
        """Enter a case whose results are compared."""
        self.cases.append(case)
        return case

    def refuses(self, reason: str, remedy: str) -> Callable[[Case], Case]:
        """Enter a case that raises."""

        def enter(case: Case) -> Case:
            self.refusals.append(Refusal(case, reason, remedy))
            return case

        return enter

    def tests(self) -> tuple[Callable[..., None], Callable[..., None]]:
        """Tests for a module to name: of the cases that give something, and of those that raise."""

        @pytest.mark.parametrize("case", self.cases, ids=lambda case: case.__name__)
        def gives(case: Case) -> None:
            check(case)

        names = [each.case.__name__ for each in self.refusals]

        @pytest.mark.parametrize("refusal", self.refusals, ids=names)
        def refuses(refusal: Refusal, session: gradwire.Session) -> None:
            check_refusal(refusal, session)

        return gives, refuses


def check(case: Case) -> None:
    """Compare what a case gives with both libraries."""
    with _no_advice(), torch.enable_grad(), gradwire.enable_grad():
        theirs = seen(case(torch))
        ours = seen(case(gradwire))
    assert_same(ours, theirs, case.__name__)


def check_refusal(refusal: Refusal, session: gradwire.Session) -> None:
    """Compare how a case is refused by both libraries, and see that ours goes on working."""
    with _no_advice(), torch.enable_grad(), gradwire.enable_grad():
        with pytest.raises(Exception) as theirs:  # noqa: PT011 (which one, torch says)
            refusal.case(torch)
        built_in = next(c for c in type(theirs.value).__mro__ if c.__module__ == "builtins")
        with pytest.raises(built_in) as caught:
            _run(refusal.case, session)
    ours = caught.value
    assert isinstance(ours, gradwire.GradwireError), repr(ours)
    assert ours.reason == refusal.reason
    assert ours.code == ServiceError(refusal.reason, "").grpc_code.name
    assert refusal.remedy in str(ours)
    line = _line_in(refusal.case, theirs.value)
    assert ours.location is not None
    assert (ours.location.filename, ours.location.lineno) == (line.filename, line.lineno)
    assert f":{line.lineno}: " in str(ours)
    assert gradwire.tensor([1.0]).add(1).item() == 2.0


def _run(case: Case, session: gradwire.Session) -> None:
    case(gradwire)
    session.synchronize()


def _line_in(case: Case, error: BaseException) -> traceback.FrameSummary:
    """The last line of the case's file that the exception came through."""
    filename = case.__code__.co_filename
    frames = traceback.extract_tb(error.__traceback__)
    return next(frame for frame in reversed(frames) if frame.filename == filename)


class _no_advice(warnings.catch_warnings):  # noqa: N801 (as its base)
    """Without the warnings that either library gives beside its answer."""

    def __enter__(self) -> Any:
        log = super().__enter__()
        warnings.simplefilter("ignore")
        return log


def name_of(node: Any) -> str | None:
    """A node's name without PyTorch's C++ namespace."""
    return None if node is None else node.name().rpartition(":")[2]


def chain(node: Any) -> list[str | None]:
    """The names of nodes from one on, along the first input that needs a gradient."""
    names = []
    while node is not None:
        names.append(name_of(node))
        node = next((each for each, _ in node.next_functions if each is not None), None)
    return names


def category_of(warned: Any) -> list[type[Warning]]:
    """The categories of what `warnings.catch_warnings(record=True)` caught."""
    return [each.category for each in warned]


@dataclass(frozen=True, slots=True, eq=False)
class SeenTensor:
    """What is compared of a tensor."""

    dtype: str
    requires_grad: bool
    is_leaf: bool
    grad_fn: str | None
    values: np.ndarray


def seen(value: Any) -> Any:
    """A result as Python and NumPy values, tensors with all that autograd says of them."""
    if isinstance(value, (gradwire.Tensor, torch.Tensor)):
        is_torch = isinstance(value, torch.Tensor)
        values = value.detach().clone().numpy() if is_torch else gradwire.fetch(value)
        return SeenTensor(
            str(value.dtype).partition(".")[2],
            value.requires_grad,
            value.is_leaf,
            name_of(value.grad_fn),
            values,
        )
    if isinstance(value, (gradwire.dtype, torch.dtype)):
        return str(value).partition(".")[2]
    if isinstance(value, dict):
        return {key: seen(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [seen(each) for each in value]
    if callable(getattr(value, "name", None)):
        return name_of(value)
    return value


def assert_same(ours: Any, theirs: Any, where: str) -> None:
    """Compare what was seen; `where` leads to the part that differs."""
    if isinstance(theirs, SeenTensor):
        assert isinstance(ours, SeenTensor), f"{where}: {ours} instead of {theirs}"
        for name in ("dtype", "requires_grad", "is_leaf", "grad_fn"):
            assert_same(getattr(ours, name), getattr(theirs, name), f"{where}.{name}")
        assert_same(ours.values, theirs.values, where)
    elif isinstance(theirs, np.ndarray):
        assert ours.shape == theirs.shape, f"{where}: shape {ours.shape}, not {theirs.shape}"
        single = theirs.dtype in (np.float32, np.complex64)
        rtol = 2e-5 if single else 1e-12
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol, err_msg=where)
    elif isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for key in theirs:
            assert_same(ours[key], theirs[key], f"{where}[{key!r}]")
    elif isinstance(theirs, list):
        assert isinstance(ours, list) and len(ours) == len(theirs), f"{where}: {ours}, not {theirs}"
        for nr, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(one, other, f"{where}[{nr}]")
    elif isinstance(theirs, (float, complex)):
        assert ours == pytest.approx(theirs, rel=2e-5, nan_ok=True), where
    else:
        assert ours == theirs, f"{where}: {ours!r}, not {theirs!r}"


def reasons(*tables: Table) -> Iterator[str]:
    """The reasons that cases are refused with."""
    for table in tables:
        yield from (each.reason for each in table.refusals)
