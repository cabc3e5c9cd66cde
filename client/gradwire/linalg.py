"""`gw.linalg`: linear algebra, as in torch.linalg."""

from gradwire.operators import linalg as generated
from gradwire.operators.linalg import *  # noqa: F403 (the names are those of its __all__)

__all__: list[str] = []
__all__ += generated.__all__
