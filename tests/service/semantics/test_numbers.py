"""Dtypes of gradients, ties, promotion, and the edges where gradients go wrong."""

from __future__ import annotations

from typing import Any

import pytest

from tests.service.sdk import session
from tests.service.semantics.table import Table

pytestmark = pytest.mark.usefixtures("session")
__all__ = ["session"]

table = Table()
gives, refuses = table.gives, table.refuses


def gradient(gw: Any, function: Any, *values: float, **options: Any) -> Any:
    x = gw.tensor(list(values), requires_grad=True, **options)
    y = function(x)
    (y.sum() if y.ndim else y).backward()
    return y, x.grad


@gives
def gradients_take_the_dtype_of_their_input(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y = gw.tensor([1.0, 2.0], dtype=gw.float64, requires_grad=True)
    z = gw.tensor([1.0, 2.0], dtype=gw.float16, requires_grad=True)
    (x * y * z).sum().backward()
    return x.grad, y.grad, z.grad


@gives
def a_real_input_takes_the_real_part(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    z = gw.tensor([1 + 2j, 3 - 1j], requires_grad=True)
    w = (x * z).sum()
    (w * w.conj()).real.backward()
    return x.grad, z.grad


@gives
def the_complex_gradient_points_uphill(gw: Any) -> Any:
    z = gw.tensor([3 + 4j, 1 - 1j], requires_grad=True)
    functions = (
        lambda z: z.abs().sum(), lambda z: z.real.sum(), lambda z: z.imag.sum(),
        lambda z: (z * z).real.sum(), lambda z: (z * z.conj()).real.sum(),
        lambda z: z.exp().imag.sum(), lambda z: (1 / z).real.sum(),
    )  # fmt: skip
    return [gw.autograd.grad(function(z), z) for function in functions]


@gives
def ties_share_or_take_one(gw: Any) -> Any:
    return [
        gradient(gw, function, 3.0, 1.0, 3.0, 1.0)
        for function in (
            lambda x: x.max(),
            lambda x: x.min(),
            lambda x: x.amax(),
            lambda x: x.amin(0),
            lambda x: x.max(0).values,
            lambda x: x.min(0).values,
            lambda x: gw.maximum(x, x * 1),
            lambda x: gw.minimum(x, gw.full((4,), 3.0)),
            lambda x: gw.max(x, gw.full((4,), 1.0)),
        )
    ]


@gives
def kinks(gw: Any) -> Any:
    return [
        gradient(gw, function, -1.0, 0.0, 1.0)
        for function in (
            lambda x: x.relu(), lambda x: x.abs(), lambda x: x.clamp(0.0, 1.0),
            lambda x: x.clamp(min=0.0), lambda x: x.clamp(max=0.0), lambda x: x.sign(),
            lambda x: gw.nn.functional.leaky_relu(x), lambda x: x.norm(), lambda x: x**0,
            lambda x: x**1, lambda x: x.clamp(gw.zeros(3), gw.ones(3)),
        )
    ]  # fmt: skip


@gives
def the_norm_at_zero(gw: Any) -> Any:
    return [
        gradient(gw, function, 0.0, 0.0)
        for function in (lambda x: x.norm(), lambda x: x.norm(1), lambda x: x.norm(dim=0))
    ]


@gives
def products_with_zeros(gw: Any) -> Any:
    return [
        gradient(gw, lambda x: x.prod(), *values)
        for values in ((2.0, 3.0), (0.0, 3.0, 4.0), (0.0, 0.0, 4.0))
    ] + [gradient(gw, lambda x: x.prod(0), 0.0, 3.0, 4.0)]


@gives
def running_products_with_zeros(gw: Any) -> Any:
    return [
        gradient(gw, lambda x: x.cumprod(0), *values, dtype=gw.float64)
        for values in ((1.0, 0.0, 3.0), (0.0, 2.0, 0.0, 5.0), (0.0, 0.0), (2.0, 3.0))
    ]


@gives
def sorting_along_any_dimension(gw: Any) -> Any:
    found = []
    for dim in (0, 1, -1):
        for descending in (False, True):
            x = gw.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]], requires_grad=True)
            values, indices = x.sort(dim=dim, descending=descending)
            (values * gw.arange(6.0).reshape(2, 3)).sum().backward()
            found.append((values, indices, x.grad))
    return found


@gives
def padding_in_all_modes(gw: Any) -> Any:
    found = []
    for mode in ("constant", "reflect", "replicate", "circular"):
        x = gw.arange(8.0).reshape(1, 2, 4).requires_grad_()
        y = gw.nn.functional.pad(x, (2, 1), mode=mode)
        (y * y).sum().backward()
        found.append((y.tolist(), x.grad))
    return found


@gives
def a_nan_comes_through_where(gw: Any) -> Any:
    return [
        gradient(gw, lambda x: gw.where(x > 0, x.log(), x * 0), 1.0, 0.0),
        gradient(gw, lambda x: gw.where(x > 0, x.sqrt(), 0.0), 4.0, 0.0),
        gradient(gw, lambda x: x.sqrt() * 0, 0.0),
        gradient(gw, lambda x: x.masked_fill(x > 1, 0.0).log(), 1.0, 2.0),
    ]


