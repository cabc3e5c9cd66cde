"""gw.compile: a compiled function does what the function does, in one step a call."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradwire as gw
import gradwire.nn.functional as F
from gradwire.utils.checkpoint import checkpoint
from tests.service.sdk import Proxy, leaf, programs, runs, session

__all__ = ["session"]


def polynomial(x: gw.Tensor) -> gw.Tensor:
    return (x + 2) ** 2


def two(x: gw.Tensor, y: gw.Tensor) -> tuple[gw.Tensor, gw.Tensor]:
    return x * y.sin(), (x - y).exp()


def tree(batch: dict[str, Any]) -> dict[str, Any]:
    x, (y, z) = batch["x"], batch["rest"]
    return {"sum": [x + y, y * z], "name": "kept", "none": None}


def shaped(x: gw.Tensor) -> gw.Tensor:
    return x.reshape(x.shape[0], -1).sum(1) / x.numel()


def parts(x: gw.Tensor) -> gw.Tensor:
    first, rest = x.split([1, x.shape[0] - 1])
    a, *_ = x.unbind()
    return (first * rest).sum() * a


def views(x: gw.Tensor) -> gw.Tensor:
    y = x.clone()
    y[0] = y[1] * 3
    y.view(-1)[1:].mul_(2)
    return y.exp()


def constants(x: gw.Tensor) -> gw.Tensor:
    scale = gw.tensor([2.0, 3.0], dtype=gw.float64)
    scale += 1
    return x * scale + gw.arange(2)


def inner_gradient(x: gw.Tensor) -> gw.Tensor:
    (slope,) = gw.autograd.grad((x**3).sum(), x, create_graph=True)
    return slope * x


def turned(x: gw.Tensor, y: gw.Tensor) -> gw.Tensor:
    one = x.unsqueeze(1) * y
    other = one + 1
    product = (one @ other).t()
    return other.t() @ product


def partly(x: gw.Tensor) -> gw.Tensor:
    with gw.no_grad():
        y = x * 3
    return x * y


def checkpointed(x: gw.Tensor) -> gw.Tensor:
    result: gw.Tensor = checkpoint(polynomial, x.sin())
    return result


def passed(x: gw.Tensor) -> tuple[gw.Tensor, gw.Tensor]:
    return x, x * 2


FUNCTIONS: list[tuple[Callable[..., Any], int]] = [
    (polynomial, 1),
    (two, 2),
    (shaped, 1),
    (parts, 1),
    (views, 1),
    (constants, 1),
    (inner_gradient, 1),
    (turned, 2),
    (partly, 1),
    (checkpointed, 1),
    (passed, 1),
]


def values(result: Any) -> list[Any]:
    leaves = result if isinstance(result, (tuple, list)) else [result]
    return [each.detach().numpy() for each in leaves]


@pytest.mark.parametrize(("function", "count"), FUNCTIONS)
def test_gives_the_same_values_and_gradients(
    session: gw.Session, function: Callable[..., Any], count: int
) -> None:
    compiled = gw.compile(function)

    def both(called: Callable[..., Any], *numbers: float) -> list[Any]:
        xs = [leaf(*numbers), leaf(*reversed(numbers))][:count]
        result = called(*xs)
        outputs = result if isinstance(result, tuple) else (result,)
        total = sum((each * (nr + 1)).sum() for nr, each in enumerate(outputs))
        return [*values(result), *values(gw.autograd.grad(total, xs))]

    for numbers in ((1.0, 2.0), (0.5, -1.0), (3.0, 4.0)):
        for one, other in zip(both(compiled, *numbers), both(function, *numbers), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12)
    assert runs(session) == [2]


def test_takes_and_gives_trees(session: gw.Session) -> None:
    compiled = gw.compile(tree)
    for number in (1.0, 2.0):
        batch = {"x": leaf(number), "rest": (leaf(2.0), leaf(3.0))}
        result = compiled(batch)
        assert result["sum"][0].tolist() == [number + 2]
        assert result["sum"][1].tolist() == [6.0]
        assert (result["name"], result["none"]) == ("kept", None)
    assert runs(session) == [1]


def test_a_call_is_one_step_and_no_round_trip(session: gw.Session) -> None:
    compiled = gw.compile(polynomial)
    compiled(leaf(1.0))
    xs = [leaf(float(nr)) for nr in range(10)]
    session.synchronize()
    before = session.traffic
    found = [compiled(x) for x in xs]
    assert session.traffic.sequences == before.sequences
    assert [each.item() for each in gw.fetch(*found)] == [(nr + 2.0) ** 2 for nr in range(10)]
    assert session.traffic.sequences == before.sequences + 1


def test_what_a_call_gives_is_known_without_asking(session: gw.Session) -> None:
    compiled = gw.compile(lambda x: x.reshape(2, 1).to(gw.float64))
    for _ in range(2):
        result = compiled(gw.ones(2))
    before = session.traffic.sequences
    assert (result.shape, result.dtype) == ((2, 1), gw.float64)
    assert session.traffic.sequences == before


def test_a_call_is_one_node_that_bears_the_functions_name(session: gw.Session) -> None:
    compiled = gw.compile(polynomial)
    compiled(leaf(1.0))
    node = compiled(leaf(1.0)).grad_fn
    assert node is not None
    assert node.name() == "PolynomialBackward"
    assert [each and each[0].name() for each in node.next_functions] == ["AccumulateGrad"]
    assert [each.name.startswith("polynomial-") for each in programs(session)] == [True]


def test_higher_derivatives_go_through_a_call(session: gw.Session) -> None:
    compiled = gw.compile(lambda x: (x**4).sum())
    for _ in range(2):
        x = leaf(2.0)
        (first,) = gw.autograd.grad(compiled(x), x, create_graph=True)
        (second,) = gw.autograd.grad(first.sum(), x, create_graph=True)
        (third,) = gw.autograd.grad(second.sum(), x)
        assert [first.item(), second.item(), third.item()] == [32.0, 48.0, 48.0]


def test_a_graph_is_kept_and_freed_as_ever(session: gw.Session) -> None:
    compiled = gw.compile(polynomial)
    for _ in range(2):
        x = leaf(1.0)
        y = compiled(x)
        y.backward(retain_graph=True)
        y.backward()
        assert x.grad is not None
        assert x.grad.item() == 12.0
        y.backward()
        with pytest.raises(RuntimeError, match="retain_graph"):
            session.synchronize()


def test_transforms_go_through_a_compiled_function(session: gw.Session) -> None:
    compiled = gw.compile(lambda x: (x**3).sum())
    x = gw.tensor([1.0, 2.0])
    for _ in range(2):
        np.testing.assert_allclose(gw.func.grad(compiled)(x).numpy(), [3.0, 12.0])
        _, pull = gw.func.vjp(compiled, x)
        np.testing.assert_allclose(pull(gw.tensor(2.0))[0].numpy(), [6.0, 24.0])
        _, tangent = gw.func.jvp(compiled, (x,), (gw.tensor([1.0, 1.0]),))
        assert tangent.item() == 15.0
        np.testing.assert_allclose(gw.func.hessian(compiled)(x).numpy(), np.diag([6.0, 12.0]))


def test_under_no_grad_nothing_is_recorded(session: gw.Session) -> None:
    compiled = gw.compile(polynomial)
    x = leaf(1.0)
    for _ in range(2):
        with gw.no_grad():
            assert not compiled(x).requires_grad
        with gw.inference_mode():
            assert compiled(x).is_inference()
        assert compiled(x).requires_grad
    assert len(runs(session)) == 3


def test_a_compiled_function_calls_another(session: gw.Session) -> None:
    inner = gw.compile(polynomial)
    outer = gw.compile(lambda x: inner(x) * 2)
    for _ in range(2):
        assert outer(leaf(1.0)).item() == 18.0
    assert runs(session) == [1]


class Model:
    def __init__(self) -> None:
        self.weight = leaf(1.0, 2.0)

    @gw.compile
    def __call__(self, x: gw.Tensor) -> gw.Tensor:
        return (x * self.weight).sum()


def test_methods_are_compiled_for_each_object(session: gw.Session) -> None:
    one, other = Model(), Model()
    other.weight = leaf(3.0, 4.0)
    for _ in range(2):
        assert one(leaf(1.0, 1.0)).item() == 3.0
        assert other(leaf(1.0, 1.0)).item() == 7.0
    assert runs(session) == [1, 1]


SIGNATURES: list[tuple[str, Callable[[], tuple[Any, ...]]]] = [
    ("a shape", lambda: (leaf(1.0), 2.0)),
    ("a dtype", lambda: (gw.tensor([1.0, 2.0], requires_grad=True), 2.0)),
    ("a flag", lambda: (leaf(1.0, 2.0).detach(), 2.0)),
    ("a plain argument", lambda: (leaf(1.0, 2.0), 3.0)),
    ("its type", lambda: (leaf(1.0, 2.0), 2)),
    ("a tensor in its place", lambda: (leaf(1.0, 2.0), leaf(2.0))),
]


@pytest.mark.parametrize(("what", "arguments"), SIGNATURES, ids=[each[0] for each in SIGNATURES])
def test_another_signature_is_traced_anew(
    session: gw.Session, what: str, arguments: Callable[[], tuple[Any, ...]]
) -> None:
    compiled = gw.compile(lambda x, y: x * y)
    for _ in range(2):
        assert compiled(leaf(1.0, 2.0), 2.0).tolist() == [2.0, 4.0]
        x, y = arguments()
        np.testing.assert_allclose(compiled(x, y).tolist(), (x * y).tolist())
    assert runs(session) == [1, 1]


def test_the_same_tensor_twice_is_another_signature(session: gw.Session) -> None:
    def change(x: gw.Tensor, y: gw.Tensor) -> gw.Tensor:
        with gw.no_grad():
            x.mul_(2)
        return x + y

    compiled = gw.compile(change)
    for _ in range(2):
        assert compiled(gw.ones(1), gw.ones(1)).tolist() == [3.0]
        same = gw.ones(1)
        assert compiled(same, same).tolist() == [4.0]


def test_variables_around_the_function_are_looked_at(session: gw.Session) -> None:
    scale, weight = 2.0, leaf(1.0)

    def scaled(x: gw.Tensor) -> gw.Tensor:
        return x * scale * weight

    compiled = gw.compile(scaled)
    assert [compiled(leaf(1.0)).item() for _ in range(2)] == [2.0, 2.0]
    scale = 3.0
    assert [compiled(leaf(1.0)).item() for _ in range(2)] == [3.0, 3.0]
    weight = leaf(10.0)
    assert [compiled(leaf(1.0)).item() for _ in range(2)] == [30.0, 30.0]


def test_a_tensor_that_is_gone_is_not_used_any_more(session: gw.Session) -> None:
    held = [leaf(2.0)]
    compiled = gw.compile(lambda x: x * held[0])
    assert [compiled(leaf(1.0)).item() for _ in range(2)] == [2.0, 2.0]
    held[0] = leaf(5.0)
    assert [compiled(leaf(1.0)).item() for _ in range(2)] == [5.0, 5.0]


def test_a_flag_set_later_is_seen(session: gw.Session) -> None:
    weight = leaf(2.0)
    compiled = gw.compile(lambda x: x * weight)
    x = gw.tensor([1.0], dtype=gw.float64)
    assert [compiled(x).requires_grad for _ in range(2)] == [True, True]
    weight.requires_grad_(False)
    assert [compiled(x).requires_grad for _ in range(2)] == [False, False]


def test_the_default_dtype_is_looked_at(session: gw.Session) -> None:
    compiled = gw.compile(lambda x: x + gw.zeros(1))
    x = gw.tensor([1], dtype=gw.int64)
    assert [compiled(x).dtype for _ in range(2)] == [gw.float32] * 2
    gw.set_default_dtype(gw.float64)
    try:
        assert [compiled(x).dtype for _ in range(2)] == [gw.float64] * 2
    finally:
        gw.set_default_dtype(gw.float32)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_a_nan_within_is_found_in_anomaly_mode(session: gw.Session) -> None:
    compiled = gw.compile(lambda x: x.sqrt().sum())
    for _ in range(2):
        x = leaf(-1.0)
        with gw.autograd.detect_anomaly(), pytest.raises(RuntimeError, match="Sqrt"):
            compiled(x).backward()


def test_old_signatures_are_dropped(session: gw.Session) -> None:
    compiled = gw.compile(lambda x, n: x + n)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number in range(20):
            compiled(gw.ones(1), number)
    assert len(programs(session)) == 16
    assert any("signatures" in str(each.message) for each in caught)
    compiled.clear()
    assert not programs(session)


def test_programs_go_with_their_function(session: gw.Session) -> None:
    compiled = gw.compile(polynomial)
    compiled(leaf(1.0))
    assert len(programs(session)) == 1
    # No cycle keeps them: they go at once.
    gc.disable()
    try:
        del compiled
        assert not programs(session)
    finally:
        gc.enable()


def test_a_function_serves_several_sessions(session: gw.Session, address: str) -> None:
    compiled = gw.compile(lambda x: x * 2)
    with gw.connect(address) as other:
        x, y = session.tensor([1.0]), other.tensor([2.0])
        for _ in range(2):
            assert (compiled(x).item(), compiled(y).item()) == (2.0, 4.0)
        assert runs(other) == [1]
    assert runs(session) == [1]
    with gw.connect(address):
        assert compiled(gw.tensor([4.0])).item() == 8.0


def test_programs_outlive_a_lost_connection(address: str) -> None:
    proxy = Proxy(address)
    with gw.connect(proxy.address) as opened:
        compiled = gw.compile(polynomial)
        compiled(leaf(1.0)).item()
        compiled(leaf(1.0))
        proxy.cut()
        assert compiled(leaf(3.0)).item() == 25.0
        assert runs(opened) == [2]
    proxy.close()


def test_calls_are_made_from_a_hook(session: gw.Session) -> None:
    compiled = gw.compile(lambda g: g * 10)
    with gw.no_grad():
        compiled(leaf(1.0).detach())
    x = leaf(1.0)
    seen: list[float] = []

    def scale(gradient: gw.Tensor) -> gw.Tensor:
        seen.append(gradient.item())
        return compiled(gradient)

    x.register_hook(scale)
    (x * 2).backward()
    assert x.grad is not None
    assert (seen, x.grad.item()) == ([2.0], 20.0)
    assert runs(session) == [1]
    # What must be traced first is called as it is.
    (x.float() * 2).backward()
    assert x.grad.item() == 40.0
    assert runs(session) == [2]


def test_saved_tensor_hooks_see_each_step(session: gw.Session) -> None:
    compiled = gw.compile(polynomial)
    x = leaf(1.0)
    compiled(x)
    packed: list[float] = []

    def pack(kept: gw.Tensor) -> gw.Tensor:
        packed.append(kept.detach().item())
        return kept

    with gw.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept):
        compiled(x).item()
    assert packed == [3.0]


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (lambda x: x if x.sum() > 0 else -x, "if"),
        (lambda x: x * x[0].item(), "item"),
        (lambda x: x * int(x[0]), "int"),
        (lambda x: x * float(x[0]), "float"),
        (lambda x: x * x.detach().numpy()[0], "numpy"),
        (lambda x: x * x.tolist()[0], "tolist"),
        (lambda x: x if str(x) else -x, "print"),
        (lambda x: x if 2.0 in x else -x, "in"),
        (lambda x: x * gw.fetch(x)[0], "fetch"),
        (lambda x: x if gw.equal(x, x) else -x, "equal"),
    ],
)
def test_values_are_not_read_while_tracing(
    session: gw.Session, read: Callable[[gw.Tensor], gw.Tensor], name: str
) -> None:
    with pytest.raises(gw.errors.TraceError, match=r"gw\.where") as caught:
        gw.compile(read)(leaf(1.0, 2.0))
    assert caught.value.location is not None
    assert "lambda x" in caught.value.location.source
    assert leaf(1.0).item() == 1.0
    assert not programs(session)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: gw.func.grad(lambda y: (y**2).sum())(x), "gw.func.grad"),
        (lambda x: x.detach().requires_grad_(), "requires_grad"),
        (lambda x: (x * 2).retain_grad(), "retain_grad"),
        (lambda x: x.register_hook(print), "register_hook"),
    ],
)
def test_what_no_program_can_do_is_refused(
    session: gw.Session, function: Callable[[gw.Tensor], Any], said: str
) -> None:
    with pytest.raises(gw.errors.TraceError, match=said) as caught:
        gw.compile(function)(leaf(1.0, 2.0))
    assert caught.value.location is not None
    assert "lambda" in caught.value.location.source
    assert leaf(1.0).item() == 1.0


def test_tensors_must_not_be_left_outside(session: gw.Session) -> None:
    kept: list[gw.Tensor] = []

    def leaves(x: gw.Tensor) -> gw.Tensor:
        y = x * 2
        kept.append(y)
        return y + 1

    compiled = gw.compile(leaves)
    assert compiled(leaf(1.0)).item() == 3.0
    with pytest.raises(gw.errors.TraceError, match="return it") as caught:
        compiled(leaf(1.0))
    assert caught.value.location is not None
    assert caught.value.location.source == "y = x * 2"


def test_arrays_are_no_arguments(session: gw.Session) -> None:
    with pytest.raises(TypeError, match=r"gradwire\.tensor"):
        gw.compile(lambda x: x)(np.ones(2))


def test_an_error_of_a_call_names_the_line_in_the_function(session: gw.Session) -> None:
    def product(x: gw.Tensor, y: gw.Tensor) -> gw.Tensor:
        z = gw.linalg.inv(x) if hasattr(gw.linalg, "inv") else x
        return gw.log(z).take(y) if hasattr(z, "take") else z[y]

    compiled = gw.compile(product)
    x = gw.eye(2)
    compiled(x, gw.tensor([1]))
    with pytest.raises(IndexError) as caught:
        compiled(x, gw.tensor([7])).tolist()
    assert caught.value.location is not None
    assert caught.value.location.source.startswith("return gw.log")
    (note,) = caught.value.__notes__
    assert "compiled(x, gw.tensor([7]))" in note


def test_an_error_while_tracing_is_the_functions_own(session: gw.Session) -> None:
    compiled = gw.compile(lambda x: x @ x)
    with pytest.raises(RuntimeError) as caught:
        compiled(gw.ones(2, 3))
    assert "lambda x: x @ x" in str(caught.value)
    assert compiled(gw.ones(2, 2)).tolist() == [[2.0, 2.0], [2.0, 2.0]]


def test_random_numbers_differ_from_call_to_call(session: gw.Session) -> None:
    compiled = gw.compile(lambda x: gw.rand_like(x))
    x = gw.ones(100)
    drawn = [tuple(compiled(x).tolist()) for _ in range(4)]
    assert len(set(drawn)) == 4
    gw.manual_seed(1)
    one = compiled(x).tolist()
    gw.manual_seed(1)
    assert gw.rand_like(x).tolist() == one


def test_plans_are_explained(session: gw.Session) -> None:
    compiled = gw.compile(polynomial)
    x = leaf(1.0)
    text = compiled.explain(x)
    assert repr(text) == str(text)
    assert "2" in text
    assert runs(session) == [0]


def test_methods_are_repeated_and_explained(session: gw.Session) -> None:
    model = Model()
    assert model.__call__.repeat(2, gw.ones(2, 2, dtype=gw.float64)).tolist() == [3.0, 3.0]
    assert model.__call__.explain(leaf(1.0, 1.0).detach())


def doubled_while_small(x: gw.Tensor, steps: int) -> gw.Tensor:
    for _ in range(steps):
        x = gw.where(x.norm() < 10, x * 2, x)
    return x


def scores(inputs: gw.Tensor, weight: gw.Tensor, bias: gw.Tensor) -> gw.Tensor:
    return F.cross_entropy(F.linear(inputs, weight, bias), gw.tensor([0, 1, 2, 1]))


def directed(x: gw.Tensor) -> gw.Tensor:
    y = x**2
    y.backward(gradient=gw.tensor([0.3, 0.7], dtype=gw.float64))
    return y


TUTORIAL: list[tuple[Callable[..., gw.Tensor], list[list[Any]], tuple[Any, ...], Any, Any]] = [
    (polynomial, [[3.0]], (), [25.0], [10.0]),
    (lambda x: x + 2, [[3.0]], (), [5.0], [1.0]),
    (lambda x: x**2, [[1.0, 2.0]], (), [1.0, 4.0], [2.0, 4.0]),
    (directed, [[1.0, 2.0]], (), [1.0, 4.0], [0.6, 2.8]),
    (doubled_while_small, [[3.0]], (4,), [12.0], [4.0]),
    (
        scores,
        [np.eye(4, 2).tolist(), np.zeros((3, 2)).tolist(), [0.0, 0.0, 0.0]],
        (),
        np.log(3),
        [[-1 / 6, 1 / 12], [1 / 12, -1 / 6], [1 / 12, 1 / 12]],
    ),
]


@pytest.mark.parametrize(("function", "inputs", "plain", "value", "gradient"), TUTORIAL)
def test_the_tutorial_holds_compiled(
    session: gw.Session,
    function: Callable[..., gw.Tensor],
    inputs: list[list[Any]],
    plain: tuple[Any, ...],
    value: Any,
    gradient: Any,
) -> None:
    compiled = gw.compile(function)
    for _ in range(2):
        tensors = [gw.tensor(each, dtype=gw.float64, requires_grad=True) for each in inputs]
        result = compiled(*tensors, *plain)
        np.testing.assert_allclose(result.detach().numpy(), value)
        of = tensors[min(1, len(tensors) - 1)]
        if of.grad is None:
            result.sum().backward()
        assert of.grad is not None
        np.testing.assert_allclose(of.grad.numpy(), gradient, atol=1e-12)
    assert runs(session) == [1]
