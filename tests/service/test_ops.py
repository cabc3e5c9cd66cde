"""Ops: operators by columns do what as many Op steps do, and fail where those fail."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from gradwire.v1 import autograd_pb2 as pb
from gradwire_server.settings import Settings
from tests.service.harness import Client, Fetched, backward, fetch, get_grad, op, put, release

X, Y, Z, G = 1, 2, 3, 4


def ops(*steps: pb.Step, grad_mode: pb.GradMode.ValueType = pb.GRAD_MODE_UNSPECIFIED) -> pb.Step:
    """Op steps as one Ops step, each with a form of its own."""
    made = pb.Step(grad_mode=grad_mode)
    for index, step in enumerate(steps):
        form = made.ops.forms.add()
        form.CopyFrom(step.op)
        handles = list(form.inputs)
        form.inputs[:] = [1 if handle else 0 for handle in form.inputs]
        for attribute in form.attributes:
            if attribute.HasField("tensor_list"):
                listed = attribute.tensor_list.tensors
                handles += listed
                listed[:] = [1 if handle else 0 for handle in listed]
        form.ClearField("output")
        made.ops.calls.append(index)
        made.ops.handles.extend([*handles, step.op.output])
    return made


def chain(first: int, count: int) -> pb.Step:
    """Many calls of two forms."""
    step = pb.Step()
    step.ops.forms.add(name="mul", inputs=[1]).attributes.add(name="other", double_value=0.5)
    step.ops.forms.add(name="add", inputs=[1]).attributes.add(name="other", int_value=1)
    for at in range(count):
        step.ops.calls.append(at % 2)
        step.ops.handles.extend([first + at, first + at + 1])
    return step


def values(client: Client, *handles: int) -> list[object]:
    return [listed(each) for each in client.run(fetch(*handles))]


def listed(fetched: Fetched) -> object:
    assert fetched.value is not None
    return fetched.value.tolist()


def test_they_run_one_after_the_other(client: Client) -> None:
    y, z, g = client.run(
        put(X, [2.0, 3.0], requires_grad=True),
        ops(
            op("mul", [X], Y, other=3),
            op("sum", [Y], Z),
        ),
        backward(Z),
        get_grad(X, G),
        fetch(Y, Z, G),
    )
    assert (listed(y), listed(z), listed(g)) == ([6.0, 9.0], 15.0, [3.0, 3.0])


def test_an_operator_is_called_by_any_of_its_names(client: Client) -> None:
    client.run(
        put(X, [-2.0, 3.0]),
        ops(op("absolute", [X], Y), op("multiply", [Y], Z, other=2), op("negative_", [Z])),
    )
    assert values(client, X, Y, Z) == [[-2.0, 3.0], [2.0, 3.0], [-4.0, -6.0]]


def test_lists_absent_tensors_and_several_results(client: Client) -> None:
    client.run(
        put(X, [[3.0, 1.0]]),
        ops(
            op("cat", [], 10, tensors=[X, X], dim=1),
            op("max.dim", [10], 11, dim=1),
            op("clamp", [10, 0, 0], 13, max=2.0),
            op("split", [10], 14, split_size=2, dim=1),
            op("add_", [15], 0, other=1),
        ),
    )
    assert values(client, 10, 11, 12, 13, 15) == [
        [[3.0, 1.0, 4.0, 2.0]],
        [3.0],
        [0],
        [[2.0, 1.0, 2.0, 1.0]],
        [[4.0, 2.0]],
    ]


def test_the_mode_of_the_step_is_that_of_each_call(client: Client) -> None:
    y, z = client.run(
        put(X, [2.0], requires_grad=True),
        ops(op("exp", [X], Y), op("exp", [X], Z), grad_mode=pb.GRAD_MODE_NO_GRAD),
        fetch(Y, Z, info=True),
    )
    assert not (y.info.requires_grad or z.info.requires_grad)


def test_calls_before_a_failed_one_have_happened_and_those_after_it_never_will(
    client: Client,
) -> None:
    refusal = client.refused(
        put(X, [2.0]),
        ops(op("exp", [X], Y), op("exp", [99], 10), op("exp", [X], 11), op("split", [X], 12)),
    )
    assert refusal.reason == "HANDLE_NOT_FOUND"
    assert refusal.field == "steps[1].ops.calls[1].inputs[0]"
    assert (refusal.metadata["step"], refusal.metadata["call"]) == ("1", "1")
    np.testing.assert_allclose(values(client, Y), [[np.exp(2.0)]], rtol=1e-6)
    for handle in (10, 11, 12, 17):
        later = client.refused(op("exp", [handle], 1000 + handle))
        assert later.reason == "HANDLE_NOT_FOUND"
        assert later.metadata["poisoned_handle"] == str(handle)
        assert (later.metadata["root_step"], later.metadata["root_call"]) == ("1", "1")


@pytest.mark.parametrize(
    ("form", "reason", "field"),
    [
        (pb.Op(name="nonsense", inputs=[1]), "UNKNOWN_OP", "name"),
        (op("exp", [1], other=1).op, "BAD_ATTRIBUTE", "attributes[0]"),
        (op("mul", [1]).op, "WRONG_ARITY", "inputs"),
    ],
)
def test_a_form_fails_when_a_call_has_it(
    client: Client, form: pb.Op, reason: str, field: str
) -> None:
    step = ops(op("exp", [X], Y), op("exp", [X], Z))
    step.ops.forms[1].CopyFrom(form)
    refusal = client.refused(put(X, [0.0]), step)
    assert (refusal.reason, refusal.field) == (reason, f"steps[1].ops.calls[1].{field}")
    assert values(client, Y) == [[1.0]]


@pytest.mark.parametrize(
    ("calls", "handles", "field"),
    [
        ([0, 1], [X, Y, X, Z], "ops.calls"),
        ([0, 0], [X, Y, X], "ops.handles"),
        ([0], [X, Y, Z], "ops.handles"),
    ],
)
def test_columns_that_do_not_fit_are_refused_whole(
    client: Client, calls: Sequence[int], handles: Sequence[int], field: str
) -> None:
    step = pb.Step(ops=pb.Ops(forms=[pb.Op(name="exp", inputs=[1])], calls=calls, handles=handles))
    refusal = client.refused(put(X, [0.0]), step)
    assert (refusal.reason, refusal.field) == ("MALFORMED_REQUEST", f"steps[1].{field}")
    assert client.refused(fetch(Y)).reason == "HANDLE_NOT_FOUND"


def test_no_calls_are_fine(client: Client) -> None:
    client.run(pb.Step(ops=pb.Ops()))


def test_calls_count_as_steps(client: Client) -> None:
    most = Settings().max_steps
    refusal = client.refused(put(X, [1.0]), chain(X, most))
    assert (refusal.reason, refusal.metadata["limit"]) == ("LIMIT_EXCEEDED", "max_steps")
    assert client.refused(fetch(2)).reason == "LIMIT_EXCEEDED"


def test_a_long_row_goes_on_where_the_loop_left_it(client: Client) -> None:
    count = 20_000
    client.run(put(X, [1.0], requires_grad=True), chain(X, count), backward(X + count))
    (last,) = client.run(fetch(X + count))
    np.testing.assert_allclose(last.value, [2.0], rtol=1e-6)


def test_a_heavy_call_in_a_row_moves_the_rest_to_a_thread(client: Client) -> None:
    client.run(
        put(X, np.eye(400)),
        ops(op("exp", [X], Y), op("mm", [X, X], Z), op("mm", [Z, X], G), op("sum", [G], 5)),
        release(Y),
    )
    assert values(client, 5) == [400.0]


def test_an_anomaly_names_the_call_that_recorded_the_node(client: Client) -> None:
    with client.stream() as stream:
        refusal = stream.run(
            put(X, [0.0], requires_grad=True),
            ops(op("mul", [X], Y, other=0), op("sqrt", [Y], Z), op("mul", [Z], G, other=0)),
            backward(G),
            detect_anomaly=True,
        ).refusal
    assert refusal is not None
    assert refusal.reason == "ANOMALY"
    assert (refusal.metadata["origin_step"], refusal.metadata["origin_call"]) == ("1", "1")
