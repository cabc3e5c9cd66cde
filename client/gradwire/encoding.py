"""Recorded steps as bytes, the very same that protobuf would write.

Operators are written by hand, which takes half of the time that filling messages does; and a loop
records the same few again and again, so operators in a row go as one step of columns.
"""

import functools
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from gradwire.attributes import set_attribute
from gradwire.modes import UnderHooks
from gradwire.recorder import Attribute, AttributeValue, Entry, Handles, OpEntry
from gradwire.v1 import autograd_pb2 as pb
from gradwire.wire import delimited, varint

_LEAST: Final = 8
"""So many operators in a row are worth a step of columns."""

_NUMBERS: Final = frozenset({int, float})

_STEPS: Final = b"\x12"  # Sequence.steps
_STEP_OP: Final = b"\x0a"  # Step.op
_STEP_OPS: Final = b"\xca\x01"  # Step.ops
_STEP_GRAD_MODE: Final = b"\x78"  # Step.grad_mode
_STEP_SAVED_HOOKS: Final = b"\xa8\x01"  # Step.saved_hooks
_OPS_FORMS: Final = b"\x0a"  # Ops.forms
_OP_NAME: Final = b"\x0a"  # Op.name
_OP_INPUTS: Final = b"\x12"  # Op.inputs, packed
_OP_OUTPUT: Final = b"\x18"  # Op.output
_OP_ATTRIBUTES: Final = b"\x22"  # Op.attributes
_ATTRIBUTE_NAME: Final = b"\x0a"  # Attribute.name
_INT_VALUE: Final = b"\x18"  # Attribute.int_value
_DOUBLE_VALUE: Final = b"\x21"  # Attribute.double_value
_double: Final = struct.Struct("<d").pack


@functools.lru_cache(maxsize=4096)
def _op_name(name: str) -> bytes:
    return delimited(_OP_NAME, name.encode())


@functools.lru_cache(maxsize=4096)
def _attribute_name(name: str) -> bytes:
    return delimited(_ATTRIBUTE_NAME, name.encode())


@functools.lru_cache(maxsize=4096, typed=True)
def _number(name: str, value: int | float) -> bytes:
    """A number as an element of Op.attributes. Not for zeros: equal ones have different signs."""
    return _attribute(name, value)


def delimited_step(step: bytes) -> bytes:
    """An encoded step as an element of Sequence.steps, or of Program.steps."""
    return delimited(_STEPS, step)


def encode_steps(entries: Sequence[Entry]) -> list[bytes]:
    """Entries as elements of Sequence.steps; operators in a row become one step."""
    steps: list[bytes] = []
    done = 0
    for start, end in _rows(entries):
        steps += [_encode(each) for each in entries[done:start]]
        steps.append(_encode_row(entries[start:end]))
        done = end
    steps += [_encode(each) for each in entries[done:]]
    return steps


def first_entries(entries: Sequence[Entry]) -> list[int]:
    """For each step that entries become, the index of its first, or only, entry."""
    firsts: list[int] = []
    done = 0
    for start, end in _rows(entries):
        firsts += range(done, start + 1)
        done = end
    firsts += range(done, len(entries))
    return firsts


def entry_at(
    entries: Sequence[Entry], metadata: Mapping[str, str], key: str = "step", call_key: str = "call"
) -> int | None:
    """The index of the entry that an error is about; None if it is about none of them.

    Args:
        entries: What was sent.
        metadata: Of the error.
        key: Under which it has the step, ...
        call_key: ... and the call in that step, if it is an Ops.
    """
    step, call = metadata.get(key, ""), metadata.get(call_key, "0")
    if not (step.isdecimal() and call.isdecimal()):
        return None
    firsts = first_entries(entries)
    at = firsts[int(step)] + int(call) if int(step) < len(firsts) else len(entries)
    return at if at < len(entries) else None


