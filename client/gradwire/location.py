"""Where in the user's program a step was recorded."""

import linecache
import os
import sys
from dataclasses import dataclass
from types import CodeType
from typing import Final

from gradwire import notebook

PACKAGE: Final = os.path.dirname(os.path.abspath(__file__)) + os.sep
"""What the names of this package's files start with."""


@dataclass(frozen=True, slots=True)
class Location:
    """A line of a program, shown as `train.py:12: y = a @ b`, or as `Cell In[3], line 2: ...`."""

    filename: str
    lineno: int

    @property
    def source(self) -> str:
        """The line itself; empty where the source is not at hand."""
        return linecache.getline(self.filename, self.lineno).strip()

    def __str__(self) -> str:
        if (cell := notebook.cell(self.filename)) is not None:
            return f"{cell}, line {self.lineno}: {self.source}"
        name = self.filename
        if name.startswith(os.getcwd() + os.sep):
            name = os.path.relpath(name)
        return f"{name}:{self.lineno}: {self.source}".removesuffix(": ")


Mark = tuple[CodeType, int]
"""A place in a program, kept cheaply while recording: a code object and an instruction's offset.

Line numbers are looked up in tables, which takes longer the longer the function; so that waits
until a line is to be shown.
"""


def mark() -> Mark | None:
    """The place in the nearest calling frame outside of this package."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith(PACKAGE):
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return frame.f_code, frame.f_lasti


def locate(found: Mark | None) -> Location | None:
    """The line that a mark stands for."""
    if found is None:
        return None
    code, offset = found
    for start, end, lineno in code.co_lines():
        if start <= offset < end and lineno is not None:
            return Location(code.co_filename, lineno)
    return Location(code.co_filename, code.co_firstlineno)
