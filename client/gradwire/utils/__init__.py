"""`gw.utils`: tools around the graph."""

from gradwire.utils import checkpoint

__all__ = ["checkpoint"]
