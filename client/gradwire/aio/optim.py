"""`gw.aio.optim`: the optimizers of `gw.optim`, whose steps are awaited."""

from collections.abc import Awaitable, Generator

from gradwire import optim, tracing


class _Done:
    """A step that was taken: in a compiled function, where nothing is awaited."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


def _step(optimizer: optim.SGD | optim.Adam) -> Awaitable[None]:
    if tracing.active() is None:
        return optimizer._step()
    optimizer.params[0]._session.finish(optimizer._step())
    return _Done()


class SGD(optim.SGD):
    """Stochastic gradient descent, as `gradwire.optim.SGD`."""

    def step(self) -> Awaitable[None]:  # type: ignore[override] # awaited
        """Change each parameter by its gradient; those without one stay. Reads no values."""
        return _step(self)


class Adam(optim.Adam):
    """Adam, as `gradwire.optim.Adam`."""

    def step(self) -> Awaitable[None]:  # type: ignore[override] # awaited
        """Change each parameter by its gradient; those without one stay. Reads no values."""
        return _step(self)
