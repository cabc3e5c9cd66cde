"""The call path of an operator, written out for the kinds of arguments that calls bring.

`Operator._call` serves every call there may be. Most calls need little of it: their tensors are no
views, agree in dtype and shape, and their number of arguments never changes. For these a function
is written as source, once for an operator and the types of its arguments, without a loop and with
nothing to look up; what it was not written for it leaves to `Operator.call`, before it has done
anything. No text of a client gets into the source: arguments are `a0`, `a1`, ...
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradwire_engine.context import current
from gradwire_engine.node import Node, only_of
from gradwire_engine.numbers import numbers32, numbers64
from gradwire_engine.rules import Param, Rule
from gradwire_engine.saved_hooks import pack_saved
from gradwire_engine.tensor import Tensor, ViewStep

if TYPE_CHECKING:
    from gradwire_engine.operator import Operator

Path = Callable[..., Any]
"""Runs an operator on arguments in schema order, of which the last may be left out."""

_NUMBERS: Final = (float, int)


def path_of(op: Operator, types: tuple[type, ...]) -> Path:
    """The path of calls whose arguments are of these types."""
    if not _can_be_written(op, types):
        return op.run
    return _compiled(op, _source(op, types), types)


def _can_be_written(op: Operator, types: tuple[type, ...]) -> bool:
    if op.kind == "composite" or op.mutates or op.list_positions:
        return False
    if op.is_view and not (op.rules and len(op.tensor_positions) == 1):
        return False
    if not op.has_single_result or Tensor not in types:
        return False
    given = types[: len(op.schema.arguments)]
    for position in op.tensor_positions:
        kind = given[position] if position < len(given) else type(None)
        admitted = kind is Tensor or kind is type(None)
        if not admitted and not (kind in _NUMBERS and op.promotion in ("promote", "float")):
            return False
    return True


def _source(op: Operator, types: tuple[type, ...]) -> str:
    """The text of a path: check, compute, wrap, record."""
    count = len(op.schema.arguments)
    tensors = [p for p in op.tensor_positions if p < len(types) and types[p] is Tensor]
    numbers = [p for p in op.tensor_positions if p < len(types) and types[p] in _NUMBERS]
    ufunc = op.ufunc if all(p in tensors + numbers for p in range(len(types))) else None
    names = [f"a{p}" for p in range(count)]
    parameters = [n if p < len(types) else f"{n}=defaults[{p}]" for p, n in enumerate(names)]
    first = tensors[0]
    lines = [f"def path({', '.join(parameters)}):"]
    lines += [f"    d{p} = a{p}.data" for p in tensors]

    # A view that stands where its base stands in the graph is a tensor like any other.
    unfit = [
        f"a{p}.view is not None and (a{p}.edge is None or a{p}.view.seen != a{p}.version[0])"
        for p in tensors
    ]
    if op.is_view:
        unfit.append(f"not d{first}.flags.writeable")
    if op.promotion != "keep" or op.is_pointwise or op.is_real or ufunc is not None:
        lines.append(f"    t = d{first}.dtype")
    if op.promotion != "keep":
        unfit += [f"d{p}.dtype is not t" for p in tensors[1:]]
    # Of other dtypes some are refused, perhaps by a kernel in whose place a ufunc runs.
    is_refused = op.is_real or (ufunc is not None and ufunc is not op.kernel)
    if op.promotion in ("promote", "float") or is_refused:
        unfit.append("t is not float32 and t is not float64")
    if op.promotion in ("promote", "float") and len(tensors) > 1:
        lines.append(f"    s = d{first}.shape")
        if len(tensors) == 2:
            lines.append(f"    is_even = d{tensors[1]}.shape == s")
            unfit.append(f"not (is_even or expands(s, d{tensors[1]}.shape))")
        else:
            unfit += [f"d{p}.shape != s" for p in tensors[1:]]
    lines += [
        "    context = current.context",
        "    if context.inference or " + " or ".join(unfit) + ":",
        f"        return careful({', '.join(names)})",
    ]

    raw = [f"d{p}" if p in tensors else n for p, n in enumerate(names)]
    operands = raw
    if ufunc is not None:
        operands = [f"n{p}" if p in numbers else f"d{p}" for p in range(len(types))]
        for p in numbers:
            lines.append(f"    n{p} = numbers32[a{p}] if t is float32 else numbers64[a{p}]")
    lines.append("    try:")
    if op.shape is not None:
        lines.append(f"        context.admit(shape({', '.join(raw)}), name)")
    lines += [
        f"        made = {'ufunc' if ufunc is not None else 'kernel'}({', '.join(operands)})",
        "    except Exception as error:",
        f"        raise refusal(error, [{', '.join(raw)}]) from None",
        "    if made.__class__ is not ndarray:",
        "        made = asarray(made)",
        "    result = new(Tensor)",
        "    result.data = made",
        "    result.edge = result.view = result.grad = result.hooks = result._accumulator = None",
        "    result.leaf_requires_grad = False",
    ]
    if op.is_view:
        step = f"ViewStep(op, {_template(op, types, tensors)}, None)"
        lines.append(f"    result.as_view_of(a{first}, {step}, context)")
    else:
        lines.append("    result.version = [0]")
    if op.rules:
        keeps_dtype = ufunc is not None and _keeps_dtype(ufunc)
        lines += _recording(op, types, tensors, keeps_dtype)
    lines.append("    return result")
    return "\n".join(lines) + "\n"


def _expands(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether one of two shapes ends as the other, and so is what they broadcast to."""
    more = len(one) - len(other)
    return one[more:] == other if more >= 0 else other[-more:] == one


