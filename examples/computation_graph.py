"""What a computation graph is, in ten facts, each run on a gradwire server.

    python examples/computation_graph.py                  # on an embedded server
    python examples/computation_graph.py --address host:50051

Each fact prints the code's result beside what it must be, and the program fails if one differs.
The graph of the running example is written to `out/computation_graph.svg`.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console

import gradwire as gw
import gradwire.nn.functional as F

console = Console(highlight=False)

Rows = list[tuple[str, object, object]]
"""What was computed, its value, and what it must be."""


def graph_of_tensors_and_operations() -> Rows:
    """A computation graph is a directed acyclic graph of tensors and operations."""
    x = gw.tensor([3.0], requires_grad=True)
    z = x + 2
    y = z**2
    assert y.grad_fn is not None
    ((to_z, _),) = y.grad_fn.next_functions
    assert to_z is not None
    (to_x, _), _ = to_z.next_functions
    assert to_x is not None
    chain = " -> ".join(node.name() for node in (y.grad_fn, to_z, to_x))
    return [("from y towards x", chain, "PowBackward0 -> AddBackward0 -> AccumulateGrad")]


def dynamic_graph() -> Rows:
    """The graph is dynamic: Python's conditionals and loops shape it, anew on every forward."""
    rows: Rows = []
    for start, expected in ((0.5, 32.0), (3.0, 4.0)):
        x = gw.tensor(start, requires_grad=True)
        y = x
        while y < 10:
            y = y * 2
        if y > 15:
            y = y - 1
        y.backward()
        rows.append((f"d/dx of doubling {start} until it reaches 10", x.grad.item(), expected))
    return rows


def running_example() -> Rows:
    """The running example: y = (x + 2)**2 at x = 3, where dy/dx = 2(x + 2)."""
    x = gw.tensor([3.0], requires_grad=True)
    z = x + 2
    y = z**2
    y.backward()
    return [
        ("x", x.item(), 3.0),
        ("y", y.item(), 25.0),
        ("x.grad", x.grad.item(), 10.0),
    ]


def grad_functions() -> Rows:
    """Each result knows the function that made it; x, made by the user, is a leaf."""
    x = gw.tensor([3.0], requires_grad=True)
    z = x + 2
    y = z**2
    assert y.grad_fn is not None and z.grad_fn is not None
    return [
        ("y.grad_fn", y.grad_fn.name(), "PowBackward0"),
        ("z.grad_fn", z.grad_fn.name(), "AddBackward0"),
        ("x.grad_fn", x.grad_fn, None),
        ("x.is_leaf", x.is_leaf, True),
    ]


def drawing(out: Path) -> Rows:
    """The graph can be drawn."""
    x = gw.tensor([3.0], requires_grad=True)
    z = x + 2
    y = z**2
    graph = gw.graph(y, z)
    out.parent.mkdir(parents=True, exist_ok=True)
    graph.save(out)
    console.print(graph.to_text(), markup=False, style="cyan")
    return [(f"drawn to {out}", out.stat().st_size > 0, True), ("x is in it", x.is_leaf, True)]


def only_what_requires_grad() -> Rows:
    """Without requires_grad nothing is recorded; `.grad` is for leaves only."""
    plain = gw.tensor([3.0])
    x = gw.tensor([3.0], requires_grad=True)
    z = x + 2
    (z**2).backward()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        grad_of_non_leaf = z.grad
    return [
        ("(plain + 2).grad_fn", (plain + 2).grad_fn, None),
        ("(plain + 2).requires_grad", (plain + 2).requires_grad, False),
        ("leaf's grad", x.grad.item(), 10.0),
        ("z.is_leaf", z.is_leaf, False),
        ("z.grad", grad_of_non_leaf, None),
        ("and a warning says why", len(caught), 1),
    ]


def vector_jacobian_product() -> Rows:
    """For a vector y, backward takes a direction v and computes v·J, without forming J."""
    x = gw.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x**2
    v = gw.tensor([1.0, 0.0, 10.0])
    y.backward(gradient=v)
    s = gw.tensor([1.0, 2.0, 3.0], requires_grad=True)
    (v * s**2).sum().backward()
    return [
        ("x.grad", x.grad.tolist(), [2.0, 0.0, 60.0]),
        ("gradient of the scalar v·y", s.grad.tolist(), [2.0, 0.0, 60.0]),
    ]


def weighted_direction() -> Rows:
    """The same for y = x**2 at [1, 2] in the direction [0.3, 0.7]."""
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y = x**2
    y.backward(gradient=gw.tensor([0.3, 0.7]))
    return [("x.grad", x.grad.tolist(), np.array([0.6, 2.8], np.float32).tolist())]


def vector_without_direction() -> Rows:
    """A vector's backward without a direction is an error that says what to pass."""
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    y = x**2
    try:
        y.backward()
        x.grad  # noqa: B018  (reading waits for the backward, which fails)
    except RuntimeError as error:
        console.print(str(error), markup=False, style="yellow")
        return [("names the remedy", "gradient=" in str(error), True)]
    return [("raised", False, True)]


def training_step() -> Rows:
    """In training the loss is a scalar, so its backward needs no direction."""
    generator = np.random.default_rng(0)
    inputs = gw.tensor(generator.standard_normal((8, 4)).astype(np.float32))
    target = gw.tensor(generator.integers(0, 3, 8))
    weight = gw.tensor(np.zeros((3, 4), np.float32), requires_grad=True)
    bias = gw.tensor(np.zeros(3, np.float32), requires_grad=True)
    output = F.linear(inputs, weight, bias)
    loss = F.cross_entropy(output, target)
    loss.backward()
    return [
        ("loss of three equal scores", f"{loss.item():.4f}", f"{np.log(3):.4f}"),
        ("weight.grad.shape", tuple(weight.grad.shape), (3, 4)),
        ("gradients of the scores cancel", abs(bias.grad.sum().item()) < 1e-6, True),
    ]


def main() -> None:
    """Walk the ten facts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--address", help="server to use; an embedded one if not given")
    parser.add_argument("--out", type=Path, default=Path("out/computation_graph.svg"))
    arguments = parser.parse_args()
    facts: list[Callable[[], Rows]] = [
        graph_of_tensors_and_operations,
        dynamic_graph,
        running_example,
        grad_functions,
        lambda: drawing(arguments.out),
        only_what_requires_grad,
        vector_jacobian_product,
        weighted_direction,
        vector_without_direction,
        training_step,
    ]
    titles = [fact.__doc__ or drawing.__doc__ or "" for fact in facts]
    wrong = 0
    with gw.connect(arguments.address):
        for number, (title, fact) in enumerate(zip(titles, facts, strict=True), 1):
            console.print(f"\n[bold]{number}. {title}[/bold]")
            for what, value, expected in fact():
                right = value == expected
                wrong += not right
                mark = "[green]ok[/green]" if right else f"[red]expected {expected!r}[/red]"
                console.print(f"   {what} = {value!r}  {mark}")
    if wrong:
        raise SystemExit(f"{wrong} results differ from what they must be")


if __name__ == "__main__":
    main()
