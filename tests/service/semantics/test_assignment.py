"""Assignment to what an index names: values, gradients, refusals."""

from __future__ import annotations

from typing import Any

import pytest

from tests.service.sdk import session
from tests.service.semantics.table import (
    Table,
    chain,
)

pytestmark = pytest.mark.usefixtures("session")
__all__ = ["session"]

table = Table()
gives, refuses = table.gives, table.refuses


@gives
def assignment_by_basic_index(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = gw.zeros(3, 3) + x.sum() * 0
    names = []
    y[0] = x
    names.append(chain(y.grad_fn))
    y[1, 2] = x[0]
    y[:, 0] = x * 2
    y[1:, 1] = 7
    y[..., 2] = gw.tensor(4.0)
    y[None, 2] = x[None]
    names.append(chain(y.grad_fn))
    (y * gw.arange(9.0).reshape(3, 3)).sum().backward()
    return names, y, x.grad


@gives
def assignment_to_all(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y, z, w, v = x * 1, x * 1, x * 1, x * 1
    y[:] = 3
    z[...] = x * 2
    w[()] = 5.0
    v[:] = x
    names = [chain(each.grad_fn) for each in (y, z, w, v)]
    (y + z + w + v).sum().backward()
    return names, y, z, w, v, x.grad


@gives
def assignment_of_a_number_by_index(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x * 2
    y[0] = 5
    name = chain(y.grad_fn)
    y[-1] = True
    (y * y).sum().backward()
    return name, y, x.grad


@gives
def assignment_by_index_tensor(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x * 2
    y[gw.tensor([0, 2])] = gw.tensor([10.0, 20.0])
    first = chain(y.grad_fn)
    y[[1]] = x[:1]
    (y * y).sum().backward()
    return first, chain(y.grad_fn), y, x.grad


@gives
def assignment_by_mask(gw: Any) -> Any:
    x = gw.tensor([1.0, -2.0, 3.0], requires_grad=True)
    y, z = x * 2, x * 2
    y[x < 0] = 0.0
    z[z > 0] = x[:2]
    names = chain(y.grad_fn), chain(z.grad_fn)
    (y + z).sum().backward()
    return names, y, z, x.grad


@gives
def assignment_by_mixed_index(gw: Any) -> Any:
    x = gw.arange(12.0).reshape(3, 4).requires_grad_()
    y = x * 2
    y[1:, [0, 3]] = 1.0
    first = chain(y.grad_fn)
    y[0, gw.tensor([1, 2])] = gw.tensor([5.0, 6.0])
    y[gw.tensor([True, False, True]), 1] = x[0, :2]
    y[..., gw.tensor([2])] = x[:, :1]
    (y * x).sum().backward()
    return first, chain(y.grad_fn), y, x.grad


@gives
def assignment_of_other_dtypes(gw: Any) -> Any:
    x = gw.zeros(4)
    x[x > 0] = gw.tensor(3)
    x[0] = gw.tensor(3)
    x[1] = gw.tensor(2.5, dtype=gw.float64)
    x[2:] = gw.tensor([1, 2])
    y = gw.zeros(3, dtype=gw.int64)
    y[0] = 2.7
    y[1] = gw.tensor(3.9)
    return x, y


@gives
def assignment_broadcasts_the_value(gw: Any) -> Any:
    x = gw.zeros(2, 3)
    x[:] = gw.tensor([1.0, 2.0, 3.0])
    x[1] = gw.tensor([[9.0]])
    x[:, [0, 1]] = gw.ones(1, 2, 2)
    v = gw.tensor([4.0], requires_grad=True)
    y = gw.zeros(2, 3)
    y[:, 1:] = v
    y[0, :2] = v[None, None]
    y[[1], 0] = v[None]
    y.sum().backward()
    return x, v.grad


@gives
def augmented_assignment_by_index(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x * 1
    y[0] += 5
    y[1:] *= x[:2]
    y[gw.tensor([0, 2])] -= 1
    (y * y).sum().backward()
    return chain(y.grad_fn)[:2], y, x.grad


@gives
def repeated_indices_of_an_assignment_accumulate(gw: Any) -> Any:
    x = gw.tensor([1.0, 2.0, 3.0])
    index = gw.tensor([0, 0, 2])
    x.index_put_((index,), gw.ones(3), accumulate=True)
    return x


@refuses("IN_PLACE_SHAPE", "without underscore")
def an_augmented_assignment_that_would_broadcast(gw: Any) -> Any:
    x = gw.ones(2)
    x *= gw.ones(3, 2)


@refuses("SHAPE_MISMATCH", "(2,)")
def a_value_that_does_not_fit_its_place(gw: Any) -> Any:
    x = gw.zeros(2, 3)
    x[0] = gw.ones(2)


@refuses("SHAPE_MISMATCH", "(2,)")
def values_that_do_not_fit_the_mask(gw: Any) -> Any:
    x = gw.zeros(3)
    x[gw.tensor([True, True, True])] = gw.ones(2)


@refuses("INDEX_OUT_OF_RANGE", "size 3")
def assignment_out_of_range(gw: Any) -> Any:
    x = gw.zeros(3)
    x[3] = 1


@refuses("INDEX_OUT_OF_RANGE", "size 3")
def assignment_by_an_index_tensor_out_of_range(gw: Any) -> Any:
    x = gw.zeros(3)
    x[gw.tensor([0, 5])] = 1.0


@refuses("DTYPE_MISMATCH", "dtype")
def values_of_another_dtype_for_an_index_tensor(gw: Any) -> Any:
    x = gw.zeros(3)
    x[gw.tensor([0, 1])] = gw.ones(2, dtype=gw.float64)


@refuses("BAD_ATTRIBUTE", "integers, slices or tensors")
def an_index_that_is_text(gw: Any) -> None:
    gw.ones(2)["a"]


@refuses("BAD_ATTRIBUTE", "integers, slices or tensors")
def an_assignment_to_an_index_that_is_text(gw: Any) -> None:
    x = gw.ones(2)
    x["a"] = 1


@refuses("BAD_ATTRIBUTE", "a tensor, a number or an array")
def an_assignment_of_text(gw: Any) -> None:
    x = gw.ones(2)
    x[0] = "a"


test_gives_what_torch_gives, test_refuses_as_torch_does = table.tests()
