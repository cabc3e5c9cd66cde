"""Log lines: JSON for machines, and faults with their traceback."""

from __future__ import annotations

import io
import json

import pytest

from gradwire_server.logs import make_logger
from gradwire_server.settings import Settings


def test_a_line_is_one_json_object() -> None:
    stream = io.StringIO()
    make_logger(Settings(), stream).info("session opened", session="s", ttl=1.5)
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert event.pop("timestamp").endswith("Z")
    assert event == {"event": "session opened", "session": "s", "ttl": 1.5, "level": "info"}


def test_a_fault_has_its_traceback_in_the_same_line() -> None:
    stream = io.StringIO()
    try:
        raise ValueError("wrong")
    except ValueError as error:
        make_logger(Settings(), stream).error("internal error", error_id="e", exc_info=error)
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert (event["error_id"], event["exception"][0]["exc_type"]) == ("e", "ValueError")


def test_what_is_below_the_level_is_left_out() -> None:
    stream = io.StringIO()
    logger = make_logger(Settings(log_level="warning", log_format="console"), stream)
    logger.info("not this")
    logger.warning("but this")
    assert "but this" in stream.getvalue()
    assert "not this" not in stream.getvalue()


def test_making_a_logger_leaves_the_logging_of_the_process_alone(
    capfd: pytest.CaptureFixture[str],
) -> None:
    import structlog

    before = structlog.get_config()
    make_logger(Settings())
    assert structlog.get_config() == before
    assert capfd.readouterr() == ("", "")
