"""Hooks: functions that see, and may replace, gradients on their way.

For one node they run in PyTorch's order: hooks of its results (tensor hooks, in order of
registration, then what retains the gradient), node pre-hooks, the node itself, node
post-hooks; for a leaf its tensor hooks, the accumulation, then post-accumulate hooks.

A hook takes and returns what the pass works on: arrays in a plain backward, tensors under
create_graph. None leaves the gradient as it is.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from gradwire_engine.context import current
from gradwire_engine.errors import EngineError

if TYPE_CHECKING:
    from gradwire_engine.node import AnyNode
    from gradwire_engine.tensor import Tensor

TensorHook = Callable[[Any], Any]
"""`(gradient) -> replacement or None`."""

PreHook = Callable[[tuple[Any, ...]], Any]
"""`(gradients of the results) -> replacements or None`."""

PostHook = Callable[[tuple[Any, ...], tuple[Any, ...]], Any]
"""`(gradients of the inputs, gradients of the results) -> replacements of the former or None`."""

_numbers = itertools.count(1)


@dataclass(slots=True, weakref_slot=True)
class Hooks:
    """All hooks of one node, or of one leaf; by number, in order of registration.

    Attributes:
        tensor: by output number of the node.
        retains: results that keep their gradient, by output number.
        pre: before the node runs.
        post: after it ran.
        post_accumulate: after a gradient was added to the leaf's `.grad`.
        packed: the node keeps values that saved-tensor hooks have packed.
    """

    tensor: dict[int, dict[int, TensorHook]] = field(default_factory=dict)
    retains: dict[int, weakref.ref[Tensor]] = field(default_factory=dict)
    pre: dict[int, PreHook] = field(default_factory=dict)
    post: dict[int, PostHook] = field(default_factory=dict)
    post_accumulate: dict[int, Callable[[Tensor], None]] = field(default_factory=dict)
    packed: bool = False


@dataclass(frozen=True, slots=True)
class RemovableHandle:
    """What a registration returns. Keeps neither the hook nor its node alive."""

    _hooks: weakref.ref[Hooks]
    number: int

    def remove(self) -> None:
        """Take the hook away; a second time does nothing."""
        hooks = self._hooks()
        if hooks is not None:
            kinds: list[dict[int, Any]] = [hooks.pre, hooks.post, hooks.post_accumulate]
            for held in [*kinds, *hooks.tensor.values()]:
                held.pop(self.number, None)


def _add(hooks: Hooks, held: dict[int, Any], hook: Callable[..., Any]) -> RemovableHandle:
    number = next(_numbers)
    held[number] = hook
    return RemovableHandle(weakref.ref(hooks), number)


def register_hook(tensor: Tensor, hook: TensorHook) -> RemovableHandle:
    """Run `hook` on each gradient of `tensor`.

    Raises:
        EngineError: HOOK_NO_GRAD.
    """
    edge = tensor.gradient_edge()
    if edge is None:
        raise EngineError(
            "HOOK_NO_GRAD",
            "a hook needs a tensor that requires grad; this one does not, so no gradient will ever "
            "reach it",
        )
    node, nr = edge
    hooks = hooks_of(node)
    return _add(hooks, hooks.tensor.setdefault(nr, {}), hook)


def register_post_accumulate_grad_hook(
    tensor: Tensor, hook: Callable[[Tensor], None]
) -> RemovableHandle:
    """Run `hook` on the leaf after each accumulation into its `.grad`.

    Raises:
        EngineError: HOOK_NO_GRAD, HOOK_NON_LEAF.
    """
    edge = tensor.gradient_edge()
    if edge is None:
        raise EngineError(
            "HOOK_NO_GRAD",
            "a post-accumulate-grad hook needs a tensor that requires grad; this one does not",
        )
    if not tensor.is_leaf:
        raise EngineError(
            "HOOK_NON_LEAF",
            f"a post-accumulate-grad hook needs a leaf; this tensor was made by "
            f"{edge[0].name}. Use register_hook()",
            grad_fn=edge[0].name,
        )
    hooks = hooks_of(edge[0])
    return _add(hooks, hooks.post_accumulate, hook)


def register_prehook(node: AnyNode, hook: PreHook) -> RemovableHandle:
    """Run `hook` on the gradients of a node's results, before the node."""
    hooks = hooks_of(node)
    return _add(hooks, hooks.pre, hook)


