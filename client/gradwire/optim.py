"""`gw.optim`: optimizers whose steps run on the server, where the parameters are."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from gradwire import filled, grads, reading, tracing
from gradwire import tensors as _tensors
from gradwire.arguments import wrong_type
from gradwire.dtypes import float64
from gradwire.modes import no_grad

if TYPE_CHECKING:
    from typing import TypeAlias

    from gradwire.tensors import Tensor

    Number: TypeAlias = float | Tensor
    Grads: TypeAlias = list[tuple[int, tuple[Tensor, Tensor]]]


class SGD:
    """Stochastic gradient descent, with PyTorch's arithmetic.

    With g the gradient plus weight_decay·p, and the velocity v = momentum·v + g (g at first):
    p -= lr·v, or with nesterov p -= lr·(g + momentum·v).

    Attributes:
        params: The tensors to optimize.
        lr: The learning rate. May be set between steps.
    """

    def __init__(
        self,
        params: "Iterable[Tensor]",
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        """Make an optimizer of `params`, tensors that require grad.

        Raises:
            ValueError: a negative number, nesterov without momentum, or no parameters.
            TypeError: a parameter is no tensor.
        """
        _require_not_negative(lr=lr, momentum=momentum, weight_decay=weight_decay)
        if nesterov and not momentum:
            raise ValueError("nesterov needs a momentum larger than 0")
        self.params = _parameters(params)
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.nesterov = nesterov
        self._velocities: dict[int, Tensor] = {}

    def step(self) -> None:
        """Change each parameter by its gradient; those without one stay. Reads no values."""
        self.params[0]._session.finish(self._step())

    async def _step(self) -> None:
        found = await _with_grads(self.params)
        with no_grad():
            self._update(found)

    def _update(self, found: "Grads") -> None:
        lr = _number(self, "lr")
        _fix(self, "momentum", "weight_decay", "nesterov")
        for nr, (param, grad) in found:
            direction = grad.add(param, alpha=self.weight_decay) if self.weight_decay else grad
            if self.momentum:
                velocity = self._velocities.get(nr)
                if velocity is None:
                    velocity = self._velocities[nr] = _zeros_beside(param)
                velocity.mul_(self.momentum).add_(direction)
                direction = (
                    direction.add(velocity, alpha=self.momentum) if self.nesterov else velocity
                )
            _subtract(param, direction, lr)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients: set each `.grad` to None, or to zeros."""
        _zero_grad(self.params, set_to_none)


