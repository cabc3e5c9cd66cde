"""Who owns memory: gradients share none, a caller's arrays stay the caller's, saved values go."""

import gc
import weakref
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from gradwire_engine import Context, EngineError, Tensor, backward, grad, operators, use
from gradwire_engine.hooks import register_hook
from gradwire_engine.profile import Profile


def leaf(values: Any, dtype: str = "float64") -> Tensor:
    return Tensor.from_array(np.array(values, dtype), requires_grad=True)


def op(name: str, *args: Any, **kwargs: Any) -> Any:
    return operators[name](*args, **kwargs)


SHARERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda x, y: x + y,
    "add of a view": lambda x, y: op("reshape", x, (3, 2)) + op("reshape", y, (3, 2)),
    "add of a transpose": lambda x, y: op("t", x) + op("t", y),
    "add, broadcast": lambda x, y: op("sum", x, (0,)) + op("sum", y, (0,)),
    "cat": lambda x, y: op("cat", [x, y]),
    "stack": lambda x, y: op("stack", [x, y]),
    "sub": lambda x, y: x - y,
    "sum of the sum": lambda x, y: op("sum", x + y),
    "mean of the sum": lambda x, y: op("mean", x + y),
    "where": lambda x, y: op("where", x > 0, x, y),
    "clone": lambda x, y: op("clone", x) + op("clone", y),
    "reshape of the sum": lambda x, y: op(
        "reshape", op("reshape", x, (-1,)) + op("reshape", y, (-1,)), (2, 3)
    ),
}

per_sharer = pytest.mark.parametrize("function", SHARERS.values(), ids=SHARERS)


def sample(function: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, y = leaf([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]]), leaf(np.ones((2, 3)))
    z = function(x, y)
    direction = np.empty(z.shape)
    direction.flat = np.arange(1.0, 1.0 + z.data.size)
    return x, y, z, Tensor(direction)


@per_sharer
def test_gradients_of_leaves_do_not_share_memory(
    function: Callable[[Tensor, Tensor], Tensor],
) -> None:
    x, y, z, direction = sample(function)
    given = direction.data.copy()
    backward([z], [direction], retain_graph=True)
    assert x.grad is not None and y.grad is not None
    separate(x.grad, y.grad, direction)
    backward([z], [direction])
    np.testing.assert_array_equal(direction.data, given)


@per_sharer
def test_gradients_that_grad_returns_do_not_share_memory(
    function: Callable[[Tensor, Tensor], Tensor],
) -> None:
    x, y, z, direction = sample(function)
    found = grad([z], [x, y, z], [direction], retain_graph=True)
    again = grad([z], [x, y, z], [direction])
    separate(*(each for each in (*found, *again) if each is not None), direction)


@per_sharer
def test_gradients_of_inputs_do_not_share_memory(
    function: Callable[[Tensor, Tensor], Tensor],
) -> None:
    x, y, z, direction = sample(function)
    backward([z], [direction], inputs=[x, y, z])
    held = [each.grad for each in (x, y, z)]
    separate(*(each for each in held if each is not None), direction)


@per_sharer
def test_gradients_do_not_share_memory_under_create_graph(
    function: Callable[[Tensor, Tensor], Tensor],
) -> None:
    x, y, z, direction = sample(function)
    z.retain_grad()
    backward([z], [direction], create_graph=True)
    held = [each.grad for each in (x, y)]
    separate(*(each for each in held if each is not None), direction)


def separate(*tensors: Tensor) -> None:
    for a, b in combinations(tensors, 2):
        assert not np.shares_memory(a.data, b.data)


def test_the_caller_may_change_a_direction_afterwards() -> None:
    x = leaf([1.0, 2.0])
    direction = Tensor(np.ones(2))
    backward([x + 0.0], [direction])
    direction.data[:] = 7
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.data, [1.0, 1.0])


def test_a_retained_gradient_is_its_own() -> None:
    x = leaf([1.0, 2.0])
    y = x + 1.0
    y.retain_grad()
    backward([y + 0.0], [Tensor(np.ones(2))])
    assert x.grad is not None and y.grad is not None
    separate(x.grad, y.grad)


def test_the_gradient_of_a_layers_weight_is_what_the_product_gave() -> None:
    x, weight, bias = leaf(np.ones((4, 3))), leaf(np.ones((2, 3))), leaf(np.ones(2))
    backward([op("sum", op("linear", x, weight, bias))])
    assert weight.grad is not None
    found = weight.grad.data
    # A copy would own its memory; this is the product, transposed twice.
    assert found.flags.c_contiguous and not found.flags.owndata
    found += 1.0
    np.testing.assert_array_equal(found, np.full((2, 3), 5.0))


def test_a_gradient_whose_memory_somebody_else_sees_is_copied() -> None:
    x, weight = leaf(np.ones((4, 3))), leaf(np.ones((2, 3)))
    turned = op("t", weight)
    seen: list[Tensor] = []
    register_hook(turned, seen.append)
    backward([op("sum", op("_addmm_turned", leaf(np.zeros(2)), x, turned))])
    assert weight.grad is not None
    separate(weight.grad, seen[0])


