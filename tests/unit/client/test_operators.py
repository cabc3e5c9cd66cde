"""Functions and methods follow from the engine's schemas: as committed, and at torch's places."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import gradwire as gw
from gradwire_engine import lookup

ROOT = Path(__file__).resolve().parents[3]


def load_generator() -> ModuleType:
    path = ROOT / "tools" / "generate_operators.py"
    spec = importlib.util.spec_from_file_location("generate_operators", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


generator = load_generator()
PLACES: dict[str, Any] = {
    "torch": gw,
    "Tensor": gw.Tensor,
    "nn.functional": gw.nn.functional,
    "fft": gw.fft,
    "linalg": gw.linalg,
    "special": gw.special,
}


def test_the_committed_files_are_what_the_schemas_generate() -> None:
    assert generator.stale_files() == []


def offered() -> list[tuple[str, str]]:
    return [(op.name, place) for op in generator.operators.values() for place in op.places]


@pytest.mark.parametrize(("name", "place"), offered())
def test_every_operator_is_at_its_places(name: str, place: str) -> None:
    python_name = name.removesuffix(".dim").rpartition(".")[2]
    python_name = {"split_with_sizes": "split"}.get(python_name, python_name)
    assert callable(getattr(PLACES[place], python_name))


@pytest.mark.parametrize("alias", generator.aliases.values(), ids=lambda alias: alias.name)
def test_an_alias_is_the_function_that_it_stands_for(alias: Any) -> None:
    assert lookup(alias.name) is generator.operators[alias.op]
    for place in alias.places:
        home = "torch" if place == "special" else place
        found = getattr(PLACES[place], alias.name.rpartition(".")[2])
        assert found is getattr(PLACES[home], alias.op)


def test_hand_written_names_are_operators() -> None:
    assert set(generator.operators) >= generator.HAND_WRITTEN


def test_arguments_bear_torchs_names_order_and_defaults() -> None:
    assert str(inspect.signature(gw.sum)) == (
        "(input: 'AnyTensor', dim: 'SupportsIndex | Sequence[SupportsIndex] | None' = None, "
        "keepdim: 'bool' = False, *, dtype: 'DtypeLike | None' = None) -> 'AnyTensor'"
    )
    parameters = inspect.signature(gw.nn.functional.cross_entropy).parameters
    assert list(parameters)[:2] == ["input", "target"]
    assert parameters["reduction"].default == "mean"
    assert list(inspect.signature(gw.Tensor.view).parameters) == ["self", "size"]


def test_docstrings_show_the_schema() -> None:
    assert "Schema: exp(Tensor self) -> Tensor" in inspect.getdoc(gw.exp)