def _rows(entries: Sequence[Entry]) -> list[tuple[int, int]]:
    """Where operators of one grad mode stand in a row that is worth a step of columns."""
    rows: list[tuple[int, int]] = []
    start = 0
    row: object = None
    for at, entry in enumerate(entries):
        mode = entry[5] if len(entry) > 2 else None
        if mode is None or mode != row or mode.__class__ is not int:
            if at - start >= _LEAST:
                rows.append((start, at))
            start = at
        row = mode
    if len(entries) - start >= _LEAST:
        rows.append((start, len(entries)))
    return rows


def _encode(entry: Entry) -> bytes:
    if len(entry) > 2:
        return encode_op(entry)
    return delimited(_STEPS, entry[0].SerializeToString())


def _encode_row(entries: Sequence[Any]) -> bytes:
    """Operators as an Ops step: what calls have in common once, and the rest by columns."""
    forms: dict[object, int] = {}
    messages: list[bytes] = []
    calls: list[int] = []
    handles: list[int] = []
    for name, inputs, output, _, attributes, _, _, _ in entries:
        key: object = None
        if not attributes:
            key = (name, len(inputs))
        elif len(attributes) == 1:
            ((argument, value),) = attributes
            # Equal numbers of different classes are different arguments, and zeros have signs.
            if value and value.__class__ in _NUMBERS:
                key = (name, len(inputs), argument, value, value.__class__)
        if key is None or 0 in inputs:
            message = key = _form(name, inputs, attributes)
        else:
            message = b""
        form = forms.get(key)
        if form is None:
            form = forms[key] = len(messages)
            messages.append(message or _form(name, inputs, attributes))
        calls.append(form)
        handles += inputs
        for _, value in attributes:
            if isinstance(value, Handles):
                handles += value
        handles.append(output)
    ops = b"".join([delimited(_OPS_FORMS, each) for each in messages])
    ops += pb.Ops(calls=calls, handles=handles).SerializeToString()
    mode = entries[0][5]
    step = _mode(mode) + delimited(_STEP_OPS, ops)
    return delimited_step(step)


def _form(name: str, inputs: tuple[int, ...], attributes: tuple[Attribute, ...]) -> bytes:
    """A call without its handles: 1 stands for each, and 0 for none."""
    there = tuple([int(each != 0) for each in inputs])
    masked = [
        (argument, Handles([int(handle != 0) for handle in value]))
        if isinstance(value, Handles)
        else (argument, value)
        for argument, value in attributes
    ]
    return _op(name, there, 0, masked)


def _mode(mode: int) -> bytes:
    """The fields of a step that say how it is recorded."""
    if isinstance(mode, UnderHooks):
        return _STEP_SAVED_HOOKS + varint(mode.hooks)
    return _STEP_GRAD_MODE + varint(mode) if mode else b""


def encode_op(entry: OpEntry) -> bytes:
    """An operator as an element of Sequence.steps."""
    name, inputs, output, _, attributes, mode, _, _ = entry
    step = delimited(_STEP_OP, _op(name, inputs, output, attributes))
    return delimited(_STEPS, step + _mode(mode) if mode else step)


def _op(name: str, inputs: Sequence[int], output: int, attributes: Iterable[Attribute]) -> bytes:
    op = _op_name(name)
    if len(inputs) == 1:
        handles = varint(inputs[0])
    elif len(inputs) == 2:
        handles = varint(inputs[0]) + varint(inputs[1])
    else:
        handles = b"".join([varint(each) for each in inputs])
    if handles:
        op += delimited(_OP_INPUTS, handles)
    if output:
        op += _OP_OUTPUT + varint(output)
    for attribute, value in attributes:
        is_kept = value and value.__class__ in _NUMBERS
        op += (_number if is_kept else _attribute)(attribute, value)
    return op


def _attribute(name: str, value: AttributeValue) -> bytes:
    """An argument as an element of Op.attributes."""
    content = _attribute_name(name)
    kind = value.__class__
    if kind is float:
        content += _DOUBLE_VALUE + _double(value)
    elif kind is int and value >= 0:  # type: ignore[operator]
        content += _INT_VALUE + varint(value)  # type: ignore[arg-type]
    else:
        message = pb.Attribute()
        set_attribute(message, value)
        content += message.SerializeToString()
    return delimited(_OP_ATTRIBUTES, content)
