"""Operators: what a declaration becomes, and the one path that every call takes.

bind -> promote -> kernel -> record. Promotion, broadcasting checks, recording, saving and the
rules of in-place change live here, once, for all operators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gradwire_engine.context import Context, current
from gradwire_engine.dtypes import category, result_dtype
from gradwire_engine.errors import EngineError
from gradwire_engine.interpret import TRACED
from gradwire_engine.node import Node
from gradwire_engine.rules import Rule
from gradwire_engine.saved_hooks import pack_saved
from gradwire_engine.schema import Schema, missing, unexpected
from gradwire_engine.tensor import NO_VERSION, Tensor, ViewStep

Kind = Literal["elementwise", "linear", "bilinear", "general", "composite", "nondiff"]

Promotion = Literal["promote", "float", "same", "keep"]
"""What happens to the dtypes of tensor arguments before the kernel sees them.

promote: cast to their common dtype. float: the same, and integers to the default float dtype.
same: refused unless equal. keep: left alone.
"""

Result = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class TensorHandles:
    """Handles for an argument of type `Tensor[]`, in `Operator.bind`."""

    handles: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bound:
    """A call with its plain arguments checked, waiting for its tensors.

    Attributes:
        template: arguments in schema order, None where a tensor goes.
        slots: `(position, handle)` of the tensors.
        lists: `(position, handles)` of lists of tensors.
    """

    op: Operator
    template: tuple[Any, ...]
    slots: tuple[tuple[int, int], ...]
    lists: tuple[tuple[int, tuple[int, ...]], ...]


class Operator:
    """One operator.

    Attributes:
        name: PyTorch's name, with a trailing underscore for the in-place form.
        kernel: the NumPy function, taking arrays and plain arguments in schema order.
        formula: of a composite, the function of F and the arguments.
        has_kernel: rules on arrays may call the kernel.
        rules: one VJP rule for each differentiable tensor argument.
        numbers: names of tensor arguments that may be plain numbers; by default those of operators
            that promote their arguments.
        defaults: of the arguments, in schema order.
        promotion: of the dtypes of tensor arguments.
        shape: gives the result's shape, to be checked before anything is allocated.
        ufunc: what the kernel is when only tensors and numbers for tensors are given.
        is_pointwise: each element of the result comes from one element of each tensor: of tensors
            of one shape and dtype the result has that shape, and so have the gradients of rules.
        is_real: complex tensors are refused, for which the kernel would give something that means
            nothing.
        constant_positions: of tensor arguments that have no rule: no gradient reaches them.
        edges_for_numbers: nodes have an edge for a tensor argument that was given as a number.
        has_single_result: calls return a tensor, not a tuple.
        places: where an SDK exposes it: "torch", "Tensor" (a method), "nn.functional", ...
        inner: only rules and formulas of other operators call it, with arguments that fit; no
            client does. By default what has no place and a name with a leading underscore.
        in_place: there is an in-place form (`name` + "_").
        mutates: this is an in-place operator: the first argument is its result.
    """

    def __init__(
        self,
        schema: Schema,
        kind: Kind,
        kernel: Callable[..., Any],
        rules: tuple[Rule, ...] = (),
        *,
        grad_fn: str | Callable[..., str] | None = None,
        promotion: Promotion = "keep",
        shape: Callable[..., Sequence[int]] | None = None,
        flops: Callable[..., int] | None = None,
        is_view: bool = False,
        edges_for_numbers: bool = True,
        numbers: tuple[str, ...] | None = None,
        ufunc: np.ufunc | None = None,
        is_pointwise: bool | None = None,
        is_real: bool = False,
        in_place: bool = False,
        places: tuple[str, ...] = ("torch", "Tensor"),
        inner: bool | None = None,
    ) -> None:
        self.schema = schema
        self.name = schema.name
        self.kind = kind
        self.kernel = kernel
        self.formula = kernel
        self.has_kernel = kind != "composite"
        self.rules = rules
        self.places = places
        hidden = not places and schema.name.rpartition(".")[2].startswith("_")
        self.inner = hidden if inner is None else inner
        self.is_view = is_view
        self.in_place = in_place
        self.mutates = False
        self.differentiable = bool(rules) or kind == "composite"
        self.tensor_positions = tuple(i for i, a in enumerate(schema.arguments) if a.is_tensor)
        self.list_positions = tuple(i for i, a in enumerate(schema.arguments) if a.is_tensor_list)
        ruled = [rule.position for rule in rules]
        self.constant_positions = tuple(i for i in self.tensor_positions if i not in ruled)
        self._grad_fn = grad_fn if grad_fn is not None else _default_grad_fn(schema.name)
        self.promotion = promotion
        self.shape = shape
        self._flops = flops
        self.edges_for_numbers = edges_for_numbers
        self.numbers = numbers
        self.ufunc = kernel if ufunc is None and isinstance(kernel, np.ufunc) else ufunc
        self.is_real = is_real
        self.is_pointwise = kind == "elementwise" if is_pointwise is None else is_pointwise
        self._paths: dict[tuple[type, ...], Callable[..., Any]] = {}
        self._paths_as_given: dict[tuple[type, ...], Callable[..., Any] | None] = {}
        self._prepare = self._preparation()
        self.has_single_result = len(schema.results) == 1 and schema.results != ("[]",)
        # On the wire None is what is not given.
        self.defaults = tuple(
            None if a.required and a.optional else a.default for a in schema.arguments
        )
        self.call: Callable[[list[Any], tuple[Any, ...]], Any] = (
            self._call_composite if kind == "composite" else self._call
        )

    def __repr__(self) -> str:
        return f"<operator {self.schema}>"

    def bind(self, inputs: Sequence[int], attributes: Mapping[str, Any]) -> Bound:
        """Check a call's plain arguments and find the places of its tensors.

        Args:
            inputs: handles for the arguments of type Tensor in schema order; 0 for none.
            attributes: the other arguments by name, and numbers given for tensors.

        Raises:
            EngineError: WRONG_ARITY, BAD_ATTRIBUTE.
        """
        template = list(self.defaults)
        slots: list[tuple[int, int]] = []
        lists: list[tuple[int, tuple[int, ...]]] = []
        arguments = self.schema.arguments
        if len(inputs) > len(self.tensor_positions):
            raise EngineError(
                "WRONG_ARITY",
                f"{self.name} takes at most {len(self.tensor_positions)} tensors, "
                f"{len(inputs)} given; its schema is {self.schema}",
                op=self.name,
                given=len(inputs),
            )
        given: set[int] = set()
        for position, handle in zip(self.tensor_positions, inputs, strict=False):
            if handle:
                slots.append((position, handle))
                template[position] = None
                given.add(position)
        for name, value in attributes.items():
            at = self.schema.position(name)
            if at is None:
                raise unexpected(self.schema, name)
            if at in given:
                raise EngineError(
                    "WRONG_ARITY", f"{self.name}: argument '{name}' is given twice", argument=name
                )
            given.add(at)
            argument = arguments[at]
            if argument.is_tensor_list:
                if not isinstance(value, TensorHandles):
                    raise EngineError(
                        "BAD_ATTRIBUTE",
                        f"{self.name}: argument '{name}' must be a list of tensors",
                        argument=name,
                    )
                lists.append((at, value.handles))
                template[at] = None
            elif argument.is_tensor:
                if not self._takes_number(at, value):
                    raise self._not_a_tensor(at, value)
                template[at] = value
            else:
                template[at] = argument.convert(value, self.name)
        if len(given) < len(arguments):
            for at, argument in enumerate(arguments):
                if argument.required and not argument.optional and at not in given:
                    raise missing(self.name, argument)
        if not slots and not lists:
            self._require_takes_no_tensor()
        return Bound(self, tuple(template), tuple(slots), tuple(lists))

    def _takes_number(self, position: int, value: object) -> bool:
        """Whether a plain number may stand for the tensor argument at this position."""
        if not isinstance(value, (bool, int, float, complex)) or (self.mutates and position == 0):
            return False
        if self.numbers is not None:
            return self.schema.arguments[position].name in self.numbers
        return self.promotion in ("promote", "float")

    def _refuse_numbers(self, filled: Sequence[Any]) -> None:
        for at in self.tensor_positions:
            value = filled[at]
            if not (value is None or isinstance(value, Tensor) or self._takes_number(at, value)):
                raise self._not_a_tensor(at, value)

    def _not_a_tensor(self, position: int, value: object) -> EngineError:
        wanted = "a tensor or a number" if self._takes_number(position, 1) else "a tensor"
        name = self.schema.arguments[position].name
        return EngineError(
            "BAD_ATTRIBUTE",
            f"{self.name}: argument '{name}' must be {wanted}, not {value!r}",
            argument=name,
        )

    def _require_takes_no_tensor(self) -> None:
        if not all(self.schema.arguments[p].optional for p in self.tensor_positions):
            raise EngineError(
                "WRONG_ARITY", f"{self.name} needs a tensor among its arguments", op=self.name
            )

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run on tensors and plain arguments, as in the schema.

        Raises:
            EngineError: whatever is wrong with the arguments.
        """
        if not kwargs:
            types = tuple(map(type, args))
            try:
                path = self._paths_as_given[types]
            except KeyError:
                path = self.path(types) if self._are_as_filled(types) else None
                self._paths_as_given[types] = path
            if path is not None:
                return path(*args)
        filled = self.schema.fill(args, kwargs)
        if not self.list_positions and not any(isinstance(a, Tensor) for a in filled):
            self._require_takes_no_tensor()
        if self.numbers is not None:
            self._refuse_numbers(filled)
        return self.apply(*filled)

    def _are_as_filled(self, types: tuple[type, ...]) -> bool:
        """Whether arguments of these types are right, and in their canonical form."""
        arguments = self.schema.arguments
        return (
            self.numbers is None
            and (bool(self.list_positions) or Tensor in types)
            and len(types) <= len(arguments)
            and not any(argument.required for argument in arguments[len(types) :])
            and all(
                argument.type == "Tensor"
                or (not argument.is_list and kind is _CANONICAL.get(argument.type))
                or (argument.optional and kind is type(None))
                for argument, kind in zip(arguments, types, strict=False)
            )
        )

    def apply(self, *args: Any) -> Any:
        """Run on arguments that are known to be right, in schema order; the last may be absent."""
        types = tuple(map(type, args))
        path = self._paths.get(types)
        if path is None:
            path = self.path(types)
        return path(*args)

    def path(self, types: tuple[type, ...]) -> Callable[..., Any]:
        """What runs calls with arguments of these types, in schema order without the last ones.

        Takes the arguments, which are known to be right.
        """
        path = self._paths.get(types)
        if path is None:
            from gradwire_engine.paths import path_of

            path = self._paths[types] = path_of(self, types)
        return path

    def run(self, *args: Any) -> Any:
        """The path of calls for which none is written out."""
        filled = [*args, *self.defaults[len(args) :]]
        template = [None if a.__class__ is Tensor else a for a in filled]
        for position in self.list_positions:
            template[position] = None
        return self.call(filled, tuple(template))

    @property
    def counts_elements(self) -> bool:
        """Whether `flops` is the number of elements of the tensors given, and one."""
        return self._flops is None

    def flops(self, args: Sequence[Any]) -> int:
        """Floating-point operations of a call, estimated from the shapes of its arguments."""
        if self._flops is not None:
            return self._flops(*args)
        work = 1
        for position in self.tensor_positions:
            held = args[position]
            if held.__class__ is Tensor:
                work += held.data.size
        for position in self.list_positions:
            work += sum(held.data.size for held in args[position] if held is not None)
        return work

    def _call(self, args: list[Any], template: tuple[Any, ...]) -> Result:
        """The path of every operator that is not composite and not in-place.

        Args:
            args: in schema order; tensors, lists of tensors, plain values.
            template: the same with None where tensors stand. Kept by the node.
        """
        context = current.context
        raw = args.copy()
        record = False
        for position in self.tensor_positions:
            held = args[position]
            if held.__class__ is Tensor:
                raw[position] = held.data
                constant = position in self.constant_positions
                if held.view is not None:
                    held.refresh()
                    record = record or (held.view.base.requires_grad and not constant)
                if (held.edge is not None or held.leaf_requires_grad) and not constant:
                    record = True
        if self.list_positions:
            record = self._open_lists(args, raw) or record
        if self.is_view:
            raw[0] = args[0].own()
        if self._prepare is not None:
            self._prepare(raw, context)
        try:
            made = self.kernel(*raw)
        except Exception as error:
            raise self.refusal(error, raw) from None
        if not self.has_single_result:
            results = tuple([Tensor(np.asarray(each)) for each in made])
        elif made.__class__ is np.ndarray:
            results = (Tensor(made),)
        else:
            results = (Tensor(np.asarray(made)),)
        if self.is_view:
            self._link_views(results, args[0], template, context)
        elif context.inference:
            for each in results:
                each.version = NO_VERSION
        if (
            record
            and self.rules
            and context.grad_enabled
            and results
            and results[0].data.dtype.kind in "fc"
        ):
            self._record(context, args, template, results)
        return results[0] if self.has_single_result else results

    def _link_views(
        self,
        results: tuple[Tensor, ...],
        source: Tensor,
        template: tuple[Any, ...],
        context: Context,
    ) -> None:
        for nr, each in enumerate(results):
            if self.rules:
                step = ViewStep(self, template, None if self.has_single_result else nr)
                each.as_view_of(source, step, context)
            else:
                # detach(): the storage and the counter are shared, the graph is not.
                each.version = source.version

    def _call_composite(self, args: list[Any], template: tuple[Any, ...]) -> Any:
        return self.formula(TRACED, *args)

    def _open_lists(self, args: list[Any], raw: list[Any]) -> bool:
        record = False
        for position in self.list_positions:
            items = args[position]
            raw[position] = [None if item is None else item.data for item in items]
            record = record or any(item is not None and item.requires_grad for item in items)
        return record

    def refusal(self, error: Exception, raw: Sequence[Any]) -> Exception:
        """What NumPy says against the arguments, as an EngineError; others as they are."""
        for kinds, reason in _REFUSALS:
            if isinstance(error, kinds):
                arrays = [value for value in raw if isinstance(value, (np.ndarray, list))]
                given = ", ".join(_describe(value) for value in arrays)
                return EngineError(
                    reason, f"{self.name}: {error} (given {given})", op=self.name, given=given
                )
        if isinstance(error, MemoryError):
            return EngineError(
                "LIMIT_EXCEEDED",
                f"{self.name}: not enough memory for the result",
                limit="memory",
                op=self.name,
            )
        return error

    def _preparation(self) -> Callable[[list[Any], Context], None] | None:
        """What brings arguments to one dtype and refuses shapes that do not fit, in place."""
        of_dtypes: Callable[[list[Any], Context], None] | None = {
            "promote": self._promote,
            "float": self._promote,
            "same": self._require_same_dtype,
            "keep": None,
        }[self.promotion]
        if self.is_real:
            of_dtypes = self._real(of_dtypes)
        shape = self.shape
        if shape is None:
            return of_dtypes

        def prepare(raw: list[Any], context: Context) -> None:
            if of_dtypes is not None:
                of_dtypes(raw, context)
            try:
                made = shape(*raw)
            except ValueError as error:
                raise self.refusal(error, raw) from None
            context.admit(made, self.name)

        return prepare

    def _real(
        self, then: Callable[[list[Any], Context], None] | None
    ) -> Callable[[list[Any], Context], None]:
        """What refuses complex tensors and then does the rest."""

        def prepare(raw: list[Any], context: Context) -> None:
            for position in self.tensor_positions:
                held = raw[position]
                kind = getattr(held, "dtype", context.default_dtype).kind
                if kind == "c" or isinstance(held, complex):
                    raise EngineError(
                        "DTYPE_MISMATCH",
                        f"{self.name}: complex numbers have no order; use real(), imag() or abs()",
                        argument=self.schema.arguments[position].name,
                        op=self.name,
                    )
            if then is not None:
                then(raw, context)

        return prepare

    def _promote(self, raw: list[Any], context: Context) -> None:
        to_float = self.promotion == "float"
        kinds = "fc" if to_float else "fciub"
        operands = [raw[p] for p in self.tensor_positions if raw[p] is not None]
        # What most calls are, and what needs nothing: one tensor, a tensor and a number of its
        # category, two tensors of one dtype and shape.
        first = operands[0]
        if first.__class__ is np.ndarray:
            dtype = first.dtype
            if len(operands) == 1:
                if dtype.kind in kinds:
                    return
            elif len(operands) == 2:
                second = operands[1]
                if second.__class__ is np.ndarray:
                    if dtype is second.dtype and dtype.kind in kinds:
                        if first.shape != second.shape:
                            self._admit_broadcast(operands, context)
                        return
                elif dtype.kind == "f" and second.__class__ in _REAL_NUMBERS:
                    return
        target = result_dtype(operands, context.default_dtype)
        if to_float and category(target) < 2:
            target = context.default_dtype
        for position in self.tensor_positions:
            held = raw[position]
            if held.__class__ is np.ndarray:
                raw[position] = held.astype(target, copy=False)
            elif held is not None and target.kind in "iu" and isinstance(held, bool):
                raw[position] = int(held)
        self._admit_broadcast(operands, context)

    def _admit_broadcast(self, operands: Sequence[Any], context: Context) -> None:
        shapes = [held.shape for held in operands if held.__class__ is np.ndarray]
        try:
            shape = np.broadcast_shapes(*shapes)
        except ValueError:
            text = " and ".join(str(shape) for shape in shapes)
            raise EngineError(
                "SHAPE_MISMATCH",
                f"{self.name}: shapes {text} do not broadcast; compared from the last dimension, "
                "sizes must be equal, or one of them 1",
                op=self.name,
                shapes=text,
            ) from None
        context.admit(shape, self.name)

    def _require_same_dtype(self, raw: Sequence[Any], context: Context) -> None:
        dtypes = [raw[p].dtype for p in self.tensor_positions if isinstance(raw[p], np.ndarray)]
        if any(dtype != dtypes[0] for dtype in dtypes):
            text = ", ".join(str(dtype) for dtype in dtypes)
            raise EngineError(
                "DTYPE_MISMATCH",
                f"{self.name}: all tensors must have the same dtype, not {text}; convert with to()",
                op=self.name,
                dtypes=text,
            )

    def grad_fn_name(self, template: Sequence[Any]) -> str:
        """PyTorch's name of the node that a call with these plain arguments records."""
        return self._grad_fn if isinstance(self._grad_fn, str) else self._grad_fn(*template)

    @property
    def grad_fn(self) -> str:
        """The name of its nodes; empty if it has none or if it depends on the arguments."""
        fixed = isinstance(self._grad_fn, str) and bool(self.rules)
        return str(self._grad_fn) if fixed else ""

    def _record(
        self,
        context: Context,
        args: Sequence[Any],
        template: tuple[Any, ...],
        results: tuple[Tensor, ...],
    ) -> Node:
        """Make the node of a call and let its results point to it."""
        edges: list[Any] = []
        saved: list[Any] = []
        versions: list[Any] = []
        rules = self.rules
        if self.list_positions:
            rules = self._record_lists(args, results, edges, saved, versions)
        else:
            for rule in rules:
                held = args[rule.position]
                if held.__class__ is Tensor:
                    edge = held.edge
                    if edge is None and held.leaf_requires_grad:
                        edge = held.gradient_edge()
                    edges.append(edge)
                    saved.append(None if edge is None else rule.capture(args, results, versions, 0))
                else:
                    edges.append(None)
                    saved.append(None)
            if not self.edges_for_numbers:
                rules, edges, saved = _without_numbers(rules, args, edges, saved)
        outputs = tuple([(each.data.shape, each.data.dtype) for each in results])
        node = Node.of(
            self,
            template,
            context.next_id(),
            tuple(edges),
            rules,
            tuple(saved),
            tuple(versions),
            outputs,
        )
        if context.saved_hooks is not None:
            pack_saved(node, args, results, context.saved_hooks)
        for nr, (_, dtype) in enumerate(outputs):
            if dtype.kind in "fc":
                results[nr].edge = (node, nr)
        return node

    def _record_lists(
        self,
        args: Sequence[Any],
        results: tuple[Tensor, ...],
        edges: list[Any],
        saved: list[Any],
        versions: list[Any],
    ) -> tuple[Rule, ...]:
        rules: list[Rule] = []
        for rule in self.rules:
            items = args[rule.position] if rule.is_list else [args[rule.position]]
            for nr, held in enumerate(items):
                edge = held.gradient_edge() if isinstance(held, Tensor) else None
                rules.append(rule)
                edges.append(edge)
                saved.append(None if edge is None else rule.capture(args, results, versions, nr))
        return tuple(rules)