def _rules_of(op: Operator, types: tuple[type, ...]) -> tuple[Rule, ...]:
    """The rules of a node: without those of numbers, where PyTorch has no edge for these."""
    if op.edges_for_numbers:
        return op.rules
    numbers = {position for position, kind in enumerate(types) if kind in _NUMBERS}
    return tuple(rule for rule in op.rules if rule.position not in numbers)


def _keeps_dtype(ufunc: np.ufunc) -> bool:
    """Whether it makes float32 of float32, and float64 of float64."""
    return all(f"{char * ufunc.nin}->{char}" in ufunc.types for char in "fd")


def _recording(
    op: Operator, types: tuple[type, ...], tensors: list[int], keeps_dtype: bool
) -> list[str]:
    rules = _rules_of(op, types)
    ruled = [p for p in tensors if any(rule.position == p for rule in rules)]
    if not ruled:
        return []
    lines = ["    if context.grad_enabled:"]
    for p in ruled:
        lines += [
            f"        e{p} = a{p}.edge",
            f"        if e{p} is None and a{p}.leaf_requires_grad:",
            f"            e{p} = a{p}.gradient_edge()",
        ]
    some = " or ".join(f"e{p} is not None" for p in ruled)
    lines.append(f"        if {some}:")
    arguments = [f"a{p}" for p in range(len(op.schema.arguments))]
    edges = [f"e{rule.position}" if rule.position in ruled else "None" for rule in rules]
    made = [
        *_outputs(op, ruled, tensors, keeps_dtype),
        *_kept(rules, ruled, types, tensors),
        "node = Node()",
        "node.op = op",
        f"node.template = {_template(op, types, tensors)}",
        "node.id = context.last_id = context.last_id + 1",
        f"node.edges = {_tuple(edges)}",
        "node.only = only",
        "node.rules = rules",
        "node.saved = saved",
        "node.versions = versions",
        "node.outputs = outputs",
        "node.hooks = None",
        "if context.saved_hooks is not None:",
        f"    pack_saved(node, [{', '.join(arguments)}], (result,), context.saved_hooks)",
        "result.edge = (node, 0)",
    ]
    return lines + [f"            {line}" for line in made]


def _outputs(op: Operator, ruled: list[int], tensors: list[int], keeps_dtype: bool) -> list[str]:
    """Find the type of the result: `Node.outputs`."""
    promotes = op.promotion in ("promote", "float")
    # Where it is known to be the type of an operand, the two share one tuple of it.
    conditions = []
    if promotes and keeps_dtype:
        lines = []
        fresh = "outputs = ((made.shape, t),)"
    else:
        lines = [
            "u = made.dtype",
            f"if {'u is not t and ' if promotes else ''}u.kind not in 'fc':",
            "    return result",
        ]
        fresh = "outputs = ((made.shape, u),)"
        conditions.append("u is t")
    if not (op.is_pointwise and (promotes or len(tensors) == 1) and ruled == tensors):
        return [*lines, fresh]
    if len(tensors) == 2:
        conditions.append("is_even")
    shared = [
        f"like = {' or '.join([f'e{p}' for p in ruled])}",
        "outputs = like[0].outputs",
        "if len(outputs) != 1:",
        "    outputs = (outputs[like[1]],)",
    ]
    if not conditions:
        return lines + shared
    return [
        *lines,
        f"if {' and '.join(conditions)}:",
        *[f"    {line}" for line in shared],
        "else:",
        f"    {fresh}",
    ]