@gives
def infinities_and_nans(gw: Any) -> Any:
    inf, nan = float("inf"), float("nan")
    return [
        gradient(gw, function, 1.0, inf, nan, -inf, 0.0)
        for function in (
            lambda x: x.exp(), lambda x: 1 / x, lambda x: x.tanh(), lambda x: x.sigmoid(),
            lambda x: x.relu(), lambda x: x.abs(), lambda x: x.log(), lambda x: x.max(),
            lambda x: x.softmax(0), lambda x: x.logsumexp(0), lambda x: x.clamp(0.0, 1.0),
        )
    ]  # fmt: skip


@gives
def promotion_is_pytorchs(gw: Any) -> Any:
    names = "bool uint8 int8 int16 int32 int64 float16 float32 float64 complex64 complex128"
    kinds = [getattr(gw, name) for name in names.split()]
    found = []
    for one in kinds:
        x = gw.ones(1, dtype=one)
        row = [(x + gw.ones(1, dtype=other)) for other in kinds]
        row += [x * 2, x + 2.5, x + True]
        # Half-precision complex numbers are not among the dtypes of the service.
        scalars = kinds[:-2] if one is gw.float16 else kinds
        row += [x + gw.ones((), dtype=other) for other in scalars]
        row += [] if one is gw.float16 else [x + 1j]
        found.append([each.dtype for each in row])
    return found


@gives
def division_and_roots_of_integers(gw: Any) -> Any:
    x = gw.tensor([1, 4])
    return x / 2, x / x, x // 3, x.sqrt(), x.exp(), x.sum(), x.prod(), x**2, x.sigmoid(), 2 / x


@gives
def sums_of_bools_and_small_integers(gw: Any) -> Any:
    b = gw.tensor([True, True, False])
    s = gw.tensor([100, 100], dtype=gw.int8)
    return b.sum(), s.sum(), s + s, b * 2.5, b.sum(dtype=gw.float32)


@gives
def float32_stays_float32(gw: Any) -> Any:
    x = gw.ones(3, requires_grad=True)
    f = gw.nn.functional
    results = (
        x * 2.0, x.mean(), x.var(), x.norm(), x.softmax(0), x.exp() + 1, x @ x, f.gelu(x),
        x.logsumexp(0), f.layer_norm(x, (3,)), x.std(), x.prod(), x**0.5, 2.0**x, x / 3,
    )  # fmt: skip
    return [(each.dtype, gw.autograd.grad(each.sum(), x)[0].dtype) for each in results]


@gives
def default_dtypes(gw: Any) -> Any:
    return gw.tensor(1.0), gw.tensor(1), gw.tensor([True]), gw.arange(3), gw.ones(1), gw.tensor(1j)


@gives
def powers_at_the_edges(gw: Any) -> Any:
    return [
        gradient(gw, function, 0.0, 1.0, 2.0)
        for function in (
            lambda x: x**2, lambda x: x**0.5, lambda x: x**-1, lambda x: x**x, lambda x: 0.0**x,
            lambda x: 2**x, lambda x: x**3, lambda x: x.square(), lambda x: x**1.5,
        )
    ]  # fmt: skip


@gives
def variances_of_few(gw: Any) -> Any:
    return [
        gradient(gw, lambda x: x.var(), 1.0),
        gradient(gw, lambda x: x.var(correction=0), 1.0),
        gradient(gw, lambda x: x.std(), 2.0, 2.0),
        gradient(gw, lambda x: x.var(0), 1.0, 2.0, 4.0),
    ]


@gives
def sums_over_nothing(gw: Any) -> Any:
    x = gw.zeros(0, 3, requires_grad=True)
    (x.sum() + x.prod() + x.sum(0).sum()).backward()
    return x.sum(), x.prod(), x.sum(1), x.mean(), x.grad


@gives
def logsoftmax_of_large_numbers(gw: Any) -> Any:
    return [
        gradient(gw, function, 1000.0, 0.0, -1000.0)
        for function in (
            lambda x: x.softmax(0)[0],
            lambda x: x.log_softmax(0)[0],
            lambda x: x.logsumexp(0),
            lambda x: gw.nn.functional.cross_entropy(x[None], gw.tensor([1])),
        )
    ]


@gives
def broadcast_gradients_are_summed(gw: Any) -> Any:
    x = gw.ones(2, 1, requires_grad=True)
    y = gw.ones(3, requires_grad=True)
    z = gw.tensor(2.0, requires_grad=True)
    (x * y * z).sum().backward()
    return x.grad, y.grad, z.grad


@refuses("DTYPE_MISMATCH", "float")
def the_mean_of_integers(gw: Any) -> Any:
    x = gw.arange(3)
    x.mean()


@refuses("DTYPE_MISMATCH", "dtype")
def a_product_of_matrices_of_two_dtypes(gw: Any) -> Any:
    a, b = gw.ones(2, 2), gw.ones(2, 2, dtype=gw.float64)
    a @ b


@refuses("SHAPE_MISMATCH", "(2, 3)")
def matrices_that_do_not_fit(gw: Any) -> Any:
    a, b = gw.ones(2, 3), gw.ones(2, 3)
    a @ b


@refuses("DIM_OUT_OF_RANGE", "5")
def a_dimension_out_of_range(gw: Any) -> Any:
    x = gw.ones(2, 3)
    x.sum(5)


@refuses("INDEX_OUT_OF_RANGE", "size 2")
def an_index_out_of_range(gw: Any) -> Any:
    x = gw.ones(2, 3)
    x[2]


test_gives_what_torch_gives, test_refuses_as_torch_does = table.tests()