class Adam:
    """Adam (Kingma and Ba, https://arxiv.org/abs/1412.6980), with PyTorch's arithmetic.

    With g the gradient plus weight_decay·p: m = b1·m + (1-b1)·g, v = b2·v + (1-b2)·g², and after t
    steps p -= lr/(1-b1^t) · m / (sqrt(v)/sqrt(1-b2^t) + eps).

    Attributes:
        params: The tensors to optimize.
        lr: The learning rate. May be set between steps.
    """

    def __init__(
        self,
        params: "Iterable[Tensor]",
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        """Make an optimizer of `params`, tensors that require grad.

        Raises:
            ValueError: a negative number, a beta outside of [0, 1), or no parameters.
            TypeError: a parameter is no tensor.
        """
        _require_not_negative(lr=lr, eps=eps, weight_decay=weight_decay)
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must lie in [0, 1), not {betas}")
        self.params = _parameters(params)
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self._states: dict[int, tuple[Tensor, Tensor]] = {}
        # Steps so far, as tensors: of parameters that have always stepped together the same one.
        self._counts: dict[int, Tensor] = {}

    def step(self) -> None:
        """Change each parameter by its gradient; those without one stay. Reads no values."""
        self.params[0]._session.finish(self._step())

    async def _step(self) -> None:
        found = await _with_grads(self.params)
        with no_grad():
            self._update(found)

    def _update(self, found: "Grads") -> None:
        _fix(self, "betas", "eps", "weight_decay")
        for nr, (param, _) in found:
            if nr not in self._states:
                self._states[nr] = (_zeros_beside(param), _zeros_beside(param))
        lr = _number(self, "lr")
        first, second = self.betas
        for count, together in self._by_count(found):
            count.add_(1)
            scale = (1 - second**count).sqrt()
            rate = lr / (1 - first**count)
            for nr, (param, grad) in together:
                if self.weight_decay:
                    grad = grad.add(param, alpha=self.weight_decay)
                mean, square = self._states[nr]
                mean.mul_(first).add_(grad, alpha=1 - first)
                square.mul_(second).add_(grad * grad, alpha=1 - second)
                size = (square.sqrt() / scale).add_(self.eps)
                _subtract(param, mean / size, rate)

    def _by_count(self, found: "Grads") -> "list[tuple[Tensor, Grads]]":
        """Parameters with the number of their steps, those of the same number together."""
        fresh = [nr for nr, _ in found if nr not in self._counts]
        if fresh:
            with _beside(found[0][1][0]):
                zero = found[0][1][0]._session.tensor(0.0, dtype=float64)
            self._counts |= dict.fromkeys(fresh, zero)
        stepping = {nr for nr, _ in found}
        for count in {id(self._counts[nr]): self._counts[nr] for nr in stepping}.values():
            members = {nr for nr, each in self._counts.items() if each is count}
            if not members <= stepping:
                with _beside(found[0][1][0]):
                    self._counts |= dict.fromkeys(members & stepping, count.clone())
        together: dict[int, tuple[Tensor, Grads]] = {}
        for nr, pair in found:
            count = self._counts[nr]
            together.setdefault(id(count), (count, []))[1].append((nr, pair))
        return list(together.values())

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients: set each `.grad` to None, or to zeros."""
        _zero_grad(self.params, set_to_none)


def _parameters(params: "Iterable[Tensor]") -> "list[Tensor]":
    if isinstance(params, _tensors.Tensor):
        raise TypeError("params must be an iterable of tensors, not a tensor: give [tensor]")
    found = list(params)
    if not found:
        raise ValueError("an optimizer needs at least one parameter")
    for each in found:
        if not isinstance(each, _tensors.Tensor):
            raise wrong_type("optimizer", "params", "tensors", each)
    return found


def _require_not_negative(**numbers: float) -> None:
    for name, number in numbers.items():
        if not number >= 0:
            raise ValueError(f"{name} must not be negative, not {number}")


def _number(optimizer: object, name: str) -> "Number":
    """A number that may be set between steps: in a compiled function, a tensor that holds it."""
    trace = tracing.active()
    number: Number = getattr(optimizer, name)
    return number if trace is None else trace.number(optimizer, name)


def _fix(optimizer: object, *names: str) -> None:
    """Compile anew when one of these numbers changes."""
    trace = tracing.active()
    if trace is not None:
        trace.guard(optimizer, *names)


def _beside(param: "Tensor") -> AbstractContextManager[None]:
    """What is made here belongs to the optimizer, not to the function that is being compiled."""
    trace = tracing.running(param._session)
    return nullcontext() if trace is None else trace.paused()


def _zeros_beside(param: "Tensor") -> "Tensor":
    with _beside(param):
        return filled.zeros_like(param)


def _subtract(param: "Tensor", direction: "Tensor", rate: "Number") -> None:
    if isinstance(rate, _tensors.Tensor):
        param.sub_(direction * rate)
    else:
        param.add_(direction, alpha=-rate)


async def _with_grads(params: "Sequence[Tensor]") -> "Grads":
    """The parameters that have gradients, with their places; at most one round trip, no values."""
    tracing_here = tracing.running(params[0]._session) is not None
    unresolved = [param for param in params if not reading.is_resolved(param)]
    if unresolved and not tracing_here:
        await reading.read_grads(unresolved[0]._session, *unresolved, most_bytes=1)
    found: Grads = []
    for nr, param in enumerate(params):
        grad = await grads.read_grad(param)
        if grad is not None:
            found.append((nr, (param, grad)))
    return found


def _zero_grad(params: "Sequence[Tensor]", set_to_none: bool) -> None:
    if set_to_none:
        for param in params:
            param.grad = None
        return
    found = params[0]._session.finish(_with_grads(params))
    with no_grad():
        for _, (_, grad) in found:
            grad.zero_()
