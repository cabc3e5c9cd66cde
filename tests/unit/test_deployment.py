"""The image, the compose file and the program agree, and each is valid by its own rules."""

import json
import re
import subprocess
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML

from gradwire_server.cli import app
from gradwire_server.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
COMPOSE = ROOT / "docker-compose.yml"
SCRIPTS = Path(sysconfig.get_path("scripts"))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return YAML(typ="safe").load(COMPOSE)


def stage(name: str) -> str:
    """The instructions of one stage of the Dockerfile, continued lines joined."""
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    stages = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", text, re.M | re.S))
    return stages[name]


def arguments(instruction: str, stage_text: str) -> list[str]:
    """The exec form of the last such instruction of a stage."""
    forms = re.findall(rf"^{instruction}\b[^\[\n]*(\[.*\])$", stage_text, re.M)
    return json.loads(forms[-1])


def parse(command: list[str]) -> dict[str, Any]:
    """The parameters that the program reads from a command line; the command itself is not run."""
    program, name, *rest = command
    assert program == "gradwire"
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    return group.commands[name].make_context(name, rest).params


def run(*command: str) -> None:
    """Runs a checker of this environment on the project and shows what it printed if it fails."""
    checker, *rest = command
    result = subprocess.run(
        [SCRIPTS / checker, *rest], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_compose_file_is_valid() -> None:
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE))


def test_dockerfile_has_no_lint() -> None:
    run("hadolint", str(DOCKERFILE))


def test_services_build_stages_that_exist(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert ROOT / service["build"]["dockerfile"] == DOCKERFILE
        assert stage(service["build"]["target"])


def test_images_bear_the_version(compose: dict[str, Any]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {service["image"] for service in compose["services"].values()}
    assert images == {f"gradwire:{version}", f"gradwire-loadtest:{version}"}


def test_image_serves_on_the_port_that_is_exposed_published_and_probed(
    compose: dict[str, Any],
) -> None:
    runtime = stage("runtime")
    served = parse(arguments("ENTRYPOINT", runtime) + arguments("CMD", runtime))["address"]
    host, _, port = served.rpartition(":")
    assert host == "0.0.0.0", "a loopback address cannot be reached from outside the container"
    assert parse(arguments("HEALTHCHECK", runtime))["address"] == f"localhost:{port}"
    assert f"EXPOSE {port}\n" in runtime
    assert compose["services"]["server"]["ports"] == [f"{port}:{port}"]
    assert f"--host=server:{port}" in compose["services"]["loadtest"]["command"]


def test_compose_waits_longer_than_the_server_drains(compose: dict[str, Any]) -> None:
    grace = compose["services"]["server"]["stop_grace_period"]
    assert float(grace.removesuffix("s")) > Settings().drain_seconds


def test_load_test_is_there_only_on_demand_and_waits_for_health(compose: dict[str, Any]) -> None:
    loadtest = compose["services"]["loadtest"]
    assert loadtest["profiles"] == ["loadtest"]
    assert loadtest["depends_on"]["server"]["condition"] == "service_healthy"
    assert "HEALTHCHECK" in stage(compose["services"]["server"]["build"]["target"])


def test_load_test_image_runs_the_locustfile_of_the_tests() -> None:
    entrypoint = arguments("ENTRYPOINT", stage("loadtest"))
    assert (ROOT / entrypoint[entrypoint.index("--locustfile") + 1]).is_file()


@pytest.mark.parametrize("name", ["runtime", "loadtest"])
def test_image_does_not_run_as_root(name: str) -> None:
    user = re.findall(r"^USER (\d+):(\d+)$", stage(name), re.M)[-1]
    assert "0" not in user


def test_services_have_nothing_that_they_do_not_need(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["mem_limit"]


def test_build_context_has_all_that_the_image_copies() -> None:
    allowed = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    roots = {
        path.partition("/")[0]
        for path in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    }
    assert roots | {"pyproject.toml", "constraints.txt", "tests/load"} <= allowed
    assert all((ROOT / path).exists() for path in allowed)
