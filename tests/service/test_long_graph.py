"""A graph of 200,000 operators, built and gone through over the wire, and its memory back."""

from __future__ import annotations

from gradwire.v1.autograd_pb2_grpc import AutogradServiceStub
from tests.service.harness import Client, backward, fetch, get_grad, live_nodes, op, put, release

X, G = 1, 2
FIRST = 10
STEPS = 5_000
SEQUENCES = 40


def test_a_chain_of_200_000_operators_goes_forward_and_backward(
    stub: AutogradServiceStub,
) -> None:
    before = live_nodes()
    client = Client.open(stub)
    with client.stream() as stream:
        stream.run(put(X, [1.0], requires_grad=True), op("neg", [X], FIRST))
        for index in range(SEQUENCES):
            start = FIRST + index * STEPS
            steps = [op("neg", [handle], handle + 1) for handle in range(start, start + STEPS)]
            stream.start(
                *steps,
                release(*range(start, start + STEPS)),
                acknowledged=max(0, client.number - 1),
            )
        last = FIRST + SEQUENCES * STEPS
        stream.start(backward(last), get_grad(X, G), fetch(last, G))
        answers = [stream.receive() for _ in range(SEQUENCES + 1)]
        assert all(answer.refusal is None for answer in answers)
        assert [each.value for each in answers[-1].fetched] == [[-1.0], [-1.0]]
        assert live_nodes() > before + SEQUENCES * STEPS - STEPS
        assert stream.run(release(last, G)).refusal is None
    # The server runs in this process, so its nodes can be counted.
    assert live_nodes() < before + STEPS
    assert client.still_works()
