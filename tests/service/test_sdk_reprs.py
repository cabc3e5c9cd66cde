"""What objects of the SDK look like in a shell: tensors as torch prints them, nodes, sessions."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

import gradwire as gw
from gradwire_server.embedded import EmbeddedServer
from tests.service.sdk import session

pytestmark = pytest.mark.usefixtures("session")
__all__ = ["session"]

RANDOM = np.random.default_rng(0)


def normal(*shape: int, dtype: str = "f4") -> np.ndarray:
    drawn = RANDOM.standard_normal(shape)
    return drawn.astype(dtype) if np.dtype(dtype).kind == "f" else drawn + 1j * drawn[::-1]


TABLE: dict[str, np.ndarray] = {
    "one float": np.float32([3.0]),
    "whole floats": np.float32([-1.0, 0.0, 20.0]),
    "fractions": np.float32([1.0, 2.5, -0.125]),
    "very small and very large": np.float32([1e-5, 1.0, 1e9]),
    "negative zero": np.float32([-0.0, 1.5]),
    "infinities and NaN": np.float32([np.inf, -np.inf, np.nan, 1.0]),
    "nothing finite": np.float32([np.nan, np.inf]),
    "doubles": np.array([0.1, 1e-10]),
    "halves": np.float16([1.5, 60000.0]),
    "integers": np.array([-7, 1000]),
    "small integers": np.array([[1, 2], [3, 127]], np.int8),
    "bytes": np.uint8([0, 255]),
    "booleans": np.array([[True], [False]]),
    "complex": np.complex64([1 + 2j, -1.5 - 0.25j]),
    "whole complex": np.complex128([1 + 2j, 1000 - 3j]),
    "0-d float": np.float32(2.5),
    "0-d integer": np.int64(7),
    "0-d boolean": np.bool_(True),
    "0-d complex": np.complex64(1 - 2j),
    "empty": np.zeros(0, np.float32),
    "empty of two dimensions": np.zeros((2, 0), np.float32),
    "empty integers": np.zeros((0, 3), np.int64),
    "matrix": normal(3, 4),
    "four dimensions": normal(2, 2, 2, 2),
    "a row that takes several lines": normal(30),
    "rows that take several lines": np.arange(60.0, dtype=np.float32).reshape(2, 30),
    "the largest that is shown whole": normal(10, 100),
    "the smallest that is summarized": np.arange(1001),
    "summarized": normal(40, 50),
    "summarized, few rows": normal(6, 200),
    "summarized, few columns": normal(300, 5),
    "summarized, three dimensions": normal(20, 3, 30),
    "summarized complex": normal(40, 40, dtype="c16"),
    "large": normal(300, 400),
    "large doubles": normal(70_000, dtype="f8"),
    "large integers": RANDOM.integers(-1000, 1000, (8, 50, 60)),
    "large booleans": RANDOM.integers(0, 2, (300, 300)) > 0,
    "large complex": normal(100, 100, dtype="c16"),
}


def laid_out(text: str) -> str:
    """The text with each suffix on the line before it: the names of dtypes differ in length."""
    return re.sub(r",\n +(?=size=|dtype=|grad_fn=|requires_grad=)", ", ", text)


def as_torch_prints(tensor: torch.Tensor) -> str:
    return laid_out(repr(tensor).replace("torch.", "gradwire."))


@pytest.mark.parametrize("values", [pytest.param(each, id=name) for name, each in TABLE.items()])
def test_a_tensor_prints_as_torchs_does(values: np.ndarray) -> None:
    expected = torch.from_numpy(np.array(values))
    tensor = gw.tensor(values)
    assert laid_out(repr(tensor)) == as_torch_prints(expected)
    assert str(tensor) == repr(tensor)
    if tensor.is_floating_point() or tensor.is_complex():
        expected.requires_grad_()
        tensor.requires_grad_()
        assert laid_out(repr(tensor)) == as_torch_prints(expected)
        assert laid_out(repr(tensor * 2)) == as_torch_prints(expected * 2)


@pytest.mark.parametrize(
    "program",
    [
        "lib.tensor([3.0], requires_grad=True)",
        "lib.tensor([3.0], requires_grad=True) + 2",
        "(lib.tensor([3.0], requires_grad=True) + 2) ** 2",
        "lib.tensor([[1.5, 2.0]], requires_grad=True).sum()",
        "lib.tensor([[1.5, 2.0]], requires_grad=True).t().detach()",
        "lib.zeros(2, 3, dtype=lib.int32)",
        "lib.zeros(400, 300, requires_grad=True).t()",
        "lib.ones(2, requires_grad=True)[0]",
    ],
)
def test_what_programs_make_prints_as_in_torch(program: str) -> None:
    assert laid_out(repr(eval(program, {"lib": gw}))) == as_torch_prints(
        eval(program, {"lib": torch})
    )


def test_of_a_large_tensor_only_what_is_shown_is_fetched(session: gw.Session) -> None:
    x = gw.tensor(normal(1000, 1000), requires_grad=True)
    session.synchronize()
    before = session.traffic
    text = repr(x)
    assert (session.traffic - before).received < 2000
    assert "...," in text and text.endswith("requires_grad=True)")
    assert x.grad_fn is None


def test_a_tensor_larger_than_a_message_can_be_looked_at() -> None:
    with (
        EmbeddedServer.start(address="127.0.0.1:0", max_message_bytes=100_000) as server,
        gw.connect(server.address),
    ):
        x = gw.arange(1_000_000)
        assert repr(x) == "tensor([     0,      1,      2,  ..., 999997, 999998, 999999])"
        assert x.numpy()[-1] == 999_999


def test_printing_reports_what_failed_before() -> None:
    x = gw.tensor(normal(300, 400))
    x.shape  # noqa: B018  (from here on it is known)
    gw.tensor([1.0]) @ gw.tensor([1.0, 2.0])
    with pytest.raises(RuntimeError, match=r"test_sdk_reprs\.py"):
        repr(x)
    assert repr(x).startswith("tensor([[")


def test_a_node_shows_its_name_and_number() -> None:
    y = (gw.tensor([3.0], requires_grad=True) + 2) ** 2
    assert y.grad_fn is not None
    assert re.fullmatch(r"<PowBackward0, node \d+>", repr(y.grad_fn))
    ((below, number),) = y.grad_fn.next_functions
    assert re.fullmatch(r"<AddBackward0, node \d+>", repr(below)) and number == 0


def test_a_session_shows_its_name_id_place_and_state(address: str) -> None:
    with gw.connect(address, name="mine") as session:
        assert repr(session) == f"<gradwire.Session 'mine' {session.id} at {address}>"
    assert repr(session).endswith(", closed>")
    with gw.connect() as session:
        assert repr(session) == f"<gradwire.Session {session.id} embedded>"


def test_a_graph_shows_a_picture_and_text() -> None:
    x = gw.tensor([3.0], requires_grad=True)
    z = x + 2
    y = z**2
    graph = gw.graph(y, z)
    assert repr(graph) == "<Graph of z, y: 1 leaf, 2 ops, 4 edges>"
    shown: dict[str, Any] = graph._repr_mimebundle_()
    assert shown["image/svg+xml"].startswith("<svg ")
    assert all(f">{name}<" in shown["image/svg+xml"] for name in "xyz")
    assert "Pow (**2)  PowBackward0" in shown["text/plain"]
