"""Every setting is a flag and a variable, and every limit is told to clients."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gradwire.memory import LARGEST_KEPT
from gradwire.v1 import autograd_pb2 as pb
from gradwire_server import __version__, cli, server, supervisor
from gradwire_server.limits import limits_message
from gradwire_server.settings import Settings

OPERATIONS = Path(__file__).parents[3] / "docs/operations.md"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that `gradwire serve` comes to, which then does not serve."""
    found: list[Settings] = []

    def served(settings: Settings) -> int:
        found.append(settings)
        return 0

    monkeypatch.setattr(server, "serve", served)
    monkeypatch.setattr(supervisor, "serve", served)
    return found


def invoke(*arguments: str, **variables: str) -> Any:
    return CliRunner().invoke(cli.app, list(arguments), env={"COLUMNS": "200", **variables})


def other_value(name: str) -> str:
    match Settings.model_fields[name].default:
        case "127.0.0.1:50051":
            return "0.0.0.0:1"
        case "info":
            return "debug"
        case "auto":
            return "json"
        case False:
            return "True"
        case int(value):
            return str(value + 1) if name != "max_rank" else "8"
        case value:
            return str(value / 2)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_each_setting_is_a_flag_and_a_variable(name: str, served: list[Settings]) -> None:
    value = other_value(name)
    flag = f"--{name.replace('_', '-')}"
    invoke("serve", flag, *([] if Settings.model_fields[name].annotation is bool else [value]))
    invoke("serve", **{f"GRADWIRE_{name.upper()}": value})
    by_flag, by_variable = served
    assert by_flag == by_variable
    assert str(getattr(by_flag, name)) == value
    assert by_flag.model_dump(exclude={name}) == Settings().model_dump(exclude={name})


def test_clients_keep_the_memory_of_the_largest_messages() -> None:
    assert Settings().max_message_bytes <= LARGEST_KEPT


def test_help_explains_each_flag() -> None:
    text = re.sub(r"\x1b\[[0-9;]*m", "", invoke("serve", "--help").output)
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')}" in text


def test_version_is_printed() -> None:
    assert invoke("version").output == f"{__version__}\n"


def test_each_limit_of_the_contract_is_a_setting() -> None:
    message = limits_message(Settings())
    for field in pb.Limits.DESCRIPTOR.fields:
        assert getattr(message, field.name) == getattr(Settings(), field.name)


def test_the_documentation_has_each_flag_variable_and_default() -> None:
    rows = re.findall(r"^\| `--([\w-]+)` \| `(\w+)` \| (\S+)", OPERATIONS.read_text(), re.MULTILINE)
    expected = [
        (name.replace("_", "-"), f"GRADWIRE_{name.upper()}", f"{field.default}".removesuffix(".0"))
        for name, field in Settings.model_fields.items()
    ]
    assert rows == expected
