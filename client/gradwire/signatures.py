"""What a compiled function was traced for, and telling whether a call is of the same kind."""

import dis
from collections.abc import Callable, Iterator, Sequence
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradwire import tensors as _tensors
from gradwire.dtypes import dtype as Dtype
from gradwire.errors import ArgumentError
from gradwire.func.tree import flatten

if TYPE_CHECKING:
    from gradwire.tensors import Tensor

_PLAIN: Final = (bool, int, float, complex, str, bytes, Dtype)
"""Types whose values are compared; other objects must be the very same."""

_FIXED: Final = (ModuleType, FunctionType, BuiltinFunctionType, type)
"""What is looked at no more: names that programs do not give to something else."""

Tensors = Sequence["Tensor"]


class _Place:
    """Stands among the leaves of the arguments where a tensor does."""


def split(args: tuple[Any, ...], kwargs: dict[str, Any]) -> "tuple[Tensors, Any]":
    """The tensors among the arguments of a call, and what else there is to tell of them.

    Raises:
        TypeError: an argument is an array.
    """
    Tensor = _tensors.Tensor
    if not kwargs:
        for each in args:
            if not isinstance(each, Tensor):
                break
        else:
            return args, len(args)
    leaves, structure = flatten((args, kwargs))
    found = [each for each in leaves if isinstance(each, Tensor)]
    rest = tuple([_Place if isinstance(each, Tensor) else each for each in leaves])
    if any(isinstance(each, np.ndarray) for each in rest):
        raise ArgumentError(
            "a compiled function takes tensors, not arrays, whose values would be fixed in its "
            "program; pass gradwire.tensor(array)"
        )
    return found, (structure, rest)


def same_rest(one: Any, other: Any) -> bool:
    """Whether what `split` tells besides the tensors is the same."""
    if isinstance(one, int) or isinstance(other, int):
        return isinstance(one, int) and isinstance(other, int) and one == other
    return one[0] == other[0] and all(is_same(a, b) for a, b in zip(one[1], other[1], strict=True))


def is_same(one: object, other: object) -> bool:
    """Whether a function that used one of two values would do the same with the other."""
    if one is other:
        return True
    return type(one) is type(other) and isinstance(one, _PLAIN) and one == other


def pattern(tensors: Tensors) -> tuple[int, ...]:
    """For each tensor the first place where the same one stands."""
    first: dict[int, int] = {}
    return tuple([first.setdefault(each._handle, at) for at, each in enumerate(tensors)])


class Surroundings:
    """The variables around a function that its code names."""

    __slots__ = ("_cells", "_globals", "_names")

    def __init__(self, function: Callable[..., Any]) -> None:
        found = getattr(function, "__func__", function)
        self._cells: tuple[CellType, ...] = ()
        self._globals: dict[str, Any] = {}
        self._names: tuple[str, ...] = ()
        if isinstance(found, FunctionType):
            self._cells = found.__closure__ or ()
            self._globals = found.__globals__
            self._names = tuple(dict.fromkeys(_global_names(found.__code__)))

    def now(self) -> "Seen":
        """What they are now."""
        cells = [(cell, _content(cell)) for cell in self._cells]
        names = [(name, self._globals.get(name)) for name in self._names]
        return Seen(
            [(cell, value) for cell, value in cells if not isinstance(value, _FIXED)],
            self._globals,
            [(name, value) for name, value in names if not isinstance(value, _FIXED)],
        )


class Seen:
    """The variables around a function as they once were."""

    __slots__ = ("_cells", "_globals", "_names")

    def __init__(
        self,
        cells: list[tuple[CellType, object]],
        found: dict[str, Any],
        names: list[tuple[str, object]],
    ) -> None:
        self._cells = cells
        self._globals = found
        self._names = names

    def holds(self) -> bool:
        """Whether they are what they were."""
        for cell, value in self._cells:
            now = _content(cell)
            if now is not value and not is_same(now, value):
                return False
        for name, value in self._names:
            now = self._globals.get(name)
            if now is not value and not is_same(now, value):
                return False
        return True


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _global_names(code: CodeType) -> Iterator[str]:
    waiting = [code]
    while waiting:
        code = waiting.pop()
        for instruction in dis.get_instructions(code):
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                yield instruction.argval
        waiting += [each for each in code.co_consts if isinstance(each, CodeType)]
