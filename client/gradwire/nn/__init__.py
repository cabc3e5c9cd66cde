"""`gw.nn`: functions for neural networks in `gw.nn.functional`."""

from gradwire.nn import functional

__all__ = ["functional"]
