"""Nodes whose backward is a program: custom functions, and checkpointed segments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from gradwire_engine.autograd import grad
from gradwire_engine.context import current, grad_mode
from gradwire_engine.errors import EngineError
from gradwire_engine.interpret import TRACED
from gradwire_engine.node import Edge, Node, TensorType
from gradwire_engine.operator import Operator
from gradwire_engine.program import Program
from gradwire_engine.saved_hooks import mark_packed, pack
from gradwire_engine.schema import parse_schema
from gradwire_engine.tensor import Tensor
from gradwire_engine.views import rebase, refusal

Gradients = tuple[Any, ...]


_Backward = Callable[[list[Tensor], list[Any], bool], list[Any]]
"""`(kept, gradients, traced)` to the gradients of all inputs; None where there is none."""


@dataclass(slots=True)
class _Call:
    """One call of a function, shared by the rules of its inputs.

    Attributes:
        name: of the node, for people.
        inputs: shapes of the inputs.
        outputs: shape and dtype of each result.
        origins: for each kept tensor where it stands in the graph: `("input", i)`,
            `("output", j)`, or None.
        materialize: the backward gets zeros for a gradient that is not there, and not None.
        done: the gradients that came in last, and what they gave, so that the rules of several
            inputs run the backward once.
    """

    name: str
    backward: _Backward
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[tuple[int, ...], np.dtype], ...]
    origins: tuple[tuple[str, int] | None, ...]
    materialize: bool
    done: tuple[Gradients, list[Any]] | None = field(default=None)

    def gradient(self, F: Any, gradients: Gradients, kept: Sequence[Any], index: int) -> Any:
        if self.done is None or any(
            a is not b for a, b in zip(self.done[0], gradients, strict=True)
        ):
            self.done = (gradients, self._run(F, gradients, kept))
        return self.done[1][index]

    def _run(self, F: Any, gradients: Gradients, kept: Sequence[Any]) -> list[Any]:
        whole: list[Any] = [g if g is None or F is TRACED else Tensor(g) for g in gradients]
        if self.materialize:
            whole = with_zeros(whole, self.outputs)
        tensors = [value if isinstance(value, Tensor) else Tensor(value) for value in kept]
        given = self.backward(tensors, whole, F is TRACED)
        for index, (gradient, shape) in enumerate(zip(given, self.inputs, strict=True)):
            if gradient is not None:
                self._require_fit(gradient.shape, shape, index)
        return [g if g is None or F is TRACED else g.data for g in given]

    def _require_fit(self, given: tuple[int, ...], shape: tuple[int, ...], index: int) -> None:
        try:
            fits = np.broadcast_shapes(given, shape) == given
        except ValueError:
            fits = False
        if not fits:
            raise EngineError(
                "GRADIENT_SHAPE",
                f"{self.name} gave a gradient of shape {given} for input {index}, whose shape is "
                f"{shape}",
                grad_fn=self.name,
                input=index,
                shape=shape,
                gradient_shape=given,
            )


@dataclass(frozen=True, slots=True)
class _JointRule:
    """The share of one input in a backward that computes all of them."""

    position: int

    saves = True
    takes_all = True
    joint = None
    params = ()

    def pull(self, F: Any, gs: Gradients, call: _Call, *kept: Any) -> Any:
        return call.gradient(F, gs, kept, self.position)

    def trace(
        self, values: tuple[Any, ...], node: Node, edge_of: Callable[[int], Edge | None]
    ) -> list[Any]:
        call, *kept = values
        traced: list[Any] = [call]
        for array, origin in zip(kept, call.origins, strict=True):
            tensor = Tensor(array)
            if origin is not None and array.dtype.kind in "fc":
                kind, index = origin
                tensor.edge = edge_of(index) if kind == "input" else (node, index)
            traced.append(tensor)
        return traced


def with_zeros(gradients: Sequence[Any], types: Sequence[TensorType]) -> list[Tensor]:
    """Gradients with zeros for those that are not there."""
    return [
        Tensor(np.zeros(shape, dtype)) if g is None else g
        for g, (shape, dtype) in zip(gradients, types, strict=True)
    ]


def attach(
    name: str,
    backward: _Backward,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    kept: Sequence[Tensor],
    *,
    guarded: Sequence[Tensor] | None = None,
    dirty: Sequence[Tensor] = (),
    materialize: bool = True,
) -> Node | None:
    """Make `outputs` the results of a node with this backward.

    Args:
        kept: tensors that the backward is given.
        guarded: those of them that must not be changed in place till then; by default all.
        dirty: inputs that were changed in place and are outputs too.
        materialize: the backward gets zeros for a gradient that is not there, and not None.

    Returns:
        The node; None if nothing is recorded.
    """
    edges = tuple([each.gradient_edge() for each in inputs])
    if not current.context.grad_enabled or not any(edges):
        return None
    guarded = kept if guarded is None else guarded
    types = tuple([(each.data.shape, each.data.dtype) for each in outputs])
    places = {id(each): ("output", at) for at, each in enumerate(outputs)}
    places = {id(each): ("input", at) for at, each in enumerate(inputs)} | places
    origins = tuple([places.get(id(tensor)) for tensor in kept])
    call = _Call(name, backward, tuple([e.shape for e in inputs]), types, origins, materialize)
    hooks = current.context.saved_hooks
    values = (
        call,
        *[
            each.data
            if hooks is None
            else pack(each, hooks, is_result=any(each is output for output in outputs))
            for each in kept
        ],
    )
    node = Node.of(
        _operator(name),
        (None,),
        current.context.next_id(),
        edges,
        _joint_rules(len(inputs)),
        tuple([None if edge is None else values for edge in edges]),
        tuple([part for each in guarded for part in (each.version, each.version[0])]),
        types,
    )
    if hooks is not None and kept:
        mark_packed(node)
    for nr, each in enumerate(outputs):
        if each.data.dtype.kind not in "fc":
            continue
        at = next((at for at, other in enumerate(dirty) if other is each), None)
        if at is None:
            each.view = None
            each.edge = (node, nr)
        else:
            _follow(each, node, nr, inputs)
    return node


def attach_released(name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    """Make `outputs` the results of a node whose backward has been, and released the graph."""
    edges = tuple([each.gradient_edge() for each in inputs])
    if not current.context.grad_enabled or not any(edges):
        return
    node = Node.of(
        _operator(name),
        (None,),
        current.context.next_id(),
        edges,
        _joint_rules(len(inputs)),
        None,
        (),
        tuple([(each.data.shape, each.data.dtype) for each in outputs]),
    )
    for nr, each in enumerate(outputs):
        if each.data.dtype.kind in "fc":
            each.edge = (node, nr)


@lru_cache(maxsize=1024)
def _joint_rules(count: int) -> tuple[Any, ...]:
    return tuple([_JointRule(index) for index in range(count)])


def _follow(changed: Tensor, node: Node, nr: int, inputs: Sequence[Tensor]) -> None:
    """Let an input that a function has changed in place go on from the function's node."""
    if changed.view is not None:
        position = next(at for at, each in enumerate(inputs) if each is changed)
        rebase(changed, changed.view, node, current.context, position)
        return
    before = changed.edge
    changed.edge = (node, nr)
    changed.keep_retaining(before)


