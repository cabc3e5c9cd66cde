"""The call path of an operator, written out for the kinds of arguments that calls bring.

`Operator._call` serves every call there may be. Most calls need little of it: their tensors are no
views, agree in dtype and shape, and their number of arguments never changes. For these a function
is written as source, once for an operator and the types of its arguments, without a loop and with
nothing to look up; what it was not written for it leaves to `Operator.call`, before it has done
anything. No text of a client gets into the source: arguments are `a0`, `a1`, ...
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradwire_engine.context import current
from gradwire_engine.node import Node
from gradwire_engine.numbers import number_array, numbers32, numbers64
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
            lines += [
                f"    n{p} = (numbers32 if t is float32 else numbers64).get(a{p})",
                f"    if n{p} is None:",
                f"        n{p} = number_array(a{p}, t)",
            ]
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
        lines += _recording(op, types, tensors)
    lines.append("    return result")
    return "\n".join(lines) + "\n"


def _rules_of(op: Operator, types: tuple[type, ...]) -> tuple[Rule, ...]:
    """The rules of a node: without those of numbers, where PyTorch has no edge for these."""
    if op.edges_for_numbers:
        return op.rules
    numbers = {position for position, kind in enumerate(types) if kind in _NUMBERS}
    return tuple(rule for rule in op.rules if rule.position not in numbers)


def _recording(op: Operator, types: tuple[type, ...], tensors: list[int]) -> list[str]:
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
    lines += [f"        if {some}:", "            u = made.dtype"]
    same_shape = op.promotion in ("promote", "float") or len(tensors) == 1
    keeps_type = op.is_pointwise and same_shape and ruled == tensors
    if op.promotion not in ("promote", "float"):
        lines += ["            if u.kind not in 'fc':", "                return result"]
    else:
        lines += [
            "            if u is not t and u.kind not in 'fc':",
            "                return result",
        ]
    indent = "            "
    if keeps_type:
        lines += [f"{indent}if u is t:"]
        chain = "if"
        for p in ruled:
            lines += [
                f"{indent}    {chain} e{p} is not None:",
                f"{indent}        outputs = e{p}[0].outputs",
                f"{indent}        if len(outputs) != 1:",
                f"{indent}            outputs = (outputs[e{p}[1]],)",
            ]
            chain = "elif"
        lines += [f"{indent}else:", f"{indent}    outputs = ((made.shape, u),)"]
    else:
        lines.append(f"{indent}outputs = ((made.shape, u),)")

    several = len(ruled) > 1
    saved: list[str] = []
    versions: list[tuple[int, str]] = []
    for rule in rules:
        if rule.position not in ruled:
            saved.append("None")
            continue
        values, counters = _captured(rule, types, tensors)
        text = _tuple(values)
        saved.append(f"{text} if e{rule.position} is not None else None" if several else text)
        versions += [(rule.position, counter) for counter in counters]
    if several and versions:
        lines.append(f"{indent}versions = ()")
        for position, counter in versions:
            lines += [
                f"{indent}if e{position} is not None:",
                f"{indent}    versions += ({counter}, {counter}[0])",
            ]
    pairs = _tuple([f"{counter}, {counter}[0]" for _, counter in versions])
    arguments = [f"a{p}" for p in range(len(op.schema.arguments))]
    edges = [f"e{rule.position}" if rule.position in ruled else "None" for rule in rules]
    lines += [
        f"{indent}node = new(Node)",
        f"{indent}node.op = op",
        f"{indent}node.template = {_template(op, types, tensors)}",
        f"{indent}node.id = context.next_id()",
        f"{indent}node.edges = {_tuple(edges)}",
        f"{indent}node.only = {_only(ruled, edges)}",
        f"{indent}node.rules = rules",
        f"{indent}node.saved = {_tuple(saved)}",
        f"{indent}node.versions = {'versions' if several and versions else pairs}",
        f"{indent}node.outputs = outputs",
        f"{indent}node.hooks = None",
        f"{indent}if context.saved_hooks is not None:",
        f"{indent}    pack_saved(node, [{', '.join(arguments)}], (result,), context.saved_hooks)",
        f"{indent}result.edge = (node, 0)",
    ]
    return lines


def _only(ruled: list[int], edges: list[str]) -> str:
    """Which edge is the only one; -1 if there are several."""
    if len(ruled) == 1:
        return str(edges.index(f"e{ruled[0]}"))
    if len(ruled) > 2:
        return "-1"
    first, second = (f"e{p}" for p in ruled)
    at, other = edges.index(first), edges.index(second)
    return f"{at} if {second} is None else {other} if {first} is None else -1"


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
        "number_array": number_array,
        "numbers32": numbers32,
        "numbers64": numbers64,
        "current": current,
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
