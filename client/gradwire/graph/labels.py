"""The words on a graph's nodes, the same in every form."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Final, Literal

from gradwire.graph.model import (
    AttributeValue,
    Edge,
    Intermediate,
    Leaf,
    Node,
    Op,
    Result,
    TensorType,
)
from gradwire.units import time_text

Sort = Literal["leaf", "op", "intermediate", "result"]
"""Which sort of node, in a word."""

_INFIX: Final = {
    ("add", "other"): "+{}",
    ("sub", "other"): "-{}",
    ("rsub", "other"): "{}-",
    ("mul", "other"): "*{}",
    ("div", "other"): "/{}",
    ("pow", "exponent"): "**{}",
    ("pow", "self"): "{}**",
}
"""How arithmetic with one plain number is written, as the user wrote it."""


def sort_of(node: Node) -> Sort:
    """Which sort a node is of."""
    match node:
        case Leaf():
            return "leaf"
        case Op():
            return "op"
        case Intermediate():
            return "intermediate"
        case Result():
            return "result"


def heading(node: Node) -> str:
    """The first line: a tensor's name; an operator's, with its number where it has just one."""
    if not isinstance(node, Op):
        return clean(node.name) or (f"tensor {node.handle}" if node.handle else "tensor")
    title = _title(node)
    infix = _infix(node)
    return f"{title} ({infix})" if infix else title


def details(node: Node) -> tuple[str, ...]:
    """The other lines: an operator's grad_fn name, arguments and outputs; a tensor's type."""
    match node:
        case Op():
            lines = [clean(node.name)]
            if node.attributes and not _infix(node):
                lines.append(arguments(node))
            lines += [_outputs(node.outputs), times(node)]
            return tuple(line for line in lines if line)
        case Leaf():
            return _leaf_type(node) if node.requires_grad else (*_leaf_type(node), _flag(node))
        case Intermediate() | Result():
            return (str(node.type),)


def one_line(node: Node) -> str:
    """Everything worth a terminal's line."""
    words = heading(node)
    match node:
        case Op():
            if node.attributes and not _infix(node):
                words += f" ({arguments(node)})"
            return "  ".join(
                part
                for part in (words, clean(node.name), _outputs(node.outputs), times(node))
                if part
            )
        case Leaf():
            return "  ".join((words, *_leaf_type(node), f"leaf, {_flag(node)}"))
        case Intermediate() | Result():
            return "  ".join((words, *details(node)))


def tooltip(node: Node) -> str:
    """All that is known of a node, a fact a line."""
    lines = [heading(node)]
    match node:
        case Op():
            lines.append(f"{clean(node.name)}, node {node.id}")
            lines += [f"{clean(name)} = {_written(value)}" for name, value in node.attributes]
            many = len(node.outputs) > 1
            lines += [
                f"output {number}: {type_}" if many else f"output: {type_}"
                for number, type_ in enumerate(node.outputs)
            ]
            if node.constant_inputs:
                numbers = ", ".join(map(str, node.constant_inputs))
                lines.append(f"no gradient to input {numbers}")
            if times(node):
                lines.append(times(node))
            if node.released:
                lines.append("values kept for backward were released")
            if not node.outputs:
                lines.append("beyond the depth that was asked for")
        case Leaf():
            lines += [f"leaf, {_flag(node)}", *_leaf_type(node)]
            if node.id:
                lines.append(f"AccumulateGrad, node {node.id}")
            lines += _handle(node.handle)
        case Intermediate():
            lines += [*details(node), *_handle(node.handle)]
        case Result():
            lines += ["result", *details(node), *_handle(node.handle)]
    return "\n".join(lines)


def edge_tooltip(edge: Edge, nodes: Mapping[str, Node]) -> str:
    """Where a value comes from and goes to: "Split, output 1 → Mm, input 0"."""
    source, target = nodes[edge.source], nodes[edge.target]
    words = heading(source)
    if isinstance(source, Op) and len(source.outputs) > 1:
        words += f", output {edge.output_nr}"
    words += f" → {heading(target)}"
    return f"{words}, input {edge.input_nr}" if isinstance(target, Op) else words


def arguments(op: Op) -> str:
    """The plain arguments as one would write them in a call: "dim=[1], keepdim=True"."""
    return ", ".join(f"{clean(name)}={_written(value)}" for name, value in op.attributes)


def times(op: Op) -> str:
    """What was profiled of it: "forward 1.06 ms, backward 140 µs"; "" if nothing was."""
    told = (("forward", op.forward_ns), ("backward", op.backward_ns))
    return ", ".join(f"{what} {time_text(time)}" for what, time in told if time)


def clean(text: str) -> str:
    """The text on one line, with a mark for each character that a picture cannot show."""
    return "".join(
        character if character.isprintable() else "�" for character in " ".join(text.split())
    )


def cells(text: str) -> int:
    """Columns that a text takes in a fixed-width font."""
    return sum(
        0
        if unicodedata.combining(character)
        else 2
        if unicodedata.east_asian_width(character) in "WF"
        else 1
        for character in text
    )


def shortened(text: str, columns: int) -> str:
    """The text, cut with an ellipsis to at most so many columns."""
    if cells(text) <= columns:
        return text
    while cells(text) >= columns:
        text = text[:-1]
    return text + "…"


def _title(op: Op) -> str:
    """The operator's name in capitals and lower case: "Add", "LogSoftmax", "Max.dim"."""
    if not op.op or op.op.startswith("_"):
        # An operator of the server's own stands for the one that its node is named after.
        return re.sub(r"Backward\d*$", "", clean(op.name)) or "?"
    name, dot, overload = clean(op.op).partition(".")
    in_place = "_" if name.endswith("_") else ""
    camel = "".join(word[:1].upper() + word[1:] for word in name.split("_"))
    return f"{camel}{in_place}{dot}{overload}"


def _infix(op: Op) -> str:
    """Arithmetic with a plain number: "+2"; "" for anything else."""
    if len(op.attributes) != 1:
        return ""
    ((name, value),) = op.attributes
    form = _INFIX.get((op.op.removesuffix("_"), name))
    if form is None or not isinstance(value, int | float | complex):
        return ""
    written = _written(value)
    return form.format(f"({written})" if written.startswith("-") else written)


def _outputs(outputs: tuple[TensorType, ...]) -> str:
    if len(outputs) < 2:
        return "".join(map(str, outputs))
    if len(set(outputs)) == 1:
        return f"{len(outputs)} × {outputs[0]}"
    return f"{outputs[0]} and {len(outputs) - 1} more"


def _written(value: AttributeValue) -> str:
    match value:
        case str():
            return clean(value)
        case tuple():
            return f"[{', '.join(map(repr, value))}]"
        case _:
            return repr(value)


def _flag(leaf: Leaf) -> str:
    return "requires_grad" if leaf.requires_grad else "requires_grad=False"


def _leaf_type(leaf: Leaf) -> tuple[str, ...]:
    return (str(leaf.type),) if leaf.type else ()


def _handle(handle: int) -> list[str]:
    return [f"handle {handle}"] if handle else []
