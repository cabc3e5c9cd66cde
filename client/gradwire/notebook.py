"""What only notebooks, and other shells of IPython, can show: cells by number, short tracebacks.

Nothing here imports IPython; it is found where the program runs inside of it.
"""

import sys
from types import TracebackType
from typing import Any


def shell() -> Any | None:
    """The running IPython shell; None outside of one."""
    ipython = sys.modules.get("IPython")
    get = getattr(ipython, "get_ipython", None)
    return get() if get is not None else None


def cell(filename: str) -> str | None:
    """What a notebook's reader calls the source of that name: `Cell In[3]`; None if not a cell."""
    running = shell()
    name_of = getattr(getattr(running, "compile", None), "format_code_name", None)
    named = name_of(filename) if name_of is not None else None
    return " ".join(named) if named else None


def traceback_of(error: BaseException, hidden: str) -> list[str]:
    """The traceback as IPython shows it, without the frames of files whose names start so.

    Raises:
        RuntimeError: this is not IPython.
    """
    running = shell()
    if running is None:
        raise RuntimeError("only IPython can render its tracebacks")
    trace = _without(error.__traceback__, hidden)
    # The offset leaves out IPython's own frame, which runs the cell.
    lines: list[str] = running.InteractiveTB.structured_traceback(
        type(error), error, trace, tb_offset=1
    )
    return lines


def _without(trace: TracebackType | None, hidden: str) -> TracebackType | None:
    shown = []
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(hidden):
            shown.append(trace)
        trace = trace.tb_next
    linked: TracebackType | None = None
    for each in reversed(shown):
        linked = TracebackType(linked, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return linked
