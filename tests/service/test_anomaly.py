"""Anomaly mode: which backward made the NaN, and the line that recorded its operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import gradwire as gw
from gradwire.errors import AutogradError
from gradwire.v1 import autograd_pb2 as pb
from tests.service.harness import Client, backward, op, put
from tests.service.sdk import session

__all__ = ["session"]

pytestmark = [
    pytest.mark.usefixtures("session"),
    pytest.mark.filterwarnings(
        "ignore:Anomaly Detection has been enabled", "ignore:Error detected in"
    ),
]


def root_of_a_negative(lib: Any) -> None:
    x = lib.tensor([-1.0, 4.0], requires_grad=True)
    y = x.sqrt()  # to blame
    (y * 2).sum().backward()


def zero_over_zero(lib: Any) -> None:
    x = lib.tensor([0.0], requires_grad=True)
    y = x / x  # to blame
    y.sum().backward()


def in_place(lib: Any) -> None:
    x = lib.tensor([-1.0], requires_grad=True)
    y = x * 1
    y.sqrt_()  # to blame
    y.backward()


def a_nan_that_came_in(lib: Any) -> None:
    x = lib.tensor([1.0], requires_grad=True)
    y = x * 2  # to blame
    y.backward(lib.tensor([float("nan")]))


def recorded_long_before(lib: Any) -> None:
    x = lib.tensor([-1.0], requires_grad=True)
    y = x.sqrt()  # to blame
    for _ in range(600):
        y = y + 1
    y.backward()


def by_grad(lib: Any) -> None:
    x = lib.tensor([-1.0], requires_grad=True)
    y = x.log() * 0  # to blame
    z = (x**0.5).sum()  # to blame
    lib.autograd.grad(y.sum() + z, x)


CASES = [
    (root_of_a_negative, "SqrtBackward0"),
    (zero_over_zero, "DivBackward0"),
    (in_place, "SqrtBackward0"),
    (a_nan_that_came_in, "MulBackward0"),
    (recorded_long_before, "SqrtBackward0"),
    (by_grad, "PowBackward0"),
]


@pytest.mark.parametrize(("case", "name"), CASES, ids=lambda each: getattr(each, "__name__", each))
def test_the_node_and_its_line_are_named(case: Callable[[Any], None], name: str) -> None:
    with torch.autograd.detect_anomaly(), pytest.raises(RuntimeError, match=f"'{name}'"):
        case(torch)
    with gw.autograd.detect_anomaly(), pytest.raises(AutogradError) as found:
        case(gw)
    error = found.value
    assert error.reason == "ANOMALY"
    assert error.code == "FAILED_PRECONDITION"
    assert error.metadata["grad_fn"] == name
    assert name in str(error)
    assert error.location is not None
    assert error.location.filename == __file__
    assert error.location.source.endswith("# to blame")


@pytest.mark.parametrize("case", [each for each, _ in CASES], ids=lambda each: each.__name__)
def test_without_it_a_nan_is_a_value_as_any(case: Callable[[Any], None]) -> None:
    case(torch)
    case(gw)


def test_the_root_gradient_and_leaves_are_not_searched() -> None:
    with gw.autograd.detect_anomaly():
        x = gw.tensor([1.0], requires_grad=True)
        x.backward(gw.tensor([float("nan")]))
        assert x.grad is not None


def test_it_is_switched_and_nested() -> None:
    def backward_of_nan() -> None:
        x = gw.tensor([-1.0], requires_grad=True)
        x.sqrt().backward()

    with gw.autograd.set_detect_anomaly(True):
        with gw.autograd.set_detect_anomaly(False):
            backward_of_nan()
        with gw.autograd.detect_anomaly(check_nan=False):
            backward_of_nan()
        with pytest.raises(RuntimeError):
            backward_of_nan()
    backward_of_nan()
    gw.autograd.set_detect_anomaly(True)
    try:
        with pytest.raises(RuntimeError):
            backward_of_nan()
    finally:
        gw.autograd.set_detect_anomaly(False)
    backward_of_nan()


def test_the_session_lives_on(session: gw.Session) -> None:
    with gw.autograd.detect_anomaly(), pytest.raises(RuntimeError):
        root_of_a_negative(gw)
    x = gw.tensor([3.0], requires_grad=True)
    (x * x).backward()
    assert x.grad is not None and x.grad.item() == 6


def test_other_failures_of_a_node_show_the_line_that_recorded_it_too() -> None:
    with gw.autograd.detect_anomaly():
        x = gw.tensor([2.0], requires_grad=True)
        y = x.exp()  # to blame
        y.backward()
        with pytest.raises(AutogradError) as found:
            y.backward()
    assert found.value.reason == "GRAPH_FREED"
    assert found.value.location is not None
    assert found.value.location.source.endswith("# to blame")


def test_over_the_wire_the_step_that_recorded_it_is_told(client: Client) -> None:
    client.run(put(1, [-1.0], requires_grad=True), op("sqrt", [1], 2), detect_anomaly=True)
    refused = client.refused(op("mul", [2], 3, other=2.0), backward(3), detect_anomaly=True)
    assert refused.reason == "ANOMALY"
    assert refused.metadata["grad_fn"] == "SqrtBackward0"
    told = {key: refused.metadata[key] for key in ("origin_sequence", "origin_step", "handle")}
    assert told == {"origin_sequence": "1", "origin_step": "1", "handle": "2"}
    assert refused.metadata["input"] == "self"
    assert pb.ErrorReason.Value(f"ERROR_REASON_{refused.reason}")


def test_over_the_wire_a_node_recorded_without_it_is_named_alone(client: Client) -> None:
    client.run(put(1, [-1.0], requires_grad=True), op("sqrt", [1], 2))
    refused = client.refused(backward(2), detect_anomaly=True)
    assert refused.metadata["grad_fn"] == "SqrtBackward0"
    assert "handle" not in refused.metadata
    assert client.still_works()


def test_lines_are_kept_also_where_nan_may_pass() -> None:
    with gw.autograd.detect_anomaly(check_nan=False):
        x = gw.tensor([1.0], requires_grad=True)
        y = x.sqrt()  # to blame
        y.backward()
        with pytest.raises(AutogradError) as found:
            y.backward()
    assert found.value.reason == "GRAPH_FREED"
    assert found.value.location is not None
    assert found.value.location.source.endswith("# to blame")