def _require_may_change(changed: Tensor, name: str, outputs: Sequence[Tensor]) -> None:
    view = changed.view
    leaf = changed if view is None else view.base
    if leaf.leaf_requires_grad and leaf.edge is None:
        raise EngineError(
            "LEAF_IN_PLACE",
            f"{name} has changed {'a leaf' if view is None else 'a view of a leaf'} that requires "
            "grad in place (mark_dirty), while gradients are recorded; give it a clone()",
            grad_fn=name,
        )
    if view is not None and view.origin is not None:
        raise refusal(view.origin, f"{name} has changed it in place (mark_dirty)")
    if view is not None and len(outputs) > 1:
        raise EngineError(
            "BAD_VALUE",
            f"{name} has changed a view in place (mark_dirty), so it cannot have other results; "
            "give it a clone(), or return that alone",
            grad_fn=name,
        )


@lru_cache(maxsize=1024)
def _operator(name: str) -> Operator:
    """What nodes of this name give as their operator."""
    schema = parse_schema(f"{name}(Tensor self) -> Tensor")
    return Operator(schema, "general", np.positive, grad_fn=name)


def custom_function(
    name: str,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    saved: Sequence[Tensor],
    backward: Program,
    *,
    once_differentiable: bool = False,
    partial: Mapping[tuple[int, ...], Program] | None = None,
    dirty: Sequence[Tensor] = (),
) -> None:
    """Give outputs, computed without recording, a backward of the user's.

    Args:
        name: of the node: `MyFunctionBackward`.
        inputs: tensors that the outputs were computed from.
        outputs: not differentiable themselves; they get the node as `grad_fn`.
        saved: tensors for the backward.
        backward: from `saved` and the gradients of the outputs to the gradients of the inputs.
        once_differentiable: refuse to differentiate the backward.
        partial: for outputs, by index, backwards from `saved` and their gradients alone. Where
            there is none for those that have a gradient, the others are zeros.
        dirty: inputs that were changed in place and are outputs too.

    Raises:
        EngineError: LEAF_IN_PLACE, MULTI_VIEW_IN_PLACE, NO_GRAD_VIEW_IN_PLACE, BAD_VALUE.
    """
    if current.context.grad_enabled:
        for each in dirty:
            _require_may_change(each, name, outputs)
    for each in dirty:
        # As in PyTorch, where marking counts beside the changes themselves.
        if not each.is_inference:
            each.version[0] += 1
    types = [(each.data.shape, each.data.dtype) for each in outputs]

    def run(kept: list[Tensor], gradients: list[Any], traced: bool) -> list[Any]:
        present = tuple([at for at, each in enumerate(gradients) if each is not None])
        program = None if partial is None else partial.get(present)
        arrived = (
            with_zeros(gradients, types) if program is None else [gradients[at] for at in present]
        )
        program = program or backward
        given = [*kept, *arrived]
        if not once_differentiable:
            with grad_mode(traced):
                return program.run(given)
        with grad_mode(False):
            results = program.run(given)
        if traced:
            _refuse_later(name, arrived, [each for each in results if each is not None])
        return results

    attach(name, run, inputs, outputs, saved, dirty=dirty, materialize=False)


