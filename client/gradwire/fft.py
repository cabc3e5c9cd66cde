"""`gw.fft`: discrete Fourier transforms, as in torch.fft."""

from gradwire.operators import fft as generated
from gradwire.operators.fft import *  # noqa: F403 (the names are those of its __all__)

__all__: list[str] = []
__all__ += generated.__all__
