"""In-place operators: the base operator's kernel and rules, and a result that is its argument."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwire_engine.context import Context, current
from gradwire_engine.dtypes import is_differentiable
from gradwire_engine.errors import EngineError
from gradwire_engine.operator import Operator
from gradwire_engine.schema import Schema
from gradwire_engine.tensor import Tensor
from gradwire_engine.views import rebase, refusal


class InPlaceOperator(Operator):
    """The in-place form of an operator: computes as `base`, writes to the first argument."""

    def __init__(self, base: Operator, schema: Schema) -> None:
        super().__init__(
            schema,
            base.kind,
            base.kernel,
            base.rules,
            grad_fn=base._grad_fn,
            promotion=base._promotion,
            shape=base._shape,
            flops=base._flops,
            edges_for_numbers=base._edges_for_numbers,
            numbers=base._numbers,
            places=tuple(place for place in base.places if place == "Tensor"),
        )
        self.base = base
        self.mutates = True
        self.call = self._call_in_place

    def _call_in_place(self, args: list[Any], template: tuple[Any, ...]) -> Tensor:
        context = current.context
        target: Tensor = args[0]
        record = context.grad_enabled and (
            any(isinstance(a, Tensor) and a.requires_grad for a in args)
            and is_differentiable(target.data.dtype)
        )
        self._refuse_where_gradients_would_break(target, record, context)
        raw = [a.data if isinstance(a, Tensor) else a for a in args]
        if self.list_positions:
            self._open_lists(args, raw)
        if self._prepare is not None:
            self._prepare(raw, context)
        try:
            values = np.asarray(self.kernel(*raw))
        except Exception as error:
            raise self._refusal(error, raw) from None
        before = args
        if record and any(rule.saves_argument(0) for rule in self.rules):
            # A rule may need the values that are about to be overwritten.
            kept = Tensor(target.data.copy())
            kept.edge = target.gradient_edge()
            before = [kept, *args[1:]]
        target.write(values, self.name)
        if record:
            edge = target.edge
            node = self._record(context, before, template, (target,))
            if target.view is None:
                target.keep_retaining(edge)
            else:
                rebase(target, target.view, node, context)
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
