"""`gw.special`: special functions, as in torch.special."""

from gradwire.operators import special as generated
from gradwire.operators.special import *  # noqa: F403 (the names are those of its __all__)

__all__: list[str] = []
__all__ += generated.__all__
