"""PyTorch programs that run unchanged: each with gradwire and with torch, and both agree.

A case is a function of the library. What it returns is compared; what it raises must be an instance
of the built-in exception that torch raises.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import gradwire as gw
from tests.service.sdk import session

pytestmark = pytest.mark.usefixtures("session")
__all__ = ["session"]

Case = Callable[[Any], Any]


def leaf(lib: Any, *values: float) -> Any:
    return lib.tensor(list(values), requires_grad=True)


def matrix(lib: Any, rows: int = 3, columns: int = 4) -> Any:
    return lib.arange(rows * columns, dtype=lib.float32).reshape(rows, columns)


def tutorial(lib: Any) -> Any:
    x = leaf(lib, 3.0)
    z = x + 2
    y = z**2
    y.backward()
    return x.item(), y.item(), x.grad.item(), y.grad_fn.name(), z.grad_fn.name(), x.grad_fn


def direction(lib: Any) -> Any:
    x = leaf(lib, 1.0, 2.0)
    y = x**2
    y.backward(gradient=lib.tensor([0.3, 0.7]))
    return x.grad


def training_form(lib: Any) -> Any:
    weight = lib.tensor([[0.5, -1.0]], requires_grad=True)
    output = lib.nn.functional.linear(lib.tensor([[1.0, 2.0], [3.0, 4.0]]), weight)
    loss = lib.nn.functional.mse_loss(output, lib.tensor([[1.0], [2.0]]))
    loss.backward()
    return loss, weight.grad


def dynamic(lib: Any) -> Any:
    found = []
    for start in (1.0, -1.0):
        x = leaf(lib, start)
        y = x * 2 if x.sum() > 0 else x**3
        for _ in range(2):
            y = y + x
        y.backward()
        found.append((x.grad.item(), y.grad_fn.name()))
    return found


def nodes(lib: Any) -> Any:
    x = leaf(lib, 1.0, 2.0)
    y = (x * 2).sum()
    node = y.grad_fn
    ((product, nr),) = node.next_functions
    leaf_node = product.next_functions[0][0]
    return (
        node.name(),
        nr,
        product.name(),
        [each and each.name().rpartition(":")[2] for each, _ in product.next_functions],
        leaf_node.variable is x,
        leaf_node.next_functions,
        node.metadata,
        node == y.grad_fn,
    )


def accumulation(lib: Any) -> Any:
    x = leaf(lib, 1.0)
    (x * 2).backward()
    grad = x.grad
    first = grad.item()
    (x * 3).backward()
    return first, x.grad is grad, grad.item()


def grad_is_none_before(lib: Any) -> Any:
    x = leaf(lib, 1.0)
    y = x * 2
    before = x.grad
    y.backward()
    after = x.grad.item()
    x.grad = None
    return before, after, x.grad


def grad_is_set(lib: Any) -> Any:
    x = leaf(lib, 1.0, 1.0)
    mine = lib.tensor([5.0, 6.0])
    x.grad = mine
    (x * 2).sum().backward()
    return x.grad is mine, mine


def unreached_leaf(lib: Any) -> Any:
    x, y = leaf(lib, 1.0), leaf(lib, 2.0)
    (x * 2).backward()
    return x.grad.item(), y.grad


def non_leaf_grad(lib: Any) -> Any:
    x = leaf(lib, 1.0)
    y = x * 2
    (y * 3).backward()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        grad = y.grad
    return grad, [each.category for each in caught]


def retained_grad(lib: Any) -> Any:
    x = leaf(lib, 1.0)
    y = x * 2
    y.retain_grad()
    (y * 3).backward()
    return y.grad.item(), y.retains_grad, x.grad.item()


def create_graph(lib: Any) -> Any:
    x = leaf(lib, 3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of a reference cycle
        (x**3).backward(create_graph=True)
    first = x.grad
    return first.item(), first.requires_grad, lib.autograd.grad(first, x)[0].item()


def second_derivative(lib: Any) -> Any:
    x = leaf(lib, 2.0)
    (first,) = lib.autograd.grad(x**4, x, create_graph=True)
    (second,) = lib.autograd.grad(first, x)
    return first, second


def grad_of_several(lib: Any) -> Any:
    x, y = leaf(lib, 1.0, 2.0), leaf(lib, 3.0, 4.0)
    out = (x * y).sum()
    grads = lib.autograd.grad(out, [x, y])
    return grads[0], grads[1], x.grad


def grad_unused(lib: Any) -> Any:
    x, y = leaf(lib, 1.0), leaf(lib, 2.0)
    return lib.autograd.grad(x * 2, [x, y], allow_unused=True)


def grad_materialized(lib: Any) -> Any:
    x, y = leaf(lib, 1.0), leaf(lib, 2.0)
    return lib.autograd.grad(x * 2, [x, y], materialize_grads=True)


def backward_inputs(lib: Any) -> Any:
    x, y = leaf(lib, 2.0), leaf(lib, 3.0)
    z = x * y
    (z * z).backward(inputs=[y, z])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return x.grad, y.grad.item(), z.grad.item()


def backward_of_several(lib: Any) -> Any:
    x = leaf(lib, 2.0)
    lib.autograd.backward([x * 2, x * 3], [None, lib.tensor([10.0])])
    return x.grad.item()


def linear_twice(lib: Any) -> Any:
    x = leaf(lib, 1.0)
    y = x + x
    y.backward()
    y.backward()
    return x.grad.item()


def modes(lib: Any) -> Any:
    x = leaf(lib, 1.0)
    with lib.no_grad():
        a = x * 2
        with lib.enable_grad():
            b = x * 2
    with lib.set_grad_enabled(False):
        c = x * 2

    @lib.no_grad()
    def decorated() -> Any:
        return lib.is_grad_enabled(), x * 2

    enabled, d = decorated()
    flags = [each.requires_grad for each in (a, b, c, d, x * 2)]
    return flags, enabled, lib.is_grad_enabled(), a.is_leaf, b.is_leaf


def set_grad_enabled_at_once(lib: Any) -> Any:
    lib.set_grad_enabled(False)
    try:
        return lib.is_grad_enabled(), (leaf(lib, 1.0) * 2).requires_grad
    finally:
        lib.set_grad_enabled(True)


def in_place(lib: Any) -> Any:
    x = lib.tensor([1.0, 2.0])
    same = x.add_(1).mul_(2)
    x += 1
    x -= 0.5
    x *= 3
    x /= 2
    return same is x, x, x._version


def in_place_in_graph(lib: Any) -> Any:
    x = leaf(lib, 1.0, 2.0)
    y = x * 2
    y.add_(1)
    y.sum().backward()
    return y, y.grad_fn.name(), x.grad


def in_place_is_seen_after_reading(lib: Any) -> Any:
    x = lib.tensor([1.0])
    before = x.item()
    x.add_(1)
    return before, x.item()


def write_through_a_view(lib: Any) -> Any:
    x = lib.zeros(2, 3)
    row = x[1]
    x.tolist()
    row.fill_(7)
    return x


def assign_by_index(lib: Any) -> Any:
    x = lib.zeros(3, 4)
    x[0] = 1
    x[1, 2] = lib.tensor(5.0)
    x[:, 3] = lib.tensor([7.0, 8.0, 9.0])
    x[[0, 2], [0, 1]] = lib.tensor([-1.0, -2.0])
    x[x > 8] = 0
    return x


def leaf_update(lib: Any) -> Any:
    x = leaf(lib, 1.0)
    (x * 4).backward()
    with lib.no_grad():
        x -= 0.1 * x.grad
    return x, x.requires_grad, x.is_leaf


def flags(lib: Any) -> Any:
    x = lib.tensor([1.0])
    x.requires_grad = True
    y = x * 2
    z = y.detach()
    return x.requires_grad, x.is_leaf, y.requires_grad, y.is_leaf, z.requires_grad, z.is_leaf


def requires_grad_later(lib: Any) -> Any:
    x = lib.ones(2).requires_grad_()
    (x * 3).sum().backward()
    return x.grad


def metadata(lib: Any) -> Any:
    x = lib.zeros(2, 3)
    return (
        tuple(x.shape), x.size(1), x.size(-2), tuple(x.size()), x.ndim, x.dim(), x.numel(),
        len(x), x.stride(), x.t().stride(), x.element_size(), x.shape.numel(),
        x.is_floating_point(), x.is_complex(), str(x.dtype).partition(".")[2],
    )  # fmt: skip


def creation(lib: Any) -> Any:
    return (
        lib.zeros(2, 2), lib.ones((2,)), lib.full((2,), 7), lib.full((2,), 7.0), lib.arange(4),
        lib.arange(1, 4), lib.arange(0.0, 1.0, 0.25), lib.linspace(0, 1, 5), lib.eye(2),
        lib.eye(2, 3), lib.zeros_like(lib.ones(3)), lib.ones_like(lib.arange(3)),
        lib.full_like(lib.ones(2), 3), lib.zeros(2, dtype=lib.int32), lib.tensor(5).shape,
    )  # fmt: skip


def inference(lib: Any) -> Any:
    data: list[Any] = [
        1, 1.5, True, 1j, [1, 2], [1, 2.5], [True, 2], [[1.0], [2.0]], [], [1, 2**40],
        np.float32(3), [np.float64(3)], [np.float32(3)], np.arange(3), np.arange(3.0),
        np.zeros((2, 0)), [np.array([1, 2]), np.array([3, 4])], range(3), (1, 2),
        [lib.tensor(1.0), 2.0],
    ]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [lib.tensor(each) for each in data]


def mixed_operands(lib: Any) -> Any:
    x = lib.tensor([1.0, 2.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns of how torch takes arrays
        with_array = x + np.array([1.0, 2.0])
    return (
        x + 1, 1 + x, x - 1, 1 - x, x * 2, 2 * x, x / 2, 2 / x, x**2, 2**x, x // 2, -x, +x, abs(-x),
        x == 1, x != 1, x < 2, x <= 1, x > 1, x >= 2, x + True, x * np.float32(2),
        with_array, x @ lib.tensor([3.0, 4.0]),
    )  # fmt: skip


def operator_nodes(lib: Any) -> Any:
    x = leaf(lib, 1.0, 2.0)
    results = [
        x + 1, 1 + x, x - 1, 1 - x, 2 * x, x / 2, 2 / x, x**2, x**x, 2**x, -x, abs(x), x @ x,
        x[0], x[:1], x[None], x[:], x[[0]], x[..., 0], x.sum(), x.max(), x.float(), x.double(),
        x.reshape(2, 1), x.view(1, 2), x[None].T,
    ]  # fmt: skip
    return [each.grad_fn and each.grad_fn.name() for each in results]


def booleans(lib: Any) -> Any:
    x = lib.tensor([True, False])
    y = lib.tensor([True, True])
    return ~x, x & y, x | y, x ^ y, bool(x[0]), bool(lib.tensor(0.0))


def conversions(lib: Any) -> Any:
    x = lib.tensor([1.5])
    return float(x), int(x), x.item(), x.tolist(), f"{lib.tensor(1.5):.3f}", [0, 1][lib.tensor(1)]


def dtype_conversions(lib: Any) -> Any:
    x = lib.tensor([1.5, 0.0])
    return (
        x.to(lib.float64), x.double(), x.half(), x.int(), x.long(), x.bool(), x.short(),
        x.type_as(lib.tensor(1)), x.to(lib.float32) is x, x.float() is x,
    )  # fmt: skip


def indexing(lib: Any) -> Any:
    x = matrix(lib)
    mask = x[:, 0] > 1
    return (
        x[0], x[-1, 2], x[1:], x[:, 1], x[::2, 1:3], x[..., 0], x[0, ..., 1], x[None, 0],
        x[:, None], x[..., None], x[[0, 2]], x[lib.tensor([2, 0])], x[mask], x[x > 5],
        x[[0, 1], [1, 2]],
        x[:, [0, 3]], x[mask, 1], x[True], x[np.array([1])], x[..., [0, 1]], x[1:, [0]], x[-2:],
        x[lib.tensor(1)], x[:, :, None], x[0, :], x[()], x[...],
    )  # fmt: skip


def unpacking(lib: Any) -> Any:
    x = matrix(lib, 2, 3)
    first, second = x
    return first, second, [row.sum().item() for row in x], 5.0 in x, 9.0 in x


def parts(lib: Any) -> Any:
    x = matrix(lib, 5, 2)
    found = [x.split(2), x.split([1, 4]), x.chunk(3), x.unbind(1), lib.split(x, 1, dim=1)]
    return [list(each) for each in found]


def extremes(lib: Any) -> Any:
    x = lib.tensor([[1.0, 5.0], [7.0, 2.0]])
    values, indices = x.max(1)
    return (
        values, indices, x.max(), x.min(), x.min(0).values, x.max(0, keepdim=True).indices,
        lib.max(x, lib.tensor(3.0)), lib.min(x, 0)[1], lib.max(x),
    )  # fmt: skip


def spreads(lib: Any) -> Any:
    x = matrix(lib)
    return (
        x.var(), x.var(0), x.var(1, unbiased=False), x.std(0, keepdim=True), x.var(correction=2),
        lib.var(x, False), lib.std(x, dim=1),
    )  # fmt: skip


def shapes(lib: Any) -> Any:
    x = matrix(lib, 2, 6)
    return (
        x.view(3, 4), x.view((4, 3)), x.view(-1), x.reshape(3, -1), x.permute(1, 0), x.T, x.mT,
        x.transpose(0, 1), x.t(), x.unsqueeze(0).squeeze(), x.flatten(), x[:, :1].expand(-1, 3),
        lib.cat([x, x], 1), lib.stack([x, x]), lib.permute(x, (1, 0)),
    )  # fmt: skip


def default_dtype(lib: Any) -> Any:
    lib.set_default_dtype(lib.float64)
    try:
        return (
            lib.tensor(1.5),
            lib.zeros(1),
            lib.arange(2.0),
            lib.tensor(1),
            lib.get_default_dtype(),
        )
    finally:
        lib.set_default_dtype(lib.float32)


def arrays(lib: Any) -> Any:
    x = lib.tensor([[1.0, 2.0]])
    return (
        np.asarray(x).tolist(), x.numpy().dtype, np.asarray(x, dtype=np.float64).dtype,
        np.from_dlpack(x).tolist(), lib.from_numpy(np.array([1, 2])), x.detach().numpy().shape,
        lib.as_tensor(x) is x,
    )  # fmt: skip


def comparisons_of_objects(lib: Any) -> Any:
    x = lib.tensor([1.0])
    return x == None, x != "a", hash(x) == hash(x), x in [x]  # noqa: E711


def whole_comparisons(lib: Any) -> Any:
    x, y = lib.tensor([1.0, 2.0]), lib.tensor([1.0, 2.0 + 1e-7])
    return lib.equal(x, x), lib.allclose(x, y), lib.equal(x, lib.tensor([1.0])), lib.is_tensor(x)


def embedding(lib: Any) -> Any:
    weight = lib.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], requires_grad=True)
    rows = lib.nn.functional.embedding(lib.tensor([[0, 2], [2, 1]]), weight)
    rows.sum().backward()
    return rows, weight.grad, lib.nn.functional.one_hot(lib.tensor([0, 2]), 4)


def attention(lib: Any) -> Any:
    x = lib.linspace(-1, 1, 24, dtype=lib.float64).reshape(2, 3, 4).requires_grad_()
    w = lib.linspace(-0.5, 0.5, 16, dtype=lib.float64).reshape(4, 4).requires_grad_()
    query = lib.nn.functional.linear(x, w)
    weights = lib.softmax(query @ x.transpose(-2, -1) / math.sqrt(4), dim=-1)
    out = lib.nn.functional.layer_norm(weights @ x + x, (4,))
    (out * lib.arange(24.0).reshape(2, 3, 4)).sum().backward()
    return out, x.grad, w.grad


CASES: list[Case] = [
    tutorial, direction, training_form, dynamic, nodes, accumulation, grad_is_none_before,
    grad_is_set, unreached_leaf, non_leaf_grad, retained_grad, create_graph, second_derivative,
    grad_of_several, grad_unused, grad_materialized, backward_inputs, backward_of_several,
    linear_twice, modes, set_grad_enabled_at_once, in_place, in_place_in_graph,
    in_place_is_seen_after_reading, write_through_a_view, assign_by_index, leaf_update, flags,
    requires_grad_later, metadata, creation, inference, mixed_operands, operator_nodes, booleans,
    conversions, dtype_conversions, indexing, unpacking, parts, extremes, spreads, shapes,
    default_dtype, arrays, comparisons_of_objects, whole_comparisons, embedding, attention,
]  # fmt: skip


def plain(value: Any) -> Any:
    """A result as Python and NumPy values, tensors with their dtype and flag."""
    if isinstance(value, (gw.Tensor, torch.Tensor)):
        name = str(value.dtype).partition(".")[2]
        return [name, value.requires_grad, value.detach().numpy()]
    if isinstance(value, (gw.dtype, torch.dtype)):
        return str(value).partition(".")[2]
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value


def assert_same(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, np.ndarray):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-5)
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, rel=1e-5)
    else:
        assert ours == theirs


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_gives_what_torch_gives(case: Case) -> None:
    assert_same(plain(case(gw)), plain(case(torch)))


def force(lib: Any, *tensors: Any) -> None:
    """Read, which is where a recorded failure is reported."""
    for each in tensors:
        if each is not None:
            each.tolist()


def twice(lib: Any) -> None:
    x = leaf(lib, 1.0)
    y = x**2
    y.backward()
    y.backward()
    force(lib, x)


def saved_modified(lib: Any) -> None:
    x = leaf(lib, 1.0)
    y = x * 2
    z = y**2
    y.add_(1)
    z.backward()
    force(lib, x)


REFUSALS: dict[str, Case] = {
    "vector root": lambda lib: ((leaf(lib, 1.0, 2.0) * 2).backward(), force(lib, lib.ones(1))),
    "vector leaf root": lambda lib: leaf(lib, 1.0, 2.0).backward(),
    "gradient of another shape": lambda lib: (
        (leaf(lib, 1.0, 2.0) * 2).backward(lib.ones(3)), force(lib, lib.ones(1))),
    "root without graph": lambda lib: (lib.ones(1).backward(), force(lib, lib.ones(1))),
    "freed graph": twice,
    "saved value modified": saved_modified,
    "unused input": lambda lib: force(
        lib, *lib.autograd.grad(leaf(lib, 1.0) * 2, leaf(lib, 2.0))),
    "input without grad": lambda lib: force(
        lib, *lib.autograd.grad(leaf(lib, 1.0) * 2, lib.ones(1))),
    "materialize without allowing": lambda lib: lib.autograd.grad(
        leaf(lib, 1.0), leaf(lib, 1.0), allow_unused=False, materialize_grads=True),
    "no inputs": lambda lib: (leaf(lib, 1.0) * 2).backward(inputs=[]),
    "in-place on a leaf": lambda lib: force(lib, leaf(lib, 1.0).add_(1)),
    "flag of a non-leaf": lambda lib: force(lib, (leaf(lib, 1.0) * 2).requires_grad_(False)),
    "ints that require grad": lambda lib: lib.tensor([1], requires_grad=True),
    "ints made to require grad": lambda lib: force(lib, lib.arange(3).requires_grad_()),
    "retain_grad without grad": lambda lib: (lib.ones(1).retain_grad(), force(lib, lib.ones(1))),
    "own grad": lambda lib: setattr(x := leaf(lib, 1.0), "grad", x),
    "grad of another type": lambda lib: setattr(leaf(lib, 1.0), "grad", 5),
    "grad of another shape": lambda lib: (
        setattr(leaf(lib, 1.0), "grad", lib.ones(2)), force(lib, lib.ones(1))),
    "in-place that would broadcast": lambda lib: force(lib, lib.ones(1).add_(lib.ones(3))),
    "in-place that cannot be cast": lambda lib: force(lib, lib.arange(3).add_(1.5)),
    "shapes that do not broadcast": lambda lib: force(lib, lib.ones(2) + lib.ones(3)),
    "matrices that do not fit": lambda lib: force(lib, lib.ones(2, 3) @ lib.ones(2, 3)),
    "matmul by a number": lambda lib: lib.ones(2) @ 2,
    "dimension out of range": lambda lib: force(lib, lib.ones(2).sum(3)),
    "size of no dimension": lambda lib: lib.ones(2).size(1),
    "index out of range": lambda lib: force(lib, lib.ones(2)[5]),
    "too many indices": lambda lib: force(lib, lib.ones(2)[0, 0]),
    "index that is none": lambda lib: force(lib, lib.ones(2)[{}]),
    "float index": lambda lib: force(lib, lib.ones(2)[1.5]),
    "backward step": lambda lib: force(lib, lib.ones(2)[::-1]),
    "view of another size": lambda lib: force(lib, lib.ones(6).view(4)),
    "list operand": lambda lib: lib.ones(2) + [1, 2],  # noqa: RUF005
    "list argument": lambda lib: lib.add(lib.ones(2), [1, 2]),
    "string for an int": lambda lib: lib.ones(2).sum("a"),
    "missing argument": lambda lib: lib.mul(lib.ones(2)),
    "unknown argument": lambda lib: lib.ones(2).sum(axle=0),
    "unknown function": lambda lib: lib.frobnicate(lib.ones(2)),
    "unknown method": lambda lib: lib.ones(2).frobnicate(),
    "mean of ints": lambda lib: force(lib, lib.arange(3).mean()),
    "item of several": lambda lib: lib.ones(2).item(),
    "float of several": lambda lib: float(lib.ones(2)),
    "truth of several": lambda lib: bool(lib.ones(2)),
    "length of a scalar": lambda lib: len(lib.tensor(1.0)),
    "iteration over a scalar": lambda lib: iter(lib.tensor(1.0)),
    "float as an index": lambda lib: [1, 2][lib.tensor(1.0)],
    "numpy() that requires grad": lambda lib: leaf(lib, 1.0).numpy(),
    "ragged data": lambda lib: lib.tensor([[1], [2, 3]]),
    "text as data": lambda lib: lib.tensor("a"),
    "None as data": lambda lib: lib.tensor([1, None]),
    "int beyond 64 bits": lambda lib: lib.tensor(2**63),
    "default dtype of ints": lambda lib: lib.set_default_dtype(lib.int64),
    "cat of nothing": lambda lib: force(lib, lib.cat([])),
    "chunk into none": lambda lib: lib.ones(2).chunk(0),
    "embedding beyond": lambda lib: force(
        lib, lib.nn.functional.embedding(lib.tensor([5]), lib.ones(2, 2))),
    "deep copy of a non-leaf": lambda lib: __import__("copy").deepcopy(leaf(lib, 1.0) * 2),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_refuses_what_torch_refuses(name: str, session: gw.Session) -> None:
    refused = REFUSALS[name]
    with pytest.raises(Exception) as theirs:  # noqa: PT011 (which one, torch says)
        refused(torch)
    expected = next(each for each in type(theirs.value).__mro__ if each.__module__ == "builtins")
    with pytest.raises(expected):
        refused(gw)
    # The session lives on.
    assert gw.tensor([1.0]).add(1).item() == 2.0
