"""Bad input: for each kind the code, the reason, the field at fault, the SDK's exception.

And after each the session still answers rightly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2

from gradwire import errors
from gradwire.v1 import autograd_pb2 as pb
from gradwire.v1.autograd_pb2_grpc import AutogradServiceStub
from tests.service.harness import (
    Client,
    Data,
    Step,
    attribute,
    backward,
    fetch,
    get_grad,
    grad,
    no_grad,
    op,
    put,
    refusal_of_call,
    release,
    requires_grad,
    retain_grad,
    sequence,
    set_grad,
)

X, Y, Z, V, FLAT, INTS, OUT = 1, 2, 3, 4, 5, 6, 10
"""x = [1, 2, 3] requires grad, y = x ** 2, z = sum(y), v of two elements, a plain tensor, ints."""

SETUP = (
    put(X, [1.0, 2.0, 3.0], requires_grad=True),
    op("pow", [X], Y, exponent=2),
    op("sum", [Y], Z),
    put(V, [1.0, 1.0]),
    put(FLAT, [1.0, 1.0, 1.0]),
    put(INTS, [1, 2, 3], dtype="i8"),
)


def raw_put(payload: bytes, **fields: object) -> Data:
    return Data(
        pb.Put(**{"output": OUT, "dtype": pb.DTYPE_FLOAT32, "shape": [3], **fields}), payload
    )


def raw_op(**fields: object) -> pb.Step:
    return pb.Step(op=pb.Op(output=OUT, **fields))


@dataclass(frozen=True)
class Row:
    """One kind of bad input. `steps` are what is sent; the last of them is at fault."""

    steps: tuple[Step, ...]
    code: str
    reason: str
    field: str
    exception: type[errors.GradwireError]


INVALID, MISSING, STATE = "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"

ROWS = {
    # operators
    "unknown op": Row(
        (op("pwo", [X], OUT),), INVALID, "UNKNOWN_OP", "op.name", errors.UnknownOperatorError
    ),
    "op that only other operators call": Row(
        (op("_convolution_input", [X, X], OUT, size=(1 << 40,), stride=(1,), padding=(0,)),),
        INVALID,
        "UNKNOWN_OP",
        "op.name",
        errors.UnknownOperatorError,
    ),
    "singular values of a vector": Row(
        (op("svd", [X], OUT, compute_uv=False),),
        INVALID,
        "SHAPE_MISMATCH",
        "op",
        errors.ShapeError,
    ),
    "chain of matrices that ends in a number": Row(
        (op("linalg.multi_dot", [], OUT, tensors=[X, Z]),),
        INVALID,
        "SHAPE_MISMATCH",
        "op.attributes[0]",
        errors.ShapeError,
    ),
    "labels of a number": Row(
        (op("multilabel_soft_margin_loss", [Z, Z], OUT),),
        INVALID,
        "DIM_OUT_OF_RANGE",
        "op.inputs[0]",
        errors.OutOfRangeError,
    ),
    "nothing, but with a huge size": Row(
        (op("zeros", [], OUT, size=(1 << 40, 0)),),
        "RESOURCE_EXHAUSTED",
        "LIMIT_EXCEEDED",
        "op",
        errors.LimitError,
    ),
    "convolution of numbers": Row(
        (
            op(
                "convolution",
                [Z, Z, 0],
                OUT,
                **dict.fromkeys(("stride", "padding", "dilation", "output_padding"), (1,)),
                transposed=False,
                groups=1,
            ),
        ),
        INVALID,
        "SHAPE_MISMATCH",
        "op.inputs[1]",
        errors.ShapeError,
    ),
    "number for a tensor": Row(
        (op("logaddexp", [0, FLAT], OUT, self=1.0),),
        INVALID,
        "BAD_ATTRIBUTE",
        "op.attributes[0]",
        errors.ArgumentError,
    ),
    **{
        f"{name} of complex numbers": Row(
            (op("complex", [FLAT, FLAT], V + 10), op(name, [V + 10], OUT)),
            INVALID,
            "DTYPE_MISMATCH",
            "op.inputs[0]",
            errors.DtypeError,
        )
        for name in ("relu", "hardtanh", "softplus", "gelu", "elu")
    },
    "data of another shape for what an operator made": Row(
        (op("set_data_", [Y, V]),),
        INVALID,
        "SHAPE_MISMATCH",
        "op.inputs[1]",
        errors.ShapeError,
    ),
    "shift of a number's dimension twice": Row(
        (op("fft.fftshift", [Z], OUT, dim=(0, 1)),),
        INVALID,
        "DIM_OUT_OF_RANGE",
        "op.attributes[0]",
        errors.OutOfRangeError,
    ),
    "indices along a dimension that do not broadcast": Row(
        (
            put(V + 10, np.zeros((2, 2), np.int64), dtype="i8"),
            op("reshape", [X], V + 11, shape=(1, 3)),
            op("take_along_dim", [V + 11, V + 10], OUT, dim=0),
        ),
        INVALID,
        "SHAPE_MISMATCH",
        "op.inputs[1]",
        errors.ShapeError,
    ),
    "grouped heads where there are none": Row(
        (
            op("reshape", [X], V + 11, shape=(1, 3)),
            op("scaled_dot_product_attention", [V + 11] * 3, OUT, enable_gqa=True),
        ),
        INVALID,
        "SHAPE_MISMATCH",
        "op.inputs[0]",
        errors.ShapeError,
    ),
    **{
        f"{name} of infinite values": Row(
            (
                put(V + 10, np.full((4, 4), np.inf)),
                op(name, [V + 10], OUT),
            ),
            INVALID,
            "BAD_VALUE",
            "op.inputs[0]",
            errors.BadValueError,
        )
        for name in (
            "linalg.svd",
            "linalg.svdvals",
            "linalg.pinv",
            "linalg.matrix_rank",
            "linalg.eigh",
            "linalg.eigvalsh",
            "linalg.eig",
        )
    },
    "complex order of a norm": Row(
        (op("linalg.vector_norm", [X], OUT, ord=1 + 2j),),
        INVALID,
        "BAD_VALUE",
        "op.attributes[0]",
        errors.BadValueError,
    ),
    "complex variance": Row(
        (op("gaussian_nll_loss", [X, FLAT, 0], OUT, var=1j),),
        INVALID,
        "BAD_VALUE",
        "op.attributes[0]",
        errors.BadValueError,
    ),
    "op without a name": Row(
        (op("", [X], OUT),), INVALID, "UNKNOWN_OP", "op.name", errors.UnknownOperatorError
    ),
    "too many tensors": Row(
        (op("exp", [X, X], OUT),), INVALID, "WRONG_ARITY", "op", errors.ArgumentError
    ),
    "too few tensors": Row(
        (op("mm", [X], OUT),), INVALID, "WRONG_ARITY", "op.inputs", errors.ArgumentError
    ),
    "missing plain argument": Row(
        (op("transpose", [X], OUT, dim0=0),),
        INVALID,
        "WRONG_ARITY",
        "op.attributes",
        errors.ArgumentError,
    ),
    "argument given twice, as tensor and number": Row(
        (op("add", [X, X], OUT, other=2),),
        INVALID,
        "WRONG_ARITY",
        "op.attributes[0]",
        errors.ArgumentError,
    ),
    "attribute the op does not have": Row(
        (op("exp", [X], OUT, base=2),),
        INVALID,
        "BAD_ATTRIBUTE",
        "op.attributes[0]",
        errors.ArgumentError,
    ),
    "attribute of the wrong type": Row(
        (op("sum", [X], OUT, keepdim="yes"),),
        INVALID,
        "BAD_ATTRIBUTE",
        "op.attributes[0]",
        errors.ArgumentError,
    ),
    "attribute given twice": Row(
        (raw_op(name="sum", inputs=[X], attributes=[attribute("keepdim", True)] * 2),),
        INVALID,
        "BAD_ATTRIBUTE",
        "op.attributes[1]",
        errors.ArgumentError,
    ),
    "attribute without a value": Row(
        (raw_op(name="sum", inputs=[X], attributes=[pb.Attribute(name="dim")]),),
        INVALID,
        "BAD_ATTRIBUTE",
        "op.attributes[0]",
        errors.ArgumentError,
    ),
    "attribute of an unknown dtype": Row(
        (raw_op(name="to", inputs=[X], attributes=[pb.Attribute(name="dtype", dtype_value=99)]),),
        INVALID,
        "UNKNOWN_DTYPE",
        "op.attributes[0].dtype_value",
        errors.DtypeError,
    ),
    "shapes that do not broadcast": Row(
        (op("add", [X, V], OUT),), INVALID, "SHAPE_MISMATCH", "op", errors.ShapeError
    ),
    "shapes that do not multiply": Row(
        (op("matmul", [X, V], OUT),), INVALID, "SHAPE_MISMATCH", "op", errors.ShapeError
    ),
    "dimension out of range": Row(
        (op("sum", [X], OUT, dim=1),),
        INVALID,
        "DIM_OUT_OF_RANGE",
        "op.attributes[0]",
        errors.OutOfRangeError,
    ),
    "index out of range": Row(
        (op("select", [X], OUT, dim=0, index=3),),
        INVALID,
        "INDEX_OUT_OF_RANGE",
        "op.attributes[1]",
        errors.OutOfRangeError,
    ),
    "mean of integers": Row(
        (op("mean", [INTS], OUT),), INVALID, "DTYPE_MISMATCH", "op.inputs[0]", errors.DtypeError
    ),
    # handles
    "unknown handle": Row(
        (op("exp", [99], OUT),), MISSING, "HANDLE_NOT_FOUND", "op.inputs[0]", errors.HandleError
    ),
    "unknown handle in a list": Row(
        (op("cat", [], OUT, tensors=[X, 99]),),
        MISSING,
        "HANDLE_NOT_FOUND",
        "op.attributes[0].tensor_list.tensors[1]",
        errors.HandleError,
    ),
    "released handle": Row(
        (release(V), op("exp", [V], OUT)),
        MISSING,
        "HANDLE_NOT_FOUND",
        "op.inputs[0]",
        errors.HandleError,
    ),
    "fetch of an unknown handle": Row(
        (fetch(X, 99),), MISSING, "HANDLE_NOT_FOUND", "fetch.tensors[1]", errors.HandleError
    ),
    "release of an unknown handle": Row(
        (release(X, 99),), MISSING, "HANDLE_NOT_FOUND", "release.tensors[1]", errors.HandleError
    ),
    "reused handle": Row(
        (op("exp", [X], Y),), INVALID, "HANDLE_IN_USE", "op.output", errors.HandleError
    ),
    "reused handle in put": Row(
        (put(X, [1.0]),), INVALID, "HANDLE_IN_USE", "put.output", errors.HandleError
    ),
    "one of several results in use": Row(
        (op("max.dim", [X], Z - 1, dim=0),),
        INVALID,
        "HANDLE_IN_USE",
        "op.output",
        errors.HandleError,
    ),
    "no handle for the result": Row(
        (op("exp", [X]),), INVALID, "HANDLE_IN_USE", "op.output", errors.HandleError
    ),
    "handle that holds none": Row(
        (get_grad(FLAT, OUT), op("exp", [OUT], OUT + 1)),
        INVALID,
        "HANDLE_ABSENT",
        "op.inputs[0]",
        errors.HandleError,
    ),
    # data
    "payload shorter than the shape": Row(
        (raw_put(b"12345678"),), INVALID, "PAYLOAD_MISMATCH", "put.payload", errors.BadValueError
    ),
    "payload longer than the shape": Row(
        (raw_put(b"1" * 16),), INVALID, "PAYLOAD_MISMATCH", "put.payload", errors.BadValueError
    ),
    "payload that is not there": Row(
        (pb.Step(put=pb.Put(output=OUT, dtype=pb.DTYPE_FLOAT32, shape=[1], payload=7)),),
        INVALID,
        "PAYLOAD_MISMATCH",
        "put.payload",
        errors.BadValueError,
    ),
    "negative size": Row(
        (raw_put(b"", shape=[-1]),), INVALID, "BAD_VALUE", "put.shape", errors.BadValueError
    ),
    "unknown dtype": Row(
        (raw_put(b"", dtype=77),), INVALID, "UNKNOWN_DTYPE", "put.dtype", errors.DtypeError
    ),
    "dtype not set": Row(
        (raw_put(b"", dtype=0),), INVALID, "UNKNOWN_DTYPE", "put.dtype", errors.DtypeError
    ),
    "more elements than any memory": Row(
        (raw_put(b"", shape=[1 << 40, 1 << 40]),),
        "RESOURCE_EXHAUSTED",
        "LIMIT_EXCEEDED",
        "put.shape",
        errors.LimitError,
    ),
    "integers that require grad": Row(
        (put(OUT, [1], dtype="i8", requires_grad=True),),
        INVALID,
        "DTYPE_NO_GRAD",
        "put.requires_grad",
        errors.AutogradError,
    ),
    # backward and grad
    "vector backward without a direction": Row(
        (backward(Y),), INVALID, "NON_SCALAR_ROOT", "backward.gradients", errors.AutogradError
    ),
    "gradient of another shape": Row(
        (backward(Y, gradients=[V]),),
        INVALID,
        "GRADIENT_SHAPE",
        "backward.gradients",
        errors.AutogradError,
    ),
    "more gradients than tensors": Row(
        (backward(Y, gradients=[FLAT, FLAT]),),
        INVALID,
        "WRONG_ARITY",
        "backward.gradients",
        errors.ArgumentError,
    ),
    "backward from nothing": Row(
        (backward(),), INVALID, "WRONG_ARITY", "backward.tensors", errors.ArgumentError
    ),
    "backward from a tensor without a graph": Row(
        (backward(FLAT, gradients=[FLAT]),),
        STATE,
        "NO_GRAPH",
        "backward.tensors[0]",
        errors.AutogradError,
    ),
    "backward to no inputs": Row(
        (backward(Z, inputs=pb.TensorList()),),
        INVALID,
        "NO_INPUTS",
        "backward.inputs",
        errors.AutogradError,
    ),
    "freed graph": Row(
        (backward(Z), backward(Z)),
        STATE,
        "GRAPH_FREED",
        "backward.tensors",
        errors.AutogradError,
    ),
    "saved value changed in place": Row(
        (
            op("exp", [X], OUT),
            op("sum", [OUT], OUT + 1),
            op("mul_", [OUT], other=2),
            backward(OUT + 1),
        ),
        STATE,
        "SAVED_MODIFIED",
        "backward.tensors",
        errors.AutogradError,
    ),
    "grad of an unused input": Row(
        (put(OUT, [1.0], requires_grad=True), grad([Z], [X, OUT], OUT + 1)),
        STATE,
        "UNUSED_INPUT",
        "grad.inputs[1]",
        errors.AutogradError,
    ),
    "grad by a tensor that does not require it": Row(
        (grad([Z], [FLAT], OUT),),
        INVALID,
        "INPUT_NO_GRAD",
        "grad.inputs[0]",
        errors.AutogradError,
    ),
    "grad with a handle in use": Row(
        (grad([Z], [X], Y),), INVALID, "HANDLE_IN_USE", "grad.output", errors.HandleError
    ),
    # flags and gradients
    "in-place change of a leaf": Row(
        (op("add_", [X], other=1),), INVALID, "LEAF_IN_PLACE", "op", errors.AutogradError
    ),
    "in-place result of another shape": Row(
        (op("sum", [FLAT], OUT), op("add_", [OUT, FLAT])),
        INVALID,
        "IN_PLACE_SHAPE",
        "op",
        errors.AutogradError,
    ),
    "in-place result of another dtype": Row(
        (op("add_", [INTS, FLAT]),), INVALID, "IN_PLACE_DTYPE", "op", errors.AutogradError
    ),
    "requires_grad of a non-leaf set to false": Row(
        (requires_grad(Y, False),),
        INVALID,
        "NON_LEAF_FLAG",
        "requires_grad.value",
        errors.AutogradError,
    ),
    "requires_grad of integers": Row(
        (requires_grad(INTS, True),),
        INVALID,
        "DTYPE_NO_GRAD",
        "requires_grad.value",
        errors.AutogradError,
    ),
    "retain_grad of what needs none": Row(
        (retain_grad(FLAT),),
        INVALID,
        "NO_GRAD_TO_RETAIN",
        "retain_grad.tensor",
        errors.AutogradError,
    ),
    "gradient assigned that does not fit": Row(
        (set_grad(X, V),), INVALID, "BAD_GRAD_ASSIGNMENT", "set_grad.grad", errors.AutogradError
    ),
    "more gradients named than handles for them": Row(
        (pb.Step(get_grad=pb.GetGrad(tensors=[X, Y], outputs=[OUT])),),
        INVALID,
        "WRONG_ARITY",
        "get_grad.outputs",
        errors.ArgumentError,
    ),
    # the step itself
    "step that says nothing": Row(
        (pb.Step(),), INVALID, "MALFORMED_REQUEST", "kind", errors.ProtocolError
    ),
    "unknown grad mode": Row(
        (pb.Step(op=pb.Op(name="exp", inputs=[X], output=OUT), grad_mode=9),),
        INVALID,
        "BAD_VALUE",
        "grad_mode",
        errors.BadValueError,
    ),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_bad_input_is_refused_and_the_session_goes_on(
    client: Client, row: Row, streamed: bool
) -> None:
    client.run(*SETUP)
    if streamed:
        with client.stream() as stream:
            refusal = stream.run(*row.steps).refusal
            assert refusal is not None
            following = stream.run(fetch(X)).fetched
            np.testing.assert_array_equal(following[0].value, [1.0, 2.0, 3.0])
    else:
        refusal = client.refused(*row.steps)
    last = len(row.steps) - 1
    assert (refusal.code_name, refusal.reason) == (row.code, row.reason), refusal.message
    assert refusal.metadata["step"] == str(last)
    assert refusal.metadata["sequence"] == str(client.number - streamed)
    assert refusal.field == f"steps[{last}].{row.field}"
    if row.code == STATE:
        violation = refusal.detail(error_details_pb2.PreconditionFailure).violations[0]
        assert (violation.type, violation.subject) == (row.reason, refusal.field)
    assert "Traceback" not in refusal.message
    exception = errors.from_status(refusal.error)
    assert type(exception) is row.exception
    assert exception.metadata == refusal.metadata
    assert client.still_works()


def test_a_session_that_does_not_exist(stub: AutogradServiceStub) -> None:
    message, payloads = sequence(1, put(X, [1.0]))
    calls: list[Callable[[], object]] = [
        lambda: stub.GetSession(pb.GetSessionRequest(session_id="none")),
        lambda: stub.DeleteSession(pb.DeleteSessionRequest(session_id="none")),
        lambda: stub.KeepAlive(pb.KeepAliveRequest(session_id="none")),
        lambda: stub.GetGraph(pb.GetGraphRequest(session_id="none")),
        lambda: stub.Run(pb.RunRequest(session_id="none", sequence=message, payloads=payloads)),
        lambda: next(
            stub.RunStream(iter([pb.RunStreamRequest(session_id="none", sequence=message)]))
        ),
    ]
    for call in calls:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        refusal = refusal_of_call(caught.value)
        assert (refusal.code_name, refusal.reason) == ("NOT_FOUND", "SESSION_NOT_FOUND")
        assert refusal.field == "session_id"
        assert refusal.metadata == {"session_id": "none"}
        assert type(errors.from_call(caught.value)) is errors.SessionError


def test_bytes_that_are_no_message(stub: AutogradServiceStub, address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        for method in ("CreateSession", "Run", "GetGraph", "ListOperators"):
            call = channel.unary_unary(f"/gradwire.v1.AutogradService/{method}")
            with pytest.raises(grpc.RpcError) as caught:
                call(b"\xff\xff\xff")
            refusal = refusal_of_call(caught.value)
            assert (refusal.code_name, refusal.reason) == (INVALID, "MALFORMED_REQUEST")
            assert type(errors.from_call(caught.value)) is errors.ProtocolError


def test_a_run_without_a_sequence(client: Client) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.stub.Run(pb.RunRequest(session_id=client.id))
    refusal = refusal_of_call(caught.value)
    assert (refusal.reason, refusal.field) == ("MALFORMED_REQUEST", "sequence")
    assert client.still_works()


def test_a_stream_ends_for_what_is_wrong_with_the_stream(client: Client, address: str) -> None:
    client.run(put(X, [1.0]))
    message, payloads = sequence(2, fetch(X))
    good = pb.RunStreamRequest(session_id=client.id, sequence=message, payloads=payloads)
    bad = {
        "bytes that are no message": (b"\xff\xff\xff", ""),
        "neither sequence nor cancel": (pb.RunStreamRequest().SerializeToString(), "kind"),
        "another session": (pb.RunStreamRequest(session_id="x").SerializeToString(), "session_id"),
    }
    with grpc.insecure_channel(address) as channel:
        method = channel.stream_stream("/gradwire.v1.AutogradService/RunStream")
        for data, field in bad.values():
            call = method(iter([good.SerializeToString(), data]))
            assert pb.RunStreamResponse.FromString(next(call)).result.fetched
            with pytest.raises(grpc.RpcError) as caught:
                next(call)
            refusal = refusal_of_call(caught.value)
            assert (refusal.code_name, refusal.reason) == (INVALID, "MALFORMED_REQUEST")
            assert refusal.field == field
        nameless = method(iter([pb.RunStreamRequest(sequence=message).SerializeToString()]))
        with pytest.raises(grpc.RpcError) as caught:
            next(nameless)
        assert refusal_of_call(caught.value).field == "session_id"
    client.number = 2
    assert client.still_works()


@pytest.mark.parametrize(
    ("field", "request_fields"),
    [
        ("ttl", {"ttl": {"seconds": 0}}),
        ("ttl", {"ttl": {"seconds": -5}}),
        ("display_name", {"display_name": "n" * 201}),
    ],
)
def test_a_session_that_cannot_be_had(
    stub: AutogradServiceStub, field: str, request_fields: dict[str, object]
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.CreateSession(pb.CreateSessionRequest(**request_fields))
    refusal = refusal_of_call(caught.value)
    assert (refusal.reason, refusal.field) == ("BAD_VALUE", field)


def test_an_op_that_fails_under_no_grad_leaves_the_mode_as_it_was(client: Client) -> None:
    client.run(put(X, [1.0], requires_grad=True))
    client.refused(no_grad(op("exp", [99], Y)))
    client.run(op("exp", [X], Z))
    assert client.info(Z).requires_grad
