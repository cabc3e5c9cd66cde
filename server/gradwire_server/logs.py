"""Log lines: structured, one event each, to standard error.

The logger is made for one server and handed to its parts, never set up for the whole process:
an embedded server must not change how its host logs.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final, TextIO

import structlog

from gradwire_server.settings import Settings

Logger = structlog.typing.FilteringBoundLogger

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def make_logger(settings: Settings, stream: TextIO | None = None) -> Logger:
    """A logger that writes to `stream`, or standard error, as the settings say."""
    target = sys.stderr if stream is None else stream
    as_json = settings.log_format == "json" or (
        settings.log_format == "auto" and not target.isatty()
    )
    renderers: list[Any]
    if as_json:
        renderers = [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    else:
        renderers = [structlog.dev.ConsoleRenderer(colors=target.isatty())]
    logger: Logger = structlog.wrap_logger(
        structlog.PrintLogger(target),
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[settings.log_level]),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        cache_logger_on_first_use=True,
    )
    return logger
