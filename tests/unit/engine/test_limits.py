"""Limits are checked from shapes, before anything is allocated."""

import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from gradwire_engine import Context, EngineError, Limits, Tensor, operators, use

SIDE = 20_000
COLUMN = np.ones((SIDE, 1), np.float32)
ROW = np.ones((1, SIDE), np.float32)
VECTOR = np.ones(SIDE, np.float32)
MASK = np.ones((SIDE, 1), np.bool_)
INDEX = np.zeros(SIDE, np.int64)
SQUARE = [SIDE, SIDE]


def call(name: str, *args: Any) -> Any:
    return operators[name](*map(given, args))


def given(value: Any) -> Any:
    if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
        return [Tensor(each) for each in value]
    return Tensor(value) if isinstance(value, np.ndarray) else value


EXPLOSIONS: dict[str, Callable[[], Any]] = {
    **{
        name: partial(call, name, COLUMN, ROW)
        for name in "add sub mul div pow maximum minimum eq lt logical_and mse_loss".split()
    },
    "rsub": lambda: call("rsub", COLUMN, ROW),
    "where": lambda: call("where", MASK, ROW, 0.0),
    "masked_fill": lambda: call("masked_fill", ROW, MASK, 0.0),
    "clamp": lambda: call("clamp", COLUMN, ROW),
    "expand": lambda: call("expand", COLUMN, SQUARE),
    "mm": lambda: call("mm", COLUMN, ROW),
    "matmul": lambda: call("matmul", COLUMN, ROW),
    "matmul, batched": lambda: call("matmul", COLUMN[:, :, None], ROW[None]),
    "bmm": lambda: call("bmm", COLUMN[None], ROW[None]),
    "addmm": lambda: call("addmm", ROW, COLUMN, ROW),
    "outer": lambda: call("outer", VECTOR, VECTOR),
    "linear": lambda: call("linear", COLUMN, COLUMN),
    "zeros": lambda: call("zeros", SQUARE),
    "ones": lambda: call("ones", SQUARE),
    "full": lambda: call("full", SQUARE, 1.0),
    "rand": lambda: call("rand", SQUARE),
    "randn": lambda: call("randn", SQUARE),
    "randint": lambda: call("randint", 0, 9, SQUARE),
    "eye": lambda: call("eye", SIDE),
    "arange": lambda: call("arange", SIDE * SIDE),
    "linspace": lambda: call("linspace", 0.0, 1.0, SIDE * SIDE),
    "one_hot": lambda: call("one_hot", INDEX, SIDE),
    "embedding": lambda: call("embedding", ROW, INDEX),
    "index": lambda: call("index", ROW, [INDEX]),
    "index_select": lambda: call("index_select", ROW, 0, INDEX),
    "take_along_dim": lambda: call("take_along_dim", ROW, INDEX[:, None], 0),
    "masked_select": lambda: call("masked_select", ROW, MASK),
    "masked_scatter": lambda: call("masked_scatter", ROW, MASK, ROW),
    "repeat": lambda: call("repeat", VECTOR, [SIDE]),
    "tile": lambda: call("tile", VECTOR, [SIDE]),
    "repeat_interleave": lambda: call("repeat_interleave", VECTOR, SIDE),
    "repeat_interleave, each": lambda: call("repeat_interleave", VECTOR, INDEX + SIDE),
    "block_diag": lambda: call("block_diag", [COLUMN[1:], ROW[:, 1:]]),
    "cartesian_prod": lambda: call("cartesian_prod", [VECTOR] * 2),
    "combinations": lambda: call("combinations", VECTOR),
    "diag_embed": lambda: call("diag_embed", VECTOR),
    "select_backward": lambda: call("select_backward", VECTOR, SQUARE, 0, 0),
    "cat": lambda: call("cat", [VECTOR] * SIDE),
    "stack": lambda: call("stack", [VECTOR] * SIDE),
    "add_": lambda: call("add_", COLUMN.copy(), ROW),
}


@pytest.mark.parametrize("explode", EXPLOSIONS.values(), ids=EXPLOSIONS)
def test_nothing_is_allocated_for_what_is_refused(explode: Callable[[], Any]) -> None:
    with use(Context(limits=Limits(max_elements=10_000_000))):
        tracemalloc.start()
        try:
            with pytest.raises(EngineError) as refusal:
                explode()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert refusal.value.reason == "LIMIT_EXCEEDED"
    assert refusal.value.metadata["limit"] == "max_tensor_elements"
    assert refusal.value.metadata["value"] == str(SIDE * SIDE)
    assert refusal.value.metadata["maximum"] == "10000000"
    assert peak < 8_000_000


