"""The gradwire server: sessions, sequences and graphs over gRPC, on the gradwire engine."""

from importlib.metadata import version

__version__ = version("gradwire")
