"""`gw.optim`: optimizers whose steps run on the server, where the parameters are."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gradwire import filled, grads, reading
from gradwire import tensors as _tensors
from gradwire.arguments import wrong_type
from gradwire.modes import no_grad

if TYPE_CHECKING:
    from typing import TypeAlias

    from gradwire.tensors import Tensor

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
        for nr, (param, grad) in found:
            direction = grad.add(param, alpha=self.weight_decay) if self.weight_decay else grad
            if self.momentum:
                velocity = self._velocities.get(nr)
                if velocity is None:
                    velocity = self._velocities[nr] = direction.clone()
                else:
                    velocity.mul_(self.momentum).add_(direction)
                direction = (
                    direction.add(velocity, alpha=self.momentum) if self.nesterov else velocity
                )
            param.add_(direction, alpha=-self.lr)

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
        self._states: dict[int, tuple[int, Tensor, Tensor]] = {}

    def step(self) -> None:
        """Change each parameter by its gradient; those without one stay. Reads no values."""
        self.params[0]._session.finish(self._step())

    async def _step(self) -> None:
        found = await _with_grads(self.params)
        with no_grad():
            self._update(found)

    def _update(self, found: "Grads") -> None:
        first, second = self.betas
        for nr, (param, grad) in found:
            if self.weight_decay:
                grad = grad.add(param, alpha=self.weight_decay)
            state = self._states.get(nr)
            if state is None:
                state = (0, filled.zeros_like(param), filled.zeros_like(param))
            count, mean, square = state[0] + 1, state[1], state[2]
            self._states[nr] = (count, mean, square)
            mean.mul_(first).add_(grad, alpha=1 - first)
            square.mul_(second).add_(grad * grad, alpha=1 - second)
            size = (square.sqrt() / (1 - second**count) ** 0.5).add_(self.eps)
            param.add_(mean / size, alpha=-self.lr / (1 - first**count))

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


async def _with_grads(params: "Sequence[Tensor]") -> "Grads":
    """The parameters that have gradients, with their places; at most one round trip, no values."""
    unresolved = [param for param in params if not reading.is_resolved(param)]
    if unresolved:
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