def _kept(
    rules: tuple[Rule, ...], ruled: list[int], types: tuple[type, ...], tensors: list[int]
) -> list[str]:
    """Find `only`, `saved` and `versions` of a node, by which of its edges there are."""

    def kept(there: list[int]) -> str:
        saved: list[str] = []
        versions: list[str] = []
        edges: list[int] = []
        for nr, rule in enumerate(rules):
            if rule.position not in there:
                saved.append("None")
                continue
            values, counters = _captured(rule, types, tensors)
            edges.append(nr)
            saved.append(_tuple(values))
            versions += [f"{counter}, {counter}[0]" for counter in counters]
        only = only_of(edges, rules)
        return f"only, saved, versions = {only}, {_tuple(saved)}, {_tuple(versions)}"

    lines: list[str] = []
    for count in range(1, len(ruled)):
        for there in combinations(ruled, count):
            absent = " is ".join([f"e{p}" for p in ruled if p not in there])
            lines += [f"{'elif' if lines else 'if'} {absent} is None:", f"    {kept([*there])}"]
    if not lines:
        return [kept(ruled)]
    return [*lines, "else:", f"    {kept(ruled)}"]


def _template(op: Operator, types: tuple[type, ...], tensors: list[int]) -> str:
    if all(p in tensors for p in range(len(types))):
        return "template"
    values = ["None" if p in tensors else f"a{p}" for p in range(len(types))]
    return _tuple(values + [f"defaults[{p}]" for p in range(len(types), len(op.defaults))])


def _tuple(values: list[str]) -> str:
    return "(" + "".join(f"{value}, " for value in values) + ")"


def _captured(
    rule: Rule, types: tuple[type, ...], tensors: list[int]
) -> tuple[list[str], list[str]]:
    """What a rule keeps, as expressions; and the counters of what must not change till then."""
    values: list[str] = []
    counters: list[str] = []
    for (kind, at), _ in rule.params:
        is_tensor = at in tensors
        match kind:
            case Param.PLAIN:
                values.append(f"a{at}")
            case Param.NUMBER:
                values.append("0")
            case Param.RESULT:
                values.append("made")
                counters.append("result.version")
            case Param.ARGUMENT:
                values.append(f"d{at}" if is_tensor else f"a{at}")
                if is_tensor:
                    counters.append(f"a{at}.version")
            case Param.SHAPE:
                values.append(f"d{at}.shape" if is_tensor else "()")
            case Param.DTYPE:
                values.append(f"d{at}.dtype" if is_tensor else "None")
    return values, counters


def _compiled(op: Operator, source: str, types: tuple[type, ...]) -> Path:
    names: dict[str, Any] = {
        "op": op,
        "name": op.name,
        "kernel": op.kernel,
        "ufunc": op.ufunc,
        "shape": op.shape,
        "rules": _rules_of(op, types),
        "careful": op.run,
        "refusal": op.refusal,
        "defaults": op.defaults,
        "template": tuple(
            None if p < len(types) and types[p] is Tensor else default
            for p, default in enumerate(op.defaults)
        ),
        "numbers32": numbers32,
        "numbers64": numbers64,
        "current": current,
        "expands": _expands,
        "pack_saved": pack_saved,
        "new": object.__new__,
        "Tensor": Tensor,
        "ViewStep": ViewStep,
        "Node": Node,
        "ndarray": np.ndarray,
        "asarray": np.asarray,
        "float32": np.dtype(np.float32),
        "float64": np.dtype(np.float64),
    }
    exec(compile(source, f"<path of {op.name}>", "exec"), names)
    path: Path = names["path"]
    return path