def test_sizes_beyond_64_bits_do_not_wrap_around() -> None:
    huge = 1 << 40
    with pytest.raises(EngineError) as refusal:
        call("zeros", [huge, huge])
    assert refusal.value.reason == "LIMIT_EXCEEDED"
    assert refusal.value.metadata["value"] == str(huge * huge)


def test_rank() -> None:
    with use(Context(limits=Limits(max_rank=2))):
        x = Tensor(np.ones((2, 2)))
        call("add", x.data, x.data)
        for name, args in {
            "unsqueeze": (x.data, 0),
            "expand": (x.data, [1, 2, 2]),
            "zeros": ([1, 1, 1],),
        }.items():
            with pytest.raises(EngineError) as refusal:
                call(name, *args)
            assert refusal.value.metadata["limit"] == "max_rank"


def test_what_just_fits_is_admitted() -> None:
    with use(Context(limits=Limits(max_elements=6))):
        assert call("add", np.ones((2, 1)), np.ones((1, 3))).shape == (2, 3)
        with pytest.raises(EngineError):
            call("add", np.ones((2, 1)), np.ones((1, 4)))


HUGE = 1 << 40

NOTHINGS: dict[str, Callable[[], Any]] = {
    "zeros": lambda: call("zeros", [0, HUGE]),
    "tile": lambda: call("tile", VECTOR, [HUGE, 0]),
    "repeat": lambda: call("repeat", VECTOR, [HUGE, 0]),
    "expand": lambda: call("expand", np.ones((1, 0), np.float32), [HUGE, 0]),
}


@pytest.mark.parametrize("make", NOTHINGS.values(), ids=NOTHINGS)
def test_a_size_of_zero_does_not_admit_any_other(make: Callable[[], Any]) -> None:
    with (
        use(Context(limits=Limits(max_elements=10_000_000))),
        pytest.raises(EngineError) as refusal,
    ):
        make()
    assert refusal.value.reason == "LIMIT_EXCEEDED"
    assert refusal.value.metadata["limit"] == "max_tensor_elements"


@pytest.mark.parametrize("name", ["tril_indices", "triu_indices"])
def test_a_matrix_without_rows_is_not_counted_through(name: str) -> None:
    tracemalloc.start()
    try:
        assert call(name, 0, 10_000_000).shape == (2, 0)
        assert call(name, 10_000_000, 0).shape == (2, 0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


PARTS: dict[str, Callable[[], Any]] = {
    "unbind": lambda: call("unbind", np.ones((SIDE, 0))),
    "split": lambda: call("split", VECTOR, 1),
    "chunk": lambda: call("chunk", VECTOR, HUGE),
    "tensor_split": lambda: call("tensor_split", VECTOR[:1], HUGE),
}


@pytest.mark.parametrize("take_apart", PARTS.values(), ids=PARTS)
def test_so_many_results_are_not_made(take_apart: Callable[[], Any]) -> None:
    with (
        use(Context(limits=Limits(max_results=SIDE - 1))),
        pytest.raises(EngineError) as refusal,
    ):
        take_apart()
    assert refusal.value.reason == "LIMIT_EXCEEDED"
    assert refusal.value.metadata["limit"] == "max_session_tensors"


def test_differences_of_many_orders_are_bounded() -> None:
    with (
        use(Context(limits=Limits(max_elements=10_000_000))),
        pytest.raises(EngineError) as refusal,
    ):
        call("diff", VECTOR, SIDE)
    assert refusal.value.reason == "LIMIT_EXCEEDED"


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("unbind", (np.ones((SIDE, 0)),)),
        ("split", (VECTOR, 1)),
        ("tensor_split", (VECTOR[:1], SIDE)),
        ("hsplit", (VECTOR, SIDE)),
    ],
)
def test_work_counts_results_without_elements(name: str, args: tuple[Any, ...]) -> None:
    op = operators[name]
    assert op.flops([*map(given, args), *op.defaults[len(args) :]]) > 100 * SIDE


def test_work_counts_each_window_of_a_convolution() -> None:
    image, weight = Tensor(np.ones((1, 1, 1, 1))), Tensor(np.ones((1, 1, 100, 100)))
    args = [image, weight, None, (1, 1), (99, 99), (1, 1), False, (0, 0), 1]
    assert operators["convolution"].flops(args) > 100**4