def test_many_arrivals_do_not_change_what_was_borrowed() -> None:
    x, y = leaf([1.0]), leaf([1.0])
    z = x + y
    total = z + x + x + x
    first, second = grad([total], [x, y], [Tensor(np.ones(1))])
    assert first is not None and second is not None
    assert (first.data.item(), second.data.item()) == (4.0, 1.0)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_gradients_of_no_dimensions_are_arrays(dtype: str) -> None:
    x = leaf(2.0, dtype)
    for _ in range(3):
        backward([x * 5.0], [Tensor(np.ones((), dtype))])
    assert x.grad is not None
    assert isinstance(x.grad.data, np.ndarray)
    assert x.grad.data == 15
    (found,) = grad([x * 5.0], [x], [Tensor(np.ones((), dtype))])
    assert found is not None and isinstance(found.data, np.ndarray)


def frozen(values: Any) -> np.ndarray:
    array = np.array(values, np.float64)
    array.flags.writeable = False
    return array


def test_data_of_a_request_is_copied_before_it_is_changed() -> None:
    array = frozen([1.0, 2.0])
    x = Tensor(array)
    op("add_", x, 1.0)
    np.testing.assert_array_equal(x.data, [2.0, 3.0])
    np.testing.assert_array_equal(array, [1.0, 2.0])
    assert x.data.flags.writeable


def test_data_of_a_request_is_copied_before_it_is_viewed() -> None:
    array = frozen([[1.0, 2.0], [3.0, 4.0]])
    x = Tensor(array)
    view = op("select", x, 0, 1)
    op("mul_", view, 10.0)
    np.testing.assert_array_equal(x.data, [[1.0, 2.0], [30.0, 40.0]])
    assert np.shares_memory(x.data, view.data)
    np.testing.assert_array_equal(array, [[1.0, 2.0], [3.0, 4.0]])


def test_a_read_only_gradient_can_be_added_to() -> None:
    x = leaf([1.0, 2.0])
    x.set_grad(Tensor(frozen([1.0, 1.0])))
    backward([op("sum", x)])
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.data, [2.0, 2.0])


def test_an_expanded_tensor_cannot_be_written_to() -> None:
    x = Tensor(np.ones((2, 1)))
    wide = op("expand", x, (2, 3))
    with pytest.raises(EngineError):
        op("add_", wide, 1.0)
    np.testing.assert_array_equal(x.data, np.ones((2, 1)))


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Reference counts alone must do: a collector's run would hide a cycle."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_a_graph_goes_with_its_last_result() -> None:
    x = leaf([1.0, 2.0])
    y = op("tanh", op("exp", x) * x)
    node = weakref.ref(y.grad_fn)
    data = weakref.ref(y.data)
    del y
    assert node() is None
    assert data() is None


@pytest.mark.usefixtures("no_collector")
def test_a_leaf_goes_with_its_last_graph() -> None:
    x = leaf([1.0, 2.0])
    gone = weakref.ref(x)
    y = op("exp", x)
    del x
    assert gone() is not None
    del y
    assert gone() is None


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_backward_leaves_no_cycle(create_graph: bool) -> None:
    x = leaf([1.0, 2.0])
    y = op("sum", op("tanh", x))
    node = weakref.ref(y.grad_fn)
    backward([y], create_graph=create_graph)
    x.set_grad(None)
    del y
    assert node() is None


@pytest.mark.usefixtures("no_collector")
def test_in_place_chains_and_views_leave_no_cycle() -> None:
    x = leaf([1.0, 2.0])
    y = op("clone", x)
    view = op("select", y, 0, 0)
    op("mul_", view, 2.0)
    nodes = [weakref.ref(each.grad_fn) for each in (y, view)]
    backward([op("sum", y)])
    del y, view
    assert [node() for node in nodes] == [None, None]


@pytest.mark.usefixtures("no_collector")
def test_saved_values_go_right_after_their_node_ran() -> None:
    x = leaf([1.0, 2.0])
    y = op("exp", x)
    saved = weakref.ref(y.data)
    z = op("sum", y)
    del y
    assert saved() is not None
    backward([z])
    assert saved() is None
    assert z.grad_fn is not None


@pytest.mark.usefixtures("no_collector")
def test_retained_values_stay() -> None:
    x = leaf([1.0, 2.0])
    y = op("exp", x)
    saved = weakref.ref(y.data)
    z = op("sum", y)
    del y
    backward([z], retain_graph=True)
    assert saved() is not None


@pytest.mark.usefixtures("no_collector")
def test_what_no_gradient_needs_is_not_kept() -> None:
    x, constant = leaf([1.0, 2.0]), Tensor(np.ones(2))
    y = x * constant
    middle = y + 1.0
    gone = weakref.ref(middle.data)
    z = middle * constant
    del middle
    assert gone() is None
    assert z.requires_grad


class Watching(Profile):
    """A profile that remembers the pass which it watched last."""

    def watch_pass(self, passing: Any) -> None:
        self.watched = weakref.ref(passing)
        super().watch_pass(passing)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_profiled_pass_goes_when_it_has_ended(create_graph: bool) -> None:
    x = leaf([1.0, 2.0])
    profile = Watching(weakref.WeakKeyDictionary())
    context = Context()
    context.profile = profile
    with use(context):
        grad([op("sum", op("exp", x) * x)], [x], create_graph=create_graph)
    assert profile.watched() is None
    assert "ExpBackward0" in {entry.name for entry in profile.entries}
