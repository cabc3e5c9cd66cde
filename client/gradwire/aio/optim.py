"""`gw.aio.optim`: the optimizers of `gw.optim`, whose steps are awaited."""

from gradwire import optim


class SGD(optim.SGD):
    """Stochastic gradient descent, as `gradwire.optim.SGD`."""

    async def step(self) -> None:  # type: ignore[override] # awaited
        """Change each parameter by its gradient; those without one stay. Reads no values."""
        await self._step()


class Adam(optim.Adam):
    """Adam, as `gradwire.optim.Adam`."""

    async def step(self) -> None:  # type: ignore[override] # awaited
        """Change each parameter by its gradient; those without one stay. Reads no values."""
        await self._step()
