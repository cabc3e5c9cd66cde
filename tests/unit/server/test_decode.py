"""Calls become plans that are found again and fit other handles."""

from __future__ import annotations

import numpy as np
import pytest

import gradwire_engine.ops  # noqa: F401 - declares the operators
from gradwire.v1 import autograd_pb2 as pb
from gradwire_server import decode
from gradwire_server.decode import call_of, makes, path_of_handle
from gradwire_server.encode import set_attribute
from gradwire_server.errors import ServiceError
from tests.service.harness import attribute, op, put


def call(name: str, inputs: list[int], **attributes: object) -> pb.Op:
    return op(name, inputs, 50, **attributes).op


def test_calls_that_differ_in_handles_alone_share_a_plan() -> None:
    first, handles = call_of(call("add", [1, 2]))
    second, others = call_of(call("add", [7, 9]))
    assert first is second
    assert (list(handles), list(others)) == ([1, 2], [7, 9])
    assert first.slots == ((0, 0), (1, 1))


def test_calls_that_differ_in_plain_arguments_do_not() -> None:
    plans = [
        call_of(message)[0]
        for message in (
            call("add", [1], other=1),
            call("add", [1], other=1.0),
            call("add", [1], other=True),
            call("add", [1], other=-0.0),
            call("add", [1], other=0.0),
        )
    ]
    assert len({id(plan) for plan in plans}) == 5
    values = [plan.template[1] for plan in plans]
    assert [type(value) for value in values] == [int, float, bool, float, float]
    assert np.signbit(values[3])
    assert not np.signbit(values[4])


def test_lists_of_tensors_are_places_among_the_handles() -> None:
    plan, handles = call_of(call("cat", [], tensors=[5, 6, 7], dim=1))
    again, others = call_of(call("cat", [], tensors=[8, 9, 10], dim=1))
    assert plan is again
    assert plan.lists == ((0, (0, 1, 2)),)
    assert (list(handles), list(others)) == ([5, 6, 7], [8, 9, 10])
    assert call_of(call("cat", [], tensors=[8, 9], dim=1))[0] is not plan


def test_an_absent_tensor_has_no_place() -> None:
    plan, handles = call_of(call("layer_norm", [1, 0, 3], normalized_shape=(2,)))
    assert [handles[index] for _, index in plan.slots] == [1, 3]
    assert call_of(call("layer_norm", [1, 2, 3], normalized_shape=(2,)))[0] is not plan


def test_the_store_of_plans_is_bounded() -> None:
    for value in range(decode._MAX_PLANS + 10):
        call_of(call("add", [1], other=value))
    assert len(decode._plans) <= decode._MAX_PLANS
    call_of(call("sum", [1], dim=tuple(range(1000))))
    assert all(len(str(key)) < 4000 for key in decode._plans)


def test_paths_of_handles() -> None:
    message = call("index", [4], indices=[5, 6])
    assert [path_of_handle(message, index) for index in range(3)] == [
        "op.inputs[0]",
        "op.attributes[0].tensor_list.tensors[0]",
        "op.attributes[0].tensor_list.tensors[1]",
    ]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (op("exp", [1], 5), ([5], False)),
        (op("exp_", [1]), ([], False)),
        (op("nonsense", [1], 5), ([5], False)),
        (op("max.dim", [1], 5), ([5, 6], False)),
        (op("chunk", [1], 5, chunks=3), ([5], True)),
        (pb.Step(put=put(9, [1.0]).put), ([9], False)),
        (pb.Step(grad=pb.Grad(inputs=[1, 2], output=5)), ([5, 6], False)),
        (pb.Step(get_grad=pb.GetGrad(tensors=[1, 2], outputs=[8, 9])), ([8, 9], False)),
        (pb.Step(), ([], False)),
    ],
)
def test_a_step_says_what_it_makes(step: pb.Step, expected: tuple[list[int], bool]) -> None:
    ((handles, open_ended),) = makes(step)
    assert (list(handles), open_ended) == expected


@pytest.mark.parametrize(
    "value",
    [True, 0, -(2**63), 2.5, float("inf"), 1 + 2j, "mean", np.dtype("f4"), (1, 2), (1.5, 2.0)],
)
def test_attributes_are_written_as_clients_write_them(value: object) -> None:
    message = pb.Attribute()
    set_attribute(message, "name", value)
    assert message == attribute("name", value)


def test_an_unknown_attribute_kind_is_refused_with_its_path() -> None:
    message = pb.Op(name="exp", inputs=[1], attributes=[pb.Attribute(name="dim")])
    with pytest.raises(ServiceError) as caught:
        call_of(message)
    assert (caught.value.reason, caught.value.field) == ("BAD_ATTRIBUTE", "op.attributes[0]")
