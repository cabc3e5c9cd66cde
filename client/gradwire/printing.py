"""Tensors as text, laid out as PyTorch lays them out."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from gradwire import dtypes, reading
from gradwire.codec import Array, Info
from gradwire.modes import no_grad

if TYPE_CHECKING:
    from gradwire.tensors import Tensor

_PRECISION: Final = 4
_THRESHOLD: Final = 1000
"""Tensors of more elements than this are summarized."""
_EDGE: Final = 3
_WIDTH: Final = 80
_PREFIX: Final = "tensor("


def show(tensor: "Tensor") -> str:
    """A tensor as text: `tensor([3.], grad_fn=<AddBackward0>)`. One round trip unless known.

    Two for a large tensor, of which only those elements are fetched that a summary shows.
    """
    info, value = reading.info_and_small_value_of(tensor)
    if value is None:
        (value,) = reading.values_of([_cut_to_edges(tensor, info.shape)])
    return show_value(value, info)


def _cut_to_edges(tensor: "Tensor", shape: Sequence[int]) -> "Tensor":
    with no_grad():
        for axis, size in enumerate(shape):
            if size > 2 * _EDGE:
                kept = tensor.session.tensor(_kept(size))
                tensor = tensor[(slice(None),) * axis + (kept,)]
    return tensor


def show_value(value: Array, info: Info) -> str:
    """A value with its metadata as text; of a large one, the elements that are shown suffice."""
    suffixes: list[str] = []
    usual = (dtypes.get_default_dtype(), dtypes.default_complex(), dtypes.int64, dtypes.bool_)
    if not value.size and value.ndim != 1:
        suffixes.append(f"size={value.shape}")
    if info.dtype not in usual or (not value.size and info.dtype is not usual[0]):
        suffixes.append(f"dtype={info.dtype}")
    if info.grad_fn is not None:
        suffixes.append(f"grad_fn=<{info.grad_fn.name}>")
    elif info.requires_grad:
        suffixes.append("requires_grad=True")
    return _with_suffixes(_PREFIX + _contents(value, info.shape), suffixes)


def _with_suffixes(text: str, suffixes: Sequence[str]) -> str:
    parts = [text]
    last = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if last + len(suffix) + 2 > _WIDTH:
            parts.append(",\n" + " " * len(_PREFIX) + suffix)
            last = len(_PREFIX) + len(suffix)
        else:
            parts.append(", " + suffix)
            last += len(suffix) + 2
    return "".join(parts) + ")"


def _contents(value: Array, shape: Sequence[int]) -> str:
    if not value.size:
        return "[]"
    if math.prod(shape) > _THRESHOLD:
        for axis, size in enumerate(value.shape):
            if size > 2 * _EDGE:
                value = value.take(_kept(size), axis)
    parts = (value.real, value.imag) if value.dtype.kind == "c" else (value,)
    return _nested(value, shape, len(_PREFIX), tuple(_Format(part) for part in parts))


def _kept(size: int) -> list[int]:
    """Where along a dimension the elements stand that a summary shows."""
    return [*range(_EDGE), *range(size - _EDGE, size)]


class _Format:
    """How the numbers of a tensor are written, all alike."""

    def __init__(self, values: Array) -> None:
        self._is_float = values.dtype.kind == "f"
        self._whole = True
        self._scientific = False
        self.width = 1
        numbers = values.ravel()
        if not self._is_float:
            self.width = max(len(str(number)) for number in numbers.tolist())
            return
        wide = numbers.astype(np.float64)
        finite = wide[np.isfinite(wide) & (wide != 0)]
        if not finite.size:
            return
        least, most = np.abs(finite).min(), np.abs(finite).max()
        self._whole = bool((finite == np.ceil(finite)).all())
        self._scientific = bool(most / least > 1000 or most > 1e8 or least < 1e-4)
        texts = [self._number(number) for number in finite.tolist()]
        self.width = max(1, *map(len, texts))

    def __call__(self, number: bool | int | float) -> str:
        text = self._number(number) if self._is_float else str(number)
        return text.rjust(self.width)

    def _number(self, number: float) -> str:
        if self._scientific:
            return f"{number:.{_PRECISION}e}"
        if self._whole:
            return f"{number:.0f}." if math.isfinite(number) else f"{number:.0f}"
        return f"{number:.{_PRECISION}f}"


def _nested(value: Array, shape: Sequence[int], indent: int, formats: tuple[_Format, ...]) -> str:
    """The value as nested lists, with dots where it lacks elements of the whole tensor's shape."""
    if value.ndim == 0:
        return _element(value.item(), formats)
    skips = value.shape[0] < shape[0]
    if value.ndim == 1:
        return _vector(value, indent, skips, formats)
    rows = [_nested(row, shape[1:], indent + 1, formats) for row in value]
    if skips:
        rows.insert(_EDGE, "...")
    return "[" + ("," + "\n" * (value.ndim - 1) + " " * (indent + 1)).join(rows) + "]"


def _vector(value: Array, indent: int, skips: bool, formats: tuple[_Format, ...]) -> str:
    width = sum(each.width for each in formats) + len(formats) + 1
    per_line = max(1, (_WIDTH - indent) // width)
    texts = [_element(number, formats) for number in value.tolist()]
    if skips:
        texts.insert(_EDGE, " ...")
    lines = [", ".join(texts[at : at + per_line]) for at in range(0, len(texts), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def _element(number: complex, formats: tuple[_Format, ...]) -> str:
    if len(formats) == 1:
        return formats[0](number)  # type: ignore[arg-type]
    imaginary = (formats[1](number.imag) + "j").lstrip()
    sign = "" if imaginary[0] in "+-" else "+"
    return formats[0](number.real) + sign + imaginary
