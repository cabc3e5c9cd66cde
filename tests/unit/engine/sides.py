"""One case, two sides: the same few lines run on the engine and on torch, and must agree.

A case is a function of a side, `m`, and gives what it wants compared: arrays, names, flags. A
refusal is compared too: torch must raise, and the engine must refuse with the reason given.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import pytest
import torch

from gradwire_engine import EngineError, Tensor, backward, grad, grad_mode, operators

Values = Any


class Side(Protocol):
    """What a case may use. Every other attribute is an operator of that name."""

    def tensor(self, values: Values, *, grad: bool = False, dtype: str = "float32") -> Any: ...
    def backward(self, tensor: Any, gradient: Any = None, **options: Any) -> None: ...
    def grad(self, outputs: Any, inputs: Any, grads: Any = None, **options: Any) -> Any: ...
    def no_grad(self) -> AbstractContextManager[Any]: ...
    def array(self, tensor: Any) -> Any: ...
    def version(self, tensor: Any) -> int: ...
    def name(self, tensor: Any) -> str | None: ...
    def names(self, *tensors: Any) -> list[str]: ...
    def set_requires_grad(self, tensor: Any, value: bool) -> None: ...
    def set_grad(self, tensor: Any, value: Any) -> None: ...
    def __getattr__(self, operator: str) -> Callable[..., Any]: ...


class EngineSide:
    """The engine under torch's habits."""

    def tensor(self, values: Values, *, grad: bool = False, dtype: str = "float32") -> Tensor:
        return Tensor.from_array(np.array(values, dtype), requires_grad=grad)

    def backward(self, tensor: Tensor, gradient: Tensor | None = None, **options: Any) -> None:
        backward([tensor], [gradient], **options)

    def grad(self, outputs: Any, inputs: Any, grads: Any = None, **options: Any) -> Any:
        return grad(_listed(outputs), _listed(inputs), grads and _listed(grads), **options)

    def no_grad(self) -> AbstractContextManager[None]:
        return grad_mode(False)

    def array(self, tensor: Tensor | None) -> np.ndarray | None:
        return None if tensor is None else tensor.data.copy()

    def version(self, tensor: Tensor) -> int:
        return tensor.version[0]

    def name(self, tensor: Tensor) -> str | None:
        return None if tensor.grad_fn is None else tensor.grad_fn.name

    def names(self, *tensors: Tensor) -> list[str]:
        return _walk([tensor.grad_fn for tensor in tensors], lambda node: str(node.name))

    def set_requires_grad(self, tensor: Tensor, value: bool) -> None:
        tensor.set_requires_grad(value)

    def set_grad(self, tensor: Tensor, value: Tensor | None) -> None:
        tensor.set_grad(value)

    def __getattr__(self, operator: str) -> Any:
        return operators[operator.replace("__", ".")]


class TorchSide:
    """Torch, with operators found wherever it keeps them."""

    def tensor(self, values: Values, *, grad: bool = False, dtype: str = "float32") -> torch.Tensor:
        return torch.tensor(values, dtype=getattr(torch, dtype), requires_grad=grad)

    def backward(self, tensor: Any, gradient: Any = None, **options: Any) -> None:
        tensor.backward(gradient, **options)

    def grad(self, outputs: Any, inputs: Any, grads: Any = None, **options: Any) -> Any:
        return torch.autograd.grad(outputs, inputs, grads, **options)

    def no_grad(self) -> AbstractContextManager[Any]:
        return torch.no_grad()

    def array(self, tensor: Any) -> np.ndarray | None:
        return None if tensor is None else tensor.detach().resolve_conj().numpy(force=True).copy()

    def version(self, tensor: Any) -> int:
        return int(tensor._version)

    def name(self, tensor: Any) -> str | None:
        return None if tensor.grad_fn is None else _torch_name(tensor.grad_fn)

    def names(self, *tensors: Any) -> list[str]:
        return _walk([tensor.grad_fn for tensor in tensors], _torch_name)

    def set_requires_grad(self, tensor: Any, value: bool) -> None:
        tensor.requires_grad_(value)

    def set_grad(self, tensor: Any, value: Any) -> None:
        tensor.grad = value

    def __getattr__(self, operator: str) -> Any:
        module, _, rest = operator.partition("__")
        if rest and hasattr(torch, module) and module in ("linalg", "special", "fft"):
            return getattr(getattr(torch, module), rest)
        for place in (torch, torch.Tensor, torch.nn.functional):
            if hasattr(place, module):
                return getattr(place, module)
        raise AttributeError(operator)


ENGINE: Side = EngineSide()
TORCH: Side = TorchSide()


def _torch_name(node: Any) -> str:
    return str(node.name()).removeprefix("torch::autograd::")


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _walk(roots: Sequence[Any], name_of: Callable[[Any], str]) -> list[str]:
    """Names of the nodes in the order in which a walk meets them; a dash where nothing flows."""
    names: list[str] = []
    seen: set[Any] = set()
    queue = list(roots)
    for node in queue:
        if node is None:
            names.append("-")
        elif node not in seen:
            seen.add(node)
            names.append(name_of(node))
            queue.extend(after for after, _ in node.next_functions)
    return names


def same(case: Callable[[Side], Any]) -> None:
    """The case gives the same on both sides."""
    compare(case(ENGINE), case(TORCH))


def refused(
    case: Callable[[Side], Any], reason: str, error: type[Exception] = RuntimeError
) -> None:
    """Torch raises `error`, and the engine refuses with `reason`."""
    with pytest.raises(error):
        case(TORCH)
    with pytest.raises(EngineError) as refusal:
        case(ENGINE)
    assert refusal.value.reason == reason


def compare(ours: Any, theirs: Any) -> None:
    """Equal, arrays up to rounding and with their dtypes."""
    if isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            compare(a, b)
    elif isinstance(theirs, np.ndarray):
        assert isinstance(ours, np.ndarray)
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7, strict=True)
    else:
        assert ours == theirs
