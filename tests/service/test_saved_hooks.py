"""Saved-tensor hooks over the wire: what ends when, programs without a trip, clients that fail."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradwire as gw
import gradwire.aio
from gradwire.autograd.graph import save_on_cpu, saved_tensors_hooks
from gradwire.errors import GradwireError
from gradwire.utils.checkpoint import checkpoint
from gradwire.v1 import autograd_pb2 as pb
from gradwire.v1.autograd_pb2_grpc import AutogradServiceStub
from tests.service.harness import Client, Step, Stream, backward, fetch, get_grad, op, put, release
from tests.service.sdk import Proxy, session

__all__ = ["session"]


def kept_here() -> saved_tensors_hooks:
    return saved_tensors_hooks(lambda t: np.asarray(t.detach()), lambda kept: gw.tensor(kept))


def test_what_was_packed_is_dropped_when_its_node_is_done(session: gw.Session) -> None:
    w = gw.ones(3, requires_grad=True)
    most = 0
    for _ in range(20):
        with kept_here():
            loss = (w.exp() * w).sum()
        most = max(most, len(session.hooks))
        loss.backward()
    session.synchronize()
    assert 3 <= most <= 8
    assert not session.hooks


def test_what_was_packed_is_dropped_with_its_graph(session: gw.Session) -> None:
    w = gw.ones(3, requires_grad=True)
    with saved_tensors_hooks(lambda t: [t], lambda kept: kept[0]):
        loss = w.exp().exp()
    assert len(session.hooks) >= 2
    del loss
    gc.collect()
    session.synchronize()
    session.synchronize()
    assert not session.hooks


def test_what_was_packed_is_dropped_where_its_step_fails(session: gw.Session) -> None:
    x = gw.ones(3, requires_grad=True)
    y = gw.ones(3, requires_grad=True)
    calls: list[Any] = []

    def pack(tensor: Any) -> Any:
        calls.append(tensor)
        return tensor @ gw.ones(7) if len(calls) == 2 else tensor.tolist()

    with pytest.raises(GradwireError) as caught, saved_tensors_hooks(pack, lambda t: t):
        x * y
    assert caught.value.reason == "SHAPE_MISMATCH"
    assert "gw.ones(7)" in str(caught.value)
    session.synchronize()
    assert not session.hooks


def test_operators_alone_pack_on_the_server(session: gw.Session) -> None:
    x = gw.tensor([1.0, 2.0], requires_grad=True)
    session.synchronize()
    before = session.traffic.sequences
    with saved_tensors_hooks(lambda t: t.to(gw.float16), lambda t: t.to(gw.float32)), save_on_cpu():
        y = x.exp()
    assert session.traffic.sequences == before
    assert not session.hooks
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == y.tolist()


def test_large_tensors_are_packed_without_their_value(session: gw.Session) -> None:
    x = gw.ones(600, 600, requires_grad=True)
    before = session.traffic.received
    with saved_tensors_hooks(lambda t: (t, "whole"), lambda kept: kept[0]):
        y = x.exp()
    y.sum().backward()
    assert x.grad is not None
    assert session.traffic.received - before < 10_000


def test_every_256th_step_and_several_sessions(session: gw.Session, address: str) -> None:
    seen: list[float] = []

    def pack(tensor: gw.Tensor) -> gw.Tensor:
        seen.append(tensor.item())
        return tensor

    with gw.connect(address) as other:
        xs = [each.tensor(0.5, requires_grad=True) for each in (session, other)]
        with saved_tensors_hooks(pack, lambda t: t):
            ys = [x.exp() for _ in range(10) for x in xs]
            for _ in range(300):
                xs[1] + 1
            ys += [x.exp() for x in xs]
        assert len(seen) == 22
        for x, y in zip(xs, ys, strict=False):
            y.backward()
            assert x.grad is not None
        other.synchronize()


def test_hooks_within_hooks(session: gw.Session) -> None:
    x = gw.tensor([2.0], requires_grad=True)
    log: list[Any] = []

    def pack(tensor: gw.Tensor) -> Any:
        with gw.enable_grad(), saved_tensors_hooks(lambda t: log.append(t.item()) or 0, len):
            inner = (tensor.detach().requires_grad_() ** 2).exp()
        return inner.detach()

    with saved_tensors_hooks(pack, lambda t: t.log().sqrt()):
        y = x * x * x
    y.backward()
    assert log[:2] == [2.0, pytest.approx(54.598, rel=1e-4)]
    assert len(log) == 8
    assert x.grad is not None
    assert x.grad.item() == pytest.approx(12.0, rel=1e-4)


def test_a_checkpoint_under_hooks_packs_its_inputs(session: gw.Session) -> None:
    x = gw.tensor([0.5], requires_grad=True)
    log: list[Any] = []
    with saved_tensors_hooks(lambda t: log.append(t.item()) or t.tolist(), gw.tensor):
        y = checkpoint(lambda t: t.exp().exp(), x)
    assert log == [0.5]
    y.backward()
    z = gw.tensor([0.5], requires_grad=True)
    z.exp().exp().backward()
    assert x.grad is not None and z.grad is not None
    assert x.grad.item() == pytest.approx(z.grad.item())
    assert log == [0.5]


def test_a_graph_says_what_packed_tensors_were(session: gw.Session) -> None:
    x = gw.ones(2, 3, requires_grad=True)
    with saved_tensors_hooks(lambda t: t.half(), lambda t: t.float()):
        y = x.exp()
    with kept_here():
        z = x.exp()
    for tensor, size in ((y, 12), (z, 0)):
        text = str(gw.graph(tensor))
        assert "ExpBackward0" in text
        request = pb.GetGraphRequest(session_id=session.id, tensors=[tensor._handle])
        node = session.call(
            "/gradwire.v1.AutogradService/GetGraph", request, pb.GetGraphResponse
        ).nodes[0]
        (saved,) = node.saved
        assert (saved.name, list(saved.type.shape)) == ("result", [2, 3])
        assert (saved.type.dtype, saved.size_bytes) == (pb.DTYPE_FLOAT32, size)


def test_a_lost_connection_fails_the_step_and_nothing_else(address: str) -> None:
    proxy = Proxy(address)
    with gw.connect(proxy.address) as session:
        x = gw.tensor([1.0], requires_grad=True)
        with (
            pytest.raises(RuntimeError) as raised,
            saved_tensors_hooks(lambda t: proxy.cut(), lambda t: t),
        ):
            x.exp()
        assert isinstance(raised.value, GradwireError)
        assert raised.value.reason == "HOOK_FAILED"
        y = x.exp()
        y.backward()
        assert x.grad is not None and x.grad.item() == y.item()
        session.synchronize()
        assert not session.hooks
    proxy.close()


def test_an_interrupt_while_packing_leaves_the_session(session: gw.Session) -> None:
    x = gw.tensor([1.0], requires_grad=True)

    def interrupted(tensor: gw.Tensor) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), saved_tensors_hooks(interrupted, lambda t: t):
        x.exp()
    y = x * 3
    y.backward()
    assert x.grad is not None and x.grad.item() == 3


@pytest.mark.parametrize("is_coroutine", [False, True])
async def test_event_loops(address: str, is_coroutine: bool) -> None:
    async with gw.aio.connect(address) as session:
        x = gw.tensor([1.0, 2.0], requires_grad=True)
        kept: list[Any] = []

        async def pack_later(tensor: Any) -> int:
            kept.append(await tensor.tolist())
            return len(kept) - 1

        def pack(tensor: Any) -> int:
            # In a thread, where reading waits.
            kept.append(gw.fetch(tensor).tolist())
            return len(kept) - 1

        with saved_tensors_hooks(
            pack_later if is_coroutine else pack, lambda index: gw.tensor(kept[index])
        ):
            y = x * x
        z = y.sum()
        z.backward()
        grad = await x.get_grad()  # type: ignore[attr-defined]
        assert (await gw.aio.fetch(grad)).tolist() == [2.0, 4.0]
        assert kept == [[1.0, 2.0]] * 2
        await session.synchronize()
        await session.synchronize()
        assert not session.hooks


async def test_what_a_pack_hook_raises_in_an_event_loop(address: str) -> None:
    async with gw.aio.connect(address):
        x = gw.tensor([1.0], requires_grad=True)
        with saved_tensors_hooks(lambda t: {}["nothing"], lambda t: t):
            y = x.exp()
        with pytest.raises(KeyError):
            await y.item()  # type: ignore[misc]
        assert await (x * 2).item() == 2.0  # type: ignore[misc]


X, Y, G = 1, 2, 3
N, M = 7, 8


def register(**fields: Any) -> pb.Step:
    return pb.Step(register_hook=pb.RegisterHook(hook=N, kind=pb.HOOK_KIND_PACK, **fields))


def under(step: pb.Step, hook: int = N) -> pb.Step:
    step.saved_hooks = hook
    return step


def setup() -> tuple[Step, ...]:
    return put(X, [1.0, 2.0], requires_grad=True), register(), under(op("exp", [X], Y))


def program(name: str, **attributes: Any) -> pb.Program:
    return pb.Program(inputs=[1], steps=[op(name, [1], 2, **attributes)], outputs=[2])


def call_of(stream: Stream) -> pb.HookCall:
    response = next(stream.call)
    assert response.HasField("hook_call"), response
    call: pb.HookCall = response.hook_call
    return call


def answer(stream: Stream, call: pb.HookCall, **fields: Any) -> None:
    stream.write(pb.RunStreamRequest(hook_answer=pb.HookAnswer(call=call.call, **fields)))


def test_any_client_can_keep_what_is_saved(client: Client) -> None:
    with client.stream() as stream:
        ones = put(20, [1.0, 1.0])
        stream.start(*setup(), ones, backward(Y, gradients=[20]), get_grad(X, G), fetch(G))
        call = call_of(stream)
        assert (call.hook, call.replaceable, len(call.gradients)) == (N, 1, 1)
        answer(stream, call, gradients=[50], unpack_hook=M)
        call = call_of(stream)
        assert (call.hook, call.replaceable, len(call.gradients)) == (M, 1, 0)
        double = op("mul", [50], 51, other=2.0)
        answer(stream, call, steps=[double], replacements=[51])
        response = next(stream.call)
        (found,) = response.result.fetched
        values = np.frombuffer(response.payloads[found.value.payload], "f4")
        np.testing.assert_allclose(values, 2 * np.exp([1.0, 2.0]), rtol=1e-6)
        assert list(response.result.ended_hooks) == [M]
        stream.start(pb.Step(remove_hook=pb.RemoveHook(hook=N)))
        assert list(next(stream.call).result.ended_hooks) == [N]
    assert client.still_works()


def test_an_answer_without_a_number_leaves_the_tensor_or_a_replacement_there(
    client: Client,
) -> None:
    with client.stream() as stream:
        stream.start(*setup(), under(op("sin", [X], 5)), put(20, [1.0, 1.0]))
        answer(stream, call_of(stream))
        answer(
            stream,
            call_of(stream),
            gradients=[50],
            steps=[op("zeros_like", [50], 51)],
            replacements=[51],
        )
        assert stream.receive().refusal is None
        found = stream.run(
            backward(Y, gradients=[20]),
            get_grad(X, G),
            fetch(G),
            backward(5, gradients=[20]),
            fetch(G),
        ).fetched
        first, both = [each.value for each in found]
        assert first is not None and both is not None
        np.testing.assert_allclose(first, np.exp([1.0, 2.0]), rtol=1e-6)
        # The derivative of sin at the zeros that were kept.
        np.testing.assert_allclose(both - first, [1.0, 1.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"error": "KeyError: 'k'"}, "HOOK_FAILED"),
        ({"unpack_hook": N}, "HANDLE_IN_USE"),
        ({"replacements": [X, X]}, "HOOK_SHAPE"),
        ({"replacements": [99]}, "HANDLE_NOT_FOUND"),
        ({"steps": [op("bogus", [X], 60)]}, "UNKNOWN_OP"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_an_answer_that_will_not_do_fails_its_step(
    client: Client, fields: dict[str, Any], reason: str
) -> None:
    with client.stream() as stream:
        stream.start(*setup())
        answer(stream, call_of(stream), **fields)
        answered = stream.receive()
        assert answered.refusal is not None
        assert answered.refusal.reason == reason
        assert answered.refusal.metadata["step"] == "2"
        assert stream.run(fetch(X)).refusal is None
    assert client.refused(fetch(Y)).reason == reason
    assert client.still_works()


def test_an_unpack_hook_gives_a_tensor(client: Client) -> None:
    with client.stream() as stream:
        stream.start(*setup(), put(20, [1.0, 1.0]), backward(Y, gradients=[20]))
        answer(stream, call_of(stream), unpack_hook=M)
        answer(stream, call_of(stream))
        answered = stream.receive()
        assert answered.refusal is not None
        assert answered.refusal.reason == "HOOK_SHAPE"
        # It ends with its node, and not before.
        assert stream.run(pb.Step(remove_hook=pb.RemoveHook(hook=M))).refusal is None
        stream.start(backward(Y, gradients=[20]))
        answer(stream, call_of(stream), replacements=[X])
        assert stream.receive().refusal is None


def test_a_unary_call_cannot_carry_the_call_and_says_what_can(client: Client) -> None:
    refused = client.refused(*setup())
    assert (refused.reason, refused.code_name) == ("HOOK_FAILED", "ABORTED")
    assert "RunStream" in refused.message
    assert client.still_works()


def test_programs_need_no_stream(client: Client) -> None:
    pair = {"program": program("mul", other=3.0), "unpack": program("add", other=1.0)}
    found = client.run(
        put(X, [1.0, 2.0], requires_grad=True),
        register(**pair),
        under(op("mul", [X, X], Y)),
        pb.Step(remove_hook=pb.RemoveHook(hook=N)),
        under(op("sum", [Y], 5)),
        backward(5),
        get_grad(X, G),
        fetch(G),
    )
    assert found[0].value is not None
    # Each factor x was kept as 3 x and given back as 3 x + 1.
    assert found[0].value.tolist() == [8.0, 14.0]


@pytest.mark.parametrize(
    ("step", "reason", "field"),
    [
        (register(tensor=X), "MALFORMED_REQUEST", "register_hook.target"),
        (register(program=program("exp")), "MALFORMED_REQUEST", "register_hook.unpack"),
        (register(unpack=program("exp")), "MALFORMED_REQUEST", "register_hook.unpack"),
        (
            register(program=program("exp"), unpack=pb.Program(inputs=[1, 2], outputs=[1])),
            "WRONG_ARITY",
            "register_hook.unpack",
        ),
        (
            register(program=pb.Program(inputs=[1], outputs=[0]), unpack=program("exp")),
            "WRONG_ARITY",
            "register_hook.program",
        ),
        (
            pb.Step(register_hook=pb.RegisterHook(hook=N, kind=pb.HOOK_KIND_UNPACK, tensor=X)),
            "MALFORMED_REQUEST",
            "register_hook.kind",
        ),
    ],
)
def test_registrations_that_are_refused(
    client: Client, step: pb.Step, reason: str, field: str
) -> None:
    refused = client.refused(put(X, [1.0, 2.0], requires_grad=True), step)
    assert (refused.reason, refused.field) == (reason, f"steps[1].{field}")
    assert client.still_works()


def test_pack_hooks_are_bounded(start_server: Callable[..., AutogradServiceStub]) -> None:
    client = Client.open(start_server(max_session_tensors=5))
    for hook in range(1, 6):
        step = register()
        step.register_hook.hook = hook
        client.run(step)
    assert client.refused(register()).metadata["limit"] == "max_session_tensors"
    client.run(*[pb.Step(remove_hook=pb.RemoveHook(hook=hook)) for hook in range(1, 6)])
    assert client.still_works()


def test_what_is_packed_there_counts_among_the_bytes_of_the_session(
    start_server: Callable[..., AutogradServiceStub],
) -> None:
    client = Client.open(start_server(max_session_bytes=1 << 20))
    copies = register(program=program("clone"), unpack=program("clone"))
    client.run(put(X, np.ones(1 << 14), requires_grad=True), copies)
    # Each keeps a result and two copies, of 64 KiB.
    client.run(*[under(op("mul", [X, X], handle)) for handle in range(10, 14)])
    refused = client.refused(*[under(op("mul", [X, X], handle)) for handle in range(14, 18)])
    assert refused.metadata["limit"] == "max_session_bytes"
    client.run(release(*range(10, 18)))
    assert client.still_works()


def test_a_client_that_stalls_fails_its_step_and_nothing_else(
    start_server: Callable[..., AutogradServiceStub],
) -> None:
    stub = start_server(hook_seconds=0.3, threads=1)
    stalling, other = Client.open(stub), Client.open(stub)
    with stalling.stream() as stream:
        stream.start(*setup())
        call_of(stream)
        assert other.still_works()
        answered = stream.receive()
        assert answered.refusal is not None
        assert answered.refusal.reason == "HOOK_FAILED"
        assert "hook_seconds" in answered.refusal.message
    assert stalling.still_works()
