"""Saved-tensor hooks: functions that see each tensor kept for backward, and keep what they like.

`pack` makes of a tensor whatever is to be kept in its place, as its node is recorded; `unpack`
gives the tensor back when the node runs. A node that keeps packed values says so in its hooks, so
that all others cost nothing. As in PyTorch, changes in place are not noticed then: what was packed
may be a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradwire_engine.context import current, grad_mode
from gradwire_engine.errors import EngineError
from gradwire_engine.hooks import hooks_of
from gradwire_engine.node import Node
from gradwire_engine.rules import Param
from gradwire_engine.tensor import Tensor


@dataclass(frozen=True, slots=True)
class SavedHooks:
    """A pair of functions.

    Attributes:
        pack: from a tensor to what is to be kept.
        unpack: from that to a tensor of the same shape and dtype.
    """

    pack: Callable[[Tensor], Any]
    unpack: Callable[[Any], Tensor]


@dataclass(frozen=True, slots=True)
class Packed:
    """What is kept in place of an array, which had this shape and dtype."""

    held: Any
    unpack: Callable[[Any], Tensor]
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of tensor data that are kept; 0 where something else is."""
        return self.held.data.nbytes if isinstance(self.held, Tensor) else 0

    def open(self) -> np.ndarray:
        """The array again.

        Raises:
            EngineError: HOOK_SHAPE.
        """
        data = self.unpack(self.held).data
        if data.shape != self.shape or data.dtype != self.dtype:
            raise EngineError(
                "HOOK_SHAPE",
                f"an unpack hook gave {data.dtype}{list(data.shape)} for a saved tensor that was "
                f"{self.dtype}{list(self.shape)}; let it bring back shape and dtype",
                shape=self.shape,
                dtype=self.dtype,
                given_shape=data.shape,
                given_dtype=data.dtype,
            )
        return data


@contextmanager
def saved_tensors_hooks(
    pack: Callable[[Tensor], Any], unpack: Callable[[Any], Tensor]
) -> Iterator[None]:
    """Let tensors kept for backward go through a pair of functions; the innermost pair counts."""
    context = current.context
    before, context.saved_hooks = context.saved_hooks, SavedHooks(pack, unpack)
    try:
        yield
    finally:
        context.saved_hooks = before


def pack_saved(
    node: Node, args: Sequence[Any], results: Sequence[Tensor], hooks: SavedHooks
) -> None:
    """Replace the tensors that a new node keeps by what `pack` makes of them.

    Each is packed once, whichever rules need it: arguments by name, then results.

    Args:
        args: of the operator; tensors and lists of tensors are among them.

    Raises:
        EngineError: HOOK_IN_PLACE, and what the hook raises.
    """
    saved = node.saved or ()
    places = {
        (kind is Param.RESULT, name, at): (kind, at)
        for rule, values in zip(node.rules, saved, strict=True)
        for index, ((kind, at), name) in enumerate(rule.params if values is not None else ())
        if kind in (Param.ARGUMENT, Param.RESULT)
        and values is not None
        and isinstance(values[index], (np.ndarray, tuple))
    }
    if not places:
        return
    packed: dict[tuple[Param, int], Any] = {}
    for _, (kind, at) in sorted(places.items()):
        if kind is Param.RESULT:
            packed[kind, at] = pack(results[at], hooks, is_result=True)
        elif isinstance(args[at], Tensor):
            packed[kind, at] = pack(args[at], hooks)
        else:
            packed[kind, at] = tuple(
                [None if each is None else pack(each, hooks) for each in args[at]]
            )
    node.saved = tuple(
        None
        if values is None
        else tuple(
            [
                packed.get(where, value) if isinstance(value, (np.ndarray, tuple)) else value
                for (where, _), value in zip(rule.params, values, strict=True)
            ]
        )
        for rule, values in zip(node.rules, saved, strict=True)
    )
    mark_packed(node)


def mark_packed(node: Node) -> None:
    """Note that a node keeps packed values; whether they were changed since, nobody asks."""
    node.versions = ()
    hooks_of(node).packed = True


def pack(tensor: Tensor, hooks: SavedHooks, *, is_result: bool = False) -> Packed:
    """What is to be kept in place of a tensor: an argument, or a result of the node.

    Raises:
        EngineError: HOOK_IN_PLACE.
    """
    version = tensor.version[0]
    given = tensor
    if is_result:
        # The result itself holds its node: kept by that, it would keep itself.
        given = Tensor(tensor.data)
        given.version = tensor.version
    with grad_mode(False):
        held = hooks.pack(given)
    if tensor.version[0] != version:
        raise EngineError(
            "HOOK_IN_PLACE",
            "a pack hook changed the tensor that it was given in place, and with it what others "
            f"use: it is at version {tensor.version[0]} and was at {version}. Change a clone()",
            version=tensor.version[0],
            expected_version=version,
        )
    return Packed(held, hooks.unpack, tensor.data.shape, tensor.data.dtype)


def unpacked(saved: list[Any]) -> list[Any]:
    """What a node keeps for its rules with arrays in place of what was packed, each opened once.

    Raises:
        EngineError: HOOK_SHAPE, and what the hook raises.
    """
    opened: dict[int, np.ndarray] = {}
    return [
        None if values is None else tuple([_open(value, opened) for value in values])
        for values in saved
    ]


def _open(value: Any, opened: dict[int, np.ndarray]) -> Any:
    if isinstance(value, Packed):
        if id(value) not in opened:
            opened[id(value)] = value.open()
        return opened[id(value)]
    if isinstance(value, tuple) and any(isinstance(each, Packed) for each in value):
        return tuple([_open(each, opened) for each in value])
    return value
