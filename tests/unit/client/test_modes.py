"""Grad modes belong to the context and end with their block."""

from __future__ import annotations

import threading

import pytest

import gradwire as gw


def test_modes_nest_and_end() -> None:
    assert gw.is_grad_enabled()
    with gw.no_grad():
        assert not gw.is_grad_enabled()
        with gw.enable_grad():
            assert gw.is_grad_enabled()
        with gw.set_grad_enabled(True):
            assert gw.is_grad_enabled()
        assert not gw.is_grad_enabled()
    assert gw.is_grad_enabled()


def test_they_end_with_an_exception_too() -> None:
    with pytest.raises(KeyError), gw.no_grad():
        raise KeyError
    assert gw.is_grad_enabled()


def test_one_object_may_be_entered_again() -> None:
    mode = gw.no_grad()
    with mode, mode:
        assert not gw.is_grad_enabled()
    assert gw.is_grad_enabled()


def test_a_decorated_function_keeps_its_name_and_type() -> None:
    @gw.no_grad()
    def inner(number: int) -> bool:
        """Say it."""
        return gw.is_grad_enabled() and bool(number)

    assert inner(1) is False
    assert (inner.__name__, inner.__doc__) == ("inner", "Say it.")
    assert gw.is_grad_enabled()


def test_other_threads_are_not_concerned() -> None:
    found: list[bool] = []
    with gw.no_grad():
        thread = threading.Thread(target=lambda: found.append(gw.is_grad_enabled()))
        thread.start()
        thread.join()
    assert found == [True]
