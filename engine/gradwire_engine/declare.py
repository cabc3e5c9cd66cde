"""How operators are declared: one function a kind, which derives the rest.

A derivative names what it needs by its parameters; see `gradwire_engine.rules`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from numpy import ndarray

from gradwire_engine.in_place import InPlaceOperator
from gradwire_engine.interpret import RAW
from gradwire_engine.numbers import number_array
from gradwire_engine.operator import Kind, Operator
from gradwire_engine.registry import register
from gradwire_engine.rules import Rule, joint_rules
from gradwire_engine.schema import Schema, parse_schema

Functions = Callable[..., Any] | Mapping[str, Callable[..., Any]]
"""One function for the first tensor argument, or functions by argument name.

A name may be several, `"input weight bias"`: a joint function of these.
"""


def elementwise(
    schema: str,
    kernel: Callable[..., Any],
    d: Functions | None = None,
    *,
    vjp: Functions | None = None,
    **options: Any,
) -> Operator:
    """An operator that maps each element alone, over broadcast arguments.

    Args:
        d: derivative by each argument, as a function `(F, ...)`; the gradient is g·conj(d).
        vjp: `(F, g, ...)` where that product is not the best form, or not the truth.
    """
    functions = vjp if vjp is not None else d
    if functions is None:
        raise ValueError(f"{schema}: a derivative is needed")
    parsed = parse_schema(schema)
    if vjp is None:
        functions = {name: _slope(f) for name, f in _by_argument(parsed, functions).items()}
    options.setdefault("promotion", "promote")
    return _declare(parsed, "elementwise", kernel, functions, **options)


def linear(
    schema: str, kernel: Callable[..., Any], transpose: Functions, **options: Any
) -> Operator:
    """An operator that is linear in its tensors together; `transpose` is `(F, g, ...)`."""
    return _declare(parse_schema(schema), "linear", kernel, transpose, **options)


def bilinear(
    schema: str, kernel: Callable[..., Any], adjoints: Functions, **options: Any
) -> Operator:
    """An operator linear in each of two tensors; `adjoints` are `(F, g, ...)` by argument."""
    return _declare(parse_schema(schema), "bilinear", kernel, adjoints, **options)


def general(schema: str, kernel: Callable[..., Any], vjp: Functions, **options: Any) -> Operator:
    """Any other differentiable operator; `vjp` is `(F, g, ...)` by argument."""
    return _declare(parse_schema(schema), "general", kernel, vjp, **options)


def composite(
    schema: str,
    formula: Callable[..., Any],
    *,
    kernel: Callable[..., Any] | None = None,
    **options: Any,
) -> Operator:
    """An operator written with others: `formula(F, *arguments)`.

    Args:
        kernel: what rules on arrays call instead of the formula, where NumPy has it.
    """
    op = _declare(parse_schema(schema), "composite", kernel or formula, {}, **options)
    op.formula = formula
    op.has_kernel = kernel is not None
    return op


def nondiff(schema: str, kernel: Callable[..., Any], **options: Any) -> Operator:
    """An operator whose result never requires grad."""
    return _declare(parse_schema(schema), "nondiff", kernel, {}, **options)


def mutating(
    schema: str, formula: Callable[..., Any], places: tuple[str, ...] = ("Tensor",)
) -> Operator:
    """An in-place operator that is no other's in-place form: `formula(F, *arguments)`."""
    op = Operator(parse_schema(schema), "composite", formula, places=places)
    op.has_kernel = False
    op.mutates = True
    return register(op)


def filling(
    schema: str,
    kernel: Callable[..., Any],
    grad_fn: str | Callable[..., str],
    *,
    numbers: tuple[str, ...] = (),
) -> Operator:
    """An in-place operator that keeps nothing of what it overwrites, and has no other form.

    The gradient of its result goes nowhere, and so does that of what it is filled by.
    """
    parsed = parse_schema(schema)
    first = parsed.arguments[0].name
    base = Operator(
        Schema(parsed.name.removesuffix("_"), parsed.arguments, parsed.results),
        "nondiff",
        kernel,
        (Rule(parsed, first, lambda F, g: F.zeros_like(g)),),
        numbers=numbers,
    )
    return register(InPlaceOperator(base, parsed, grad_fn))


def _declare(
    schema: Schema,
    kind: Kind,
    kernel: Callable[..., Any],
    functions: Functions,
    *,
    in_place: bool = False,
    in_place_only: bool = False,
    in_place_grad_fn: str | Callable[..., str] | None = None,
    **options: Any,
) -> Operator:
    by_argument = _by_argument(schema, functions)
    rules: list[Rule] = []
    for names, function in by_argument.items():
        if " " in names:
            rules += joint_rules(schema, names.split(), function)
        else:
            rules.append(Rule(schema, names, function))
    rules.sort(key=lambda rule: rule.position)
    op = Operator(schema, kind, kernel, tuple(rules), in_place=in_place or in_place_only, **options)
    register(op)
    if op.in_place:
        name, dot, overload = schema.name.partition(".")
        renamed = Schema(f"{name}_{dot}{overload}", schema.arguments, schema.results)
        register(InPlaceOperator(op, renamed, in_place_grad_fn))
    if in_place_only:
        op.places = ()
    return op


def _by_argument(schema: Schema, functions: Functions) -> dict[str, Callable[..., Any]]:
    if isinstance(functions, Mapping):
        return dict(functions)
    first = next(a.name for a in schema.arguments if a.type == "Tensor")
    return {first: functions}


def _slope(d: Callable[..., Any]) -> Callable[..., Any]:
    """The VJP of a derivative, with the same parameters after `F, g`."""
    _, *rest = inspect.signature(d).parameters
    # Written out, for packing arguments and unpacking them again costs as much as a small product.
    parameters, arguments = ", ".join(["F", "g", *rest]), ", ".join(["F", *rest])
    source = f"lambda {parameters}: times(F, g, d({arguments}))"
    pull: Callable[..., Any] = eval(source, {"times": _times_slope, "d": d})
    return pull


def _times_slope(F: Any, g: Any, slope: Any) -> Any:
    """g·conj(slope)."""
    kind = slope.__class__
    if kind is ndarray:
        if slope.dtype.kind == "c":
            slope = F.conj(slope)
    elif kind is float or kind is int or kind is bool:
        if F is RAW:
            slope = number_array(slope, g.dtype)
    elif kind is complex:
        slope = slope.conjugate()
    elif slope.dtype.kind == "c":
        slope = F.conj(slope)
    return g * slope
