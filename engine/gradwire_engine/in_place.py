"""In-place operators: the base operator's kernel and rules, and a result that is its argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from gradwire_engine.context import Context, current
from gradwire_engine.dtypes import is_differentiable
from gradwire_engine.errors import EngineError
from gradwire_engine.node import Node
from gradwire_engine.operator import Operator
from gradwire_engine.rules import Rule
from gradwire_engine.schema import Schema
from gradwire_engine.tensor import Tensor, ViewStep
from gradwire_engine.views import rebase, refusal

TORCH_FUNCTIONS = frozenset(
    """
    abs_ acos_ acosh_ addmv_ arccos_ arccosh_ arcsin_ arcsinh_ arctan_ arctanh_ as_strided_ asin_
    asinh_ atan_ atanh_ ceil_ clamp_ clamp_max_ clamp_min_ clip_ conj_physical_ cos_ cosh_ deg2rad_
    detach_ erf_ erfc_ exp2_ exp_ expm1_ fill_ fix_ floor_ frac_ gcd_ i0_ index_put_ lcm_ ldexp_
    log10_ log1p_ log2_ log_ logit_ nan_to_num_ neg_ negative_ rad2deg_ reciprocal_ relu_ round_
    rsqrt_ sigmoid_ sin_ sinc_ sinh_ sqrt_ square_ tan_ tanh_ threshold_ trunc_ xlogy_ zero_
    """.split()
)
"""Those that PyTorch has as functions too: `torch.exp_(x)`."""


def _no_gradients(schema: Schema) -> tuple[Rule, ...]:
    """The rules of what has none: the gradient of its result goes nowhere."""
    names = [argument.name for argument in schema.arguments if argument.is_tensor]
    return tuple(Rule(schema, name, lambda F, g: F.zeros_like(g)) for name in names)


def _saves(node: Node, position: int) -> bool:
    """Whether a node keeps the tensor argument at a position of the schema."""
    return any(
        values is not None and rule.saves_argument(position)
        for rule, values in zip(node.rules, node.saved or (), strict=False)
    )


def _is_dense(array: np.ndarray) -> bool:
    low, high = byte_bounds(array)
    return array.size > 0 and high - low == array.nbytes


class InPlaceOperator(Operator):
    """The in-place form of an operator: computes as `base`, writes to the first argument."""

    def __init__(
        self, base: Operator, schema: Schema, grad_fn: str | Callable[..., str] | None = None
    ) -> None:
        """Make the in-place form of `base`.

        Args:
            grad_fn: its nodes' name, where PyTorch numbers them apart. An operator that has no
                derivative is recorded in place if it has such a name.
        """
        super().__init__(
            schema,
            base.kind,
            base.kernel,
            base.rules if base.rules or grad_fn is None else _no_gradients(schema),
            grad_fn=base._grad_fn if grad_fn is None else grad_fn,
            promotion=base.promotion,
            shape=base.shape,
            flops=base._flops,
            edges_for_numbers=base.edges_for_numbers,
            numbers=base.numbers,
            is_real=base.is_real,
            places=tuple(
                place
                for place in base.places
                if place == "Tensor" or (place == "torch" and schema.name in TORCH_FUNCTIONS)
            ),
            inner=base.inner,
        )
        self.base = base
        self.mutates = True
        self.call = self._reshape if base.is_view else self._call_in_place

    def _call_in_place(self, args: list[Any], template: tuple[Any, ...]) -> Tensor:
        context = current.context
        target: Tensor = args[0]
        raw = args.copy()
        follows = context.grad_enabled and bool(self.rules)
        record = False
        sharing: tuple[int, ...] = ()
        for position in self.tensor_positions:
            held = args[position]
            if held.__class__ is Tensor:
                raw[position] = held.data
                if follows and not record and held.requires_grad:
                    record = position not in self.constant_positions and is_differentiable(
                        target.data.dtype
                    )
                if position and held.version is target.version:
                    sharing = (*sharing, position)
        self._refuse_where_gradients_would_break(target, record, context)
        for position in sharing:
            self._refuse_partial_overlap(target.data, raw[position])
        if self.list_positions:
            self._open_lists(args, raw)
        if self._prepare is not None:
            self._prepare(raw, context)
        try:
            values = np.asarray(self.kernel(*raw))
        except Exception as error:
            raise self.refusal(error, raw) from None
        before = args
        if record and any(rule.saves_argument(0) for rule in self.rules):
            # A rule may need the values that are about to be overwritten.
            kept = Tensor(target.data.copy())
            kept.edge = target.gradient_edge()
            before = [kept, *args[1:]]
        version = 0 if target.is_inference else target.version[0]
        undo = None if context.saved_hooks is None else target.data.copy()
        target.write(values, self.name)
        if record:
            edge = target.edge
            try:
                node = self._record(context, before, template, (target,))
            except Exception:
                if undo is not None:
                    # A saved-tensor hook failed, so this has not happened.
                    np.copyto(target.data, undo)
                    target.version[0] = version
                raise
            if any(_saves(node, position) for position in sharing):
                # What was saved is what has just been overwritten, so no backward can use it.
                node.versions += (target.version, version)
            if target.view is None:
                target.keep_retaining(edge)
            else:
                rebase(target, target.view, node, context)
        return target

    def _refuse_partial_overlap(self, target: np.ndarray, source: np.ndarray) -> None:
        """Refuse a source of which elements, but not all at their places, are the target's."""
        if not (_is_dense(target) and _is_dense(source)):
            return
        one, other = byte_bounds(target), byte_bounds(source)
        if one == other and target.strides == source.strides:
            return
        if one[0] < other[1] and other[0] < one[1]:
            raise EngineError(
                "BAD_VALUE",
                f"{self.name}: some elements of the source are elements that are to be written; "
                "clone() the source first",
                op=self.name,
            )

    def _reshape(self, args: list[Any], template: tuple[Any, ...]) -> Tensor:
        """The path of `t_`, `squeeze_` and the like: the same storage in another shape."""
        context = current.context
        target: Tensor = args[0]
        record = context.grad_enabled and target.requires_grad
        self._refuse_where_gradients_would_break(target, record, context)
        before = Tensor(target.own())
        before.version = target.version
        before.edge = target.gradient_edge()
        raw = [before.data, *args[1:]]
        if self._prepare is not None:
            self._prepare(raw, context)
        try:
            target.data = self.kernel(*raw)
        except Exception as error:
            raise self.refusal(error, raw) from None
        # The accumulator knows the shape of what it accumulates.
        target._accumulator = None
        if not target.is_inference:
            target.version[0] += 1
        view = target.view
        if view is not None:
            view.path = (*view.path, ViewStep(self.base, template, None))
        if record:
            self._record(context, [before, *args[1:]], template, (target,))
            target.keep_retaining(before.edge)
        if view is not None and not target.is_inference:
            view.seen = target.version[0]
        return target

    def _refuse_where_gradients_would_break(
        self, target: Tensor, record: bool, context: Context
    ) -> None:
        if target.is_inference and not context.inference:
            raise EngineError(
                "INFERENCE_TENSOR",
                f"{self.name}: a tensor made in inference mode cannot be changed in place outside "
                f"of it; change a clone(), or use {self.base.name}",
                op=self.name,
            )
        view = target.view
        leaf = target if view is None else view.base
        if context.grad_enabled and leaf.leaf_requires_grad and leaf.edge is None:
            what = "a leaf" if view is None else "a view of a leaf"
            raise EngineError(
                "LEAF_IN_PLACE",
                f"{self.name}: {what} that requires grad cannot be changed in place while "
                f"gradients are recorded; do it under no_grad(), or use {self.base.name}",
                op=self.name,
            )
        if record and view is not None and view.origin is not None:
            raise refusal(view.origin, f"{self.name} would change it in place")
