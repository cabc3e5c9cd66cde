"""Requests with a few bytes changed: always an answer or a refusal, never a fault."""

from __future__ import annotations

import random

import grpc
import pytest

from gradwire.v1 import autograd_pb2 as pb
from tests.service.harness import (
    Client,
    backward,
    fetch,
    get_grad,
    grad,
    no_grad,
    op,
    put,
    refusal_of_call,
    release,
    sequence,
)

FAULTS = {"INTERNAL", "UNKNOWN", "UNAVAILABLE", "DATA_LOSS"}


def mutated(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed))
        match rng.randrange(3):
            case 0:
                changed[at] = rng.randrange(256)
            case 1:
                del changed[at : at + rng.randint(1, 8)]
            case _:
                changed[at:at] = rng.randbytes(rng.randint(1, 8))
    return bytes(changed)


@pytest.mark.parametrize("seed", range(4))
def test_a_request_with_changed_bytes_is_answered_or_refused(
    client: Client, address: str, seed: int
) -> None:
    message, payloads = sequence(
        0,
        put(1, [[1.0, 2.0], [3.0, 4.0]], requires_grad=True),
        op("exp", [1], 2),
        op("sum", [2], 3, dim=(0, 1), keepdim=False),
        op("cat", [], 4, tensors=[1, 2]),
        backward(3, retain_graph=True),
        get_grad(1, 5),
        fetch(1, 3, 5, info=True),
        release(4),
        timeout={"seconds": 20},
    )
    valid = pb.RunRequest(sequence=message, payloads=payloads).SerializeToString()
    rng = random.Random(seed)
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/gradwire.v1.AutogradService/Run")
        for _ in range(250):
            data = mutated(valid, rng)
            try:
                pb.RunResponse.FromString(call(data, timeout=60))
            except grpc.RpcError as error:
                refusal = refusal_of_call(error)
                assert refusal.code_name not in FAULTS, (data, refusal)
    assert client.still_works()


@pytest.mark.parametrize("seed", range(2))
def test_programs_with_changed_bytes_are_kept_and_called_or_refused(
    client: Client, address: str, seed: int
) -> None:
    steps = [op("mul", [1, 2], 3), op("sum", [3], 4), grad([4], [1], 5), op("sub_", [1, 5])]
    creation = pb.CreateProgramRequest(
        session_id=client.id,
        name="step",
        program=pb.Program(inputs=[1, 2], steps=map(no_grad, steps), outputs=[4, 5]),
        input_types=[
            pb.InputType(dtype=pb.DTYPE_FLOAT32, shape=[2], requires_grad=True),
            pb.InputType(dtype=pb.DTYPE_FLOAT32, shape=[2]),
        ],
        bindings=[pb.Binding(input=1, tensor=1)],
        grads=[pb.LeftGrad(input=1, grad=5)],
    )
    client.run(put(1, [1.0, 2.0], requires_grad=True), put(2, [[3.0, 4.0], [5.0, 6.0]]))
    rng = random.Random(seed)
    with grpc.insecure_channel(address) as channel:
        create = channel.unary_unary("/gradwire.v1.AutogradService/CreateProgram")
        run = channel.unary_unary("/gradwire.v1.AutogradService/Run")
        for turn in range(120):
            repeat = pb.Repeat(count=3, stacked=[0], feedback=[pb.Feedback(output=1, input=0)])
            call = pb.CallProgram(program="step", inputs=[2], output=10, repeat=repeat)
            message, _ = sequence(
                0, pb.Step(call_program=call), release(10, 11), timeout={"seconds": 20}
            )
            request = pb.RunRequest(session_id=client.id, sequence=message)
            for method, valid in ((create, creation), (run, request)):
                data = (
                    mutated(valid.SerializeToString(), rng) if turn else valid.SerializeToString()
                )
                try:
                    method(data, timeout=60)
                except grpc.RpcError as error:
                    refusal = refusal_of_call(error)
                    assert refusal.code_name not in FAULTS, (data, refusal)
    assert client.still_works()