def _refuse_later(name: str, gradients: Sequence[Tensor], results: Sequence[Tensor]) -> None:
    """Let whoever goes backward through `results` to `gradients` learn that this is not to be."""

    def refuse(kept: list[Tensor], arrived: list[Tensor], traced: bool) -> list[Any]:
        raise EngineError(
            "ONCE_DIFFERENTIABLE",
            f"{name} is marked once_differentiable, so its backward has no derivative; take the "
            "mark away if its backward consists of differentiable operators",
            grad_fn=name,
        )

    attach("OnceDifferentiable", refuse, gradients, results, ())


def checkpoint(program: Program, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Run a program without keeping what its backward needs; the backward runs it again.

    Random operators draw the same numbers again.
    """
    context = current.context
    state = context.generator.bit_generator.state
    with grad_mode(False):
        outputs = [each for each in program.run(inputs) if each is not None]
    # An input handed through must not become a result of the node.
    outputs = [TRACED.clone(o) if any(o is i for i in inputs) else o for o in outputs]

    def run(kept: list[Tensor], gradients: list[Tensor], traced: bool) -> list[Any]:
        return recomputed(program, kept, needs, gradients, traced, state)

    needs = [each.requires_grad for each in inputs]
    attach("CheckpointFunctionBackward", run, inputs, outputs, inputs)
    return outputs


def recomputed(
    program: Program,
    inputs: Sequence[Tensor],
    needs: Sequence[bool],
    gradients: Sequence[Tensor],
    traced: bool,
    state: Any,
    positions: Sequence[int] | None = None,
) -> list[Tensor | None]:
    """The gradients of a program's inputs, which it is run once more for.

    Args:
        needs: which inputs require grad.
        gradients: of its outputs, or of those at `positions`.
        traced: record what is done.
        state: of the random generator before the first run; None if it draws no numbers.
    """
    generator = current.context.generator.bit_generator
    before = generator.state
    if state is not None:
        generator.state = state
    with grad_mode(True):
        # Fresh nodes (or leaves) at the border keep this pass inside of the program.
        if traced:
            border = [TRACED.clone(each) for each in inputs]
        else:
            border = [_leaf(each.data, wanted) for each, wanted in zip(inputs, needs, strict=True)]
        results = program.run(border)
    generator.state = before
    if positions is not None:
        results = [results[at] for at in positions]
    pairs = [
        (result, g)
        for result, g in zip(results, gradients, strict=True)
        if result is not None and result.requires_grad
    ]
    wanted = [each for each, need in zip(border, needs, strict=True) if need]
    if not pairs or not wanted:
        return [None] * len(border)
    given = iter(
        grad(
            [result for result, _ in pairs],
            wanted,
            [g for _, g in pairs],
            create_graph=traced,
            allow_unused=True,
        )
    )
    return [next(given) if need else None for need in needs]


def _leaf(data: np.ndarray, requires_grad: bool) -> Tensor:
    tensor = Tensor(data)
    tensor.leaf_requires_grad = requires_grad
    return tensor
