"""Trees: nested tuples, lists and dicts, as functions take and give them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Leaf:
    """The place of one value in a structure."""

    def __str__(self) -> str:
        return "*"


@dataclass(frozen=True, slots=True)
class Branch:
    """A container in a structure.

    Attributes:
        kind: `tuple`, `list`, `dict`, or a class of named tuples.
        keys: of a dict, in its order; empty for the others.
        children: the structures of its items.
    """

    kind: type
    keys: tuple[Any, ...]
    children: tuple[Structure, ...]

    def __str__(self) -> str:
        if self.kind is dict:
            pairs = zip(self.keys, self.children, strict=True)
            return f"{{{', '.join(f'{key!r}: {child}' for key, child in pairs)}}}"
        inner = ", ".join(str(child) for child in self.children)
        if self.kind is list:
            return f"[{inner}]"
        text = f"({inner}{',' if len(self.children) == 1 else ''})"
        return text if self.kind is tuple else f"{self.kind.__name__}{text}"


Structure = Leaf | Branch

LEAF = Leaf()


def flatten(value: Any) -> tuple[list[Any], Structure]:
    """The leaves of a tree, in order, and what they were taken out of."""
    leaves: list[Any] = []
    return leaves, _flatten(value, leaves)


def _flatten(value: Any, leaves: list[Any]) -> Structure:
    kind = type(value)
    if kind is dict:
        children = tuple(_flatten(each, leaves) for each in value.values())
        return Branch(dict, tuple(value), children)
    if kind in (tuple, list) or _is_named(kind):
        return Branch(kind, (), tuple(_flatten(each, leaves) for each in value))
    leaves.append(value)
    return LEAF


def unflatten(leaves: Sequence[Any], structure: Structure) -> Any:
    """The tree of a structure with these leaves."""
    return _unflatten(iter(leaves), structure)


def _unflatten(leaves: Iterator[Any], structure: Structure) -> Any:
    match structure:
        case Leaf():
            return next(leaves)
        case Branch(kind, keys, children):
            items = [_unflatten(leaves, child) for child in children]
            if kind is dict:
                return dict(zip(keys, items, strict=True))
            return kind(*items) if _is_named(kind) else kind(items)


def tree_map(function: Callable[[Any], Any], value: Any) -> Any:
    """The tree with a function of each leaf in its place."""
    leaves, structure = flatten(value)
    return unflatten([function(each) for each in leaves], structure)


def _is_named(kind: type) -> bool:
    return issubclass(kind, tuple) and hasattr(kind, "_fields")