def _without_numbers(
    rules: tuple[Rule, ...], args: Sequence[Any], edges: list[Any], saved: list[Any]
) -> tuple[tuple[Rule, ...], list[Any], list[Any]]:
    """Drop the edges of arguments given as numbers, where PyTorch's overload has none for them."""
    given = [args[rule.position] for rule in rules]
    if not any(isinstance(each, (bool, int, float, complex)) for each in given):
        return rules, edges, saved
    kept = [i for i, each in enumerate(given) if isinstance(each, Tensor)]
    return tuple(rules[i] for i in kept), [edges[i] for i in kept], [saved[i] for i in kept]


_REAL_NUMBERS = (float, int)

_CANONICAL = {"int": int, "float": float, "bool": bool, "str": str}
"""The types of plain arguments that are left as they are."""

_REFUSALS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (np.exceptions.AxisError, "DIM_OUT_OF_RANGE"),
    (IndexError, "INDEX_OUT_OF_RANGE"),
    ((ValueError, np.linalg.LinAlgError), "SHAPE_MISMATCH"),
    (TypeError, "DTYPE_MISMATCH"),
    (OverflowError, "BAD_VALUE"),
)
"""What an exception of NumPy means, the first that fits."""


def _default_grad_fn(name: str) -> str:
    """AddBackward0 for add, SoftmaxBackward0 for _softmax, LogSoftmaxBackward0 for _log_softmax."""
    words = name.partition(".")[0].strip("_").split("_")
    return "".join(word[:1].upper() + word[1:] for word in words) + "Backward0"


def _describe(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_describe(item) for item in value) + "]"
    return "none" if value is None else f"{value.dtype}{list(value.shape)}"
