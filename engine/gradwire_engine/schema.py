"""Schema strings: the name, arguments, defaults and results of an operator.

The form is that of PyTorch's own declarations:

    sum(Tensor self, int[]? dim=None, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor
    max.dim(Tensor self, int dim, bool keepdim=False) -> (Tensor values, Tensor indices)

An argument of type `Tensor` also takes a plain number; `int[]` also takes one int.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Final

import numpy as np

from gradwire_engine.errors import EngineError


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED: Final = _Required()

_SIGNATURE = re.compile(r"^([\w.]+)\((.*)\) -> (.+)$")
_ARGUMENT = re.compile(
    r"^(Tensor|ScalarType|Scalar|Order|int|float|bool|str)(\??\[\])?(\?)? (\w+)(?:=(.+))?$"
)


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a schema.

    `type` is the element's: `Tensor`, `Scalar`, `ScalarType`, `Order` (of a norm: a number or a
    word), `int`, `float`, `bool` or `str`;
    `holes` says that elements of the list may be None (`Tensor?[]`).
    """

    name: str
    type: str
    is_list: bool
    optional: bool
    default: object
    keyword_only: bool
    holes: bool = False

    @property
    def is_tensor(self) -> bool:
        """A single tensor goes here."""
        return self.type == "Tensor" and not self.is_list

    @property
    def is_tensor_list(self) -> bool:
        """A list of tensors goes here."""
        return self.type == "Tensor" and self.is_list

    @property
    def required(self) -> bool:
        """There is no default."""
        return self.default is REQUIRED

    def __str__(self) -> str:
        brackets = ("?" if self.holes else "") + "[]" if self.is_list else ""
        text = f"{self.type}{brackets}{'?' if self.optional else ''} {self.name}"
        return text if self.required else f"{text}={_show_default(self.default)}"

    def convert(self, value: object, op: str) -> object:
        """The value in its canonical form: lists as tuples, dtypes as `np.dtype`.

        Raises:
            EngineError: BAD_ATTRIBUTE if the value is not of this argument's type.
        """
        if value is None and self.optional:
            return None
        try:
            if not self.is_list:
                return _CONVERT[self.type](value)
            items = value if isinstance(value, (tuple, list)) else (value,)
            return tuple(_CONVERT[self.type](item) for item in items)
        except (TypeError, ValueError):
            wanted = str(self).split(" ", 1)[0]
            raise EngineError(
                "BAD_ATTRIBUTE",
                f"{op}: argument '{self.name}' must be {wanted}, not "
                f"{type(value).__name__} ({value!r})",
                argument=self.name,
                op=op,
                expected=wanted,
                value=value,
            ) from None


@dataclass(frozen=True, slots=True)
class Schema:
    """A parsed schema string. `name` has the overload's name where there is one: `max.dim`."""

    name: str
    arguments: tuple[Argument, ...]
    results: tuple[str, ...]

    def __str__(self) -> str:
        parts: list[str] = []
        for argument in self.arguments:
            if argument.keyword_only and "*" not in parts:
                parts.append("*")
            parts.append(str(argument))
        results = (
            ", ".join(f"Tensor {name}" if name else "Tensor" for name in self.results)
            if self.results != ("[]",)
            else "Tensor[]"
        )
        if len(self.results) > 1:
            results = f"({results})"
        return f"{self.name}({', '.join(parts)}) -> {results}"

    def position(self, name: str) -> int | None:
        """Where the argument of this name stands; None if there is none."""
        for index, argument in enumerate(self.arguments):
            if argument.name == name:
                return index
        return None

    def fill(self, args: tuple[object, ...], kwargs: dict[str, object]) -> list[object]:
        """Arguments in schema order, defaults filled in, values in their canonical form.

        Raises:
            EngineError: WRONG_ARITY, BAD_ATTRIBUTE.
        """
        if len(args) > len(self.arguments):
            raise EngineError(
                "WRONG_ARITY",
                f"{self.name} takes at most {len(self.arguments)} arguments, {len(args)} given",
                op=self.name,
                given=len(args),
            )
        filled: list[object] = []
        for argument, value in zip(self.arguments, args, strict=False):
            filled.append(
                value if argument.type == "Tensor" else argument.convert(value, self.name)
            )
        for argument in self.arguments[len(args) :]:
            if argument.name in kwargs:
                value = kwargs.pop(argument.name)
                converted = argument.type == "Tensor"
                filled.append(value if converted else argument.convert(value, self.name))
            elif argument.required:
                raise missing(self.name, argument)
            else:
                filled.append(argument.default)
        if kwargs:
            raise unexpected(self, next(iter(kwargs)))
        return filled


def missing(op: str, argument: Argument) -> EngineError:
    """The error for a required argument that is not given."""
    return EngineError(
        "WRONG_ARITY",
        f"{op}: argument '{argument.name}' ({argument.type}) is required and not given",
        argument=argument.name,
        op=op,
    )


def unexpected(schema: Schema, name: str) -> EngineError:
    """The error for an argument that the operator does not have."""
    return EngineError(
        "BAD_ATTRIBUTE",
        f"{schema.name} has no argument '{name}'; its schema is {schema}",
        argument=name,
        op=schema.name,
    )


def parse_schema(text: str) -> Schema:
    """Parse a schema string; a ValueError names the part that is wrong."""
    match = _SIGNATURE.match(text)
    if match is None:
        raise ValueError(f"not a schema: {text!r}")
    name, inside, returns = match.groups()
    arguments: list[Argument] = []
    keyword_only = False
    for part in _split(inside):
        if part == "*":
            keyword_only = True
            continue
        found = _ARGUMENT.match(part)
        if found is None:
            raise ValueError(f"not an argument: {part!r} in {text!r}")
        kind, brackets, optional, argument_name, default = found.groups()
        arguments.append(
            Argument(
                argument_name,
                kind,
                bool(brackets),
                bool(optional),
                REQUIRED if default is None else _parse_default(default),
                keyword_only,
                brackets == "?[]",
            )
        )
    if returns == "Tensor[]":
        results: tuple[str, ...] = ("[]",)
    else:
        results = tuple(part.removeprefix("Tensor").strip() for part in _split(returns.strip("()")))
    return Schema(name, tuple(arguments), results)


def _split(text: str) -> list[str]:
    """Split at commas outside of brackets."""
    parts: list[str] = []
    depth = start = 0
    for index, char in enumerate(text):
        depth += (char in "[(") - (char in "])")
        if char == "," and depth == 0:
            parts.append(text[start:index].strip())
            start = index + 1
    if text[start:].strip():
        parts.append(text[start:].strip())
    return parts


def _parse_default(text: str) -> object:
    value = ast.literal_eval(text)
    return tuple(value) if isinstance(value, list) else value


def _show_default(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else repr(value)


def _scalar(value: object) -> bool | int | float | complex:
    if isinstance(value, (bool, int, float, complex)):
        return value
    raise TypeError


def _order(value: object) -> bool | int | float | str:
    if isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError


def _int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def _float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError
    return float(value)


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _str(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _dtype(value: object) -> np.dtype:
    if not isinstance(value, np.dtype):
        raise TypeError
    return value


_CONVERT = {
    "Tensor": lambda value: value,
    "Scalar": _scalar,
    "ScalarType": _dtype,
    "Order": _order,
    "int": _int,
    "float": _float,
    "bool": _bool,
    "str": _str,
}