def register_posthook(node: AnyNode, hook: PostHook) -> RemovableHandle:
    """Run `hook` on the gradients of a node's inputs, after the node."""
    hooks = hooks_of(node)
    return _add(hooks, hooks.post, hook)


@dataclass(slots=True)
class _Several:
    """A hook on several tensors, and what it has seen of the pass that runs.

    Attributes:
        places: the nodes of the tensors, or the leaves, whose nodes come and go. Weak, for the hook
            is held by them.
    """

    hook: Callable[[tuple[Any, ...]], None]
    places: tuple[weakref.ref[AnyNode] | weakref.ref[Tensor], ...]
    is_any: bool
    seen_in: weakref.ref[Any] | None = None
    expected: int = 0
    gradients: list[Any] = field(default_factory=list)

    def note(self, index: int, gradient: Any) -> None:
        running = current.context.running
        if self.seen_in is None or self.seen_in() is not running:
            self.seen_in = weakref.ref(running)
            self.expected = sum(running.will_reach(place()) for place in self.places)
            self.gradients = [None] * len(self.places)
            if self.is_any:
                self.hook((gradient,))
        if self.is_any or self.gradients[index] is not None:
            return
        self.gradients[index] = gradient
        self.expected -= 1
        if not self.expected:
            gradients, self.gradients = self.gradients, []
            self.hook(tuple(gradients))


def register_multi_grad_hook(
    tensors: Sequence[Tensor], hook: Callable[[tuple[Any, ...]], None], *, is_any: bool = False
) -> list[RemovableHandle]:
    """Run `hook` once in a pass, when the gradients of all `tensors` that it reaches are there.

    The hook gets them in order, None where the pass does not get to. With `is_any` it runs with
    the first gradient of any of them instead.

    Raises:
        EngineError: HOOK_NO_GRAD; then nothing is registered.
    """
    places: list[Any] = []
    for at, tensor in enumerate(tensors):
        edge = tensor.gradient_edge()
        if edge is None:
            raise EngineError(
                "HOOK_NO_GRAD",
                f"a hook on several tensors needs all of them to require grad; tensor {at} (shape "
                f"{tensor.shape}) does not",
                tensor=at,
            )
        places.append(weakref.ref(tensor if tensor.is_leaf else edge[0]))
    several = _Several(hook, tuple(places), is_any)
    return [register_hook(tensor, partial(several.note, at)) for at, tensor in enumerate(tensors)]


def hooks_of(node: AnyNode) -> Hooks:
    """The hooks of a node, made if there are none."""
    if node.hooks is None:
        node.hooks = Hooks()
    return node.hooks


def run_tensor_hooks(hooks: Hooks, gradients: list[Any]) -> list[Any]:
    """The gradients of a node's results after its tensor hooks.

    Raises:
        EngineError: HOOK_SHAPE.
    """
    for nr, held in hooks.tensor.items():
        for hook in list(held.values()):
            gradient = gradients[nr]
            if gradient is not None:
                gradients[nr] = _replaced(gradient, hook(gradient))
    return gradients


def run_all(
    hooks: Sequence[Callable[..., Any]], gradients: tuple[Any, ...], *also: Any
) -> tuple[Any, ...]:
    """Gradients after node hooks, which see and may replace all of them.

    Raises:
        EngineError: HOOK_SHAPE.
    """
    for hook in hooks:
        answer = hook(gradients, *also)
        if answer is None:
            continue
        answers = tuple(answer) if isinstance(answer, (list, tuple)) else (answer,)
        if len(answers) != len(gradients):
            raise EngineError(
                "HOOK_SHAPE",
                f"a hook gave {len(answers)} gradients in place of {len(gradients)}",
                given=len(answers),
                expected=len(gradients),
            )
        gradients = tuple(
            [_replaced(old, new) for old, new in zip(gradients, answers, strict=True)]
        )
    return gradients


def _replaced(gradient: Any, answer: Any) -> Any:
    if answer is None:
        return gradient
    if gradient is not None and (answer.shape != gradient.shape or answer.dtype != gradient.dtype):
        raise EngineError(
            "HOOK_SHAPE",
            f"a hook gave a gradient {answer.dtype}{list(answer.shape)} in place of "
            f"{gradient.dtype}{list(gradient.shape)}; shape and dtype must stay",
            shape=gradient.shape,
            dtype=gradient.dtype,
            given_shape=answer.shape,
            given_dtype=answer.dtype,
        )
    return answer
