"""Failures as the SDK's user meets them: where, which exception, with which words."""

from __future__ import annotations

import inspect

import pytest

import gradwire as gw
from gradwire.v1 import autograd_pb2 as pb
from gradwire.v1.autograd_pb2_grpc import AutogradServiceStub
from tests.service.sdk import session

pytestmark = pytest.mark.usefixtures("session")
__all__ = ["session"]


def here() -> int:
    """The number of the line that calls."""
    frame = inspect.currentframe()
    assert frame is not None and frame.f_back is not None
    return frame.f_back.f_lineno


def test_an_error_points_at_the_line_that_recorded_the_step() -> None:
    a, b = gw.ones(2, 3), gw.ones(4, 5)
    line = here() + 1
    y = a @ b
    z = y + 1
    with pytest.raises(RuntimeError) as caught:
        z.tolist()
    error = caught.value
    assert isinstance(error, gw.errors.ShapeError)
    assert error.location is not None
    assert (error.location.filename, error.location.lineno) == (__file__, line)
    assert f"test_sdk_errors.py:{line}: y = a @ b" in str(error)
    assert "(2, 3)" in str(error) and "(4, 5)" in str(error)
    assert (error.reason, error.code) == ("SHAPE_MISMATCH", "INVALID_ARGUMENT")
    assert error.field.endswith("op")


def test_an_error_in_a_row_of_operators_points_at_its_own_line() -> None:
    y = gw.ones(2, 3)
    for _ in range(10):
        y = y * 2
    line = here() + 1
    z = y @ gw.ones(4, 5)
    later = [z + 1 for _ in range(10)]
    with pytest.raises(gw.errors.ShapeError) as caught:
        later[-1].numpy()
    assert caught.value.location is not None
    assert caught.value.location.lineno == line
    assert ".ops.calls[" in caught.value.field
    assert y.sum().item() == 6 * 2**10


def test_a_step_of_a_sequence_that_was_sent_earlier_is_found_too() -> None:
    x = gw.ones(3)
    line = here() + 1
    bad = x.view(2, 2)
    for _ in range(600):
        x = x + 1
    with pytest.raises(gw.errors.GradwireError) as caught:
        x.tolist()
    assert caught.value.location is not None
    assert caught.value.location.lineno == line
    del bad


def test_what_follows_from_a_failure_points_at_its_cause() -> None:
    x = gw.ones(3)
    line = here() + 1
    bad = x.view(2, 2)
    with pytest.raises(RuntimeError):
        bad.tolist()
    later = bad * 2
    with pytest.raises(gw.errors.ShapeError) as caught:
        later.tolist()
    assert caught.value.location is not None
    assert caught.value.location.lineno == line
    even_later = later + 1
    with pytest.raises(gw.errors.ShapeError) as caught:
        even_later.tolist()
    assert caught.value.location is not None
    assert caught.value.location.lineno == line


def test_a_failure_is_reported_once_and_other_tensors_stay_usable() -> None:
    x = gw.ones(3)
    bad = x.view(2, 2)
    with pytest.raises(RuntimeError):
        x.add(1).tolist()
    assert x.add(1).tolist() == [2.0, 2.0, 2.0]
    del bad


def test_a_remembered_value_does_not_hide_a_failure() -> None:
    x = gw.tensor([1.0])
    assert x.item() == 1.0
    bad = x.view(2, 2)
    with pytest.raises(RuntimeError):
        x.item()
    assert x.item() == 1.0
    del bad


def test_leaving_a_session_reports_what_was_not_read(address: str) -> None:
    with pytest.raises(gw.errors.ShapeError), gw.connect(address) as session:
        bad = gw.ones(3).view(2, 2)
    assert session.closed
    del bad


def test_an_exception_on_its_way_is_not_replaced_by_an_unread_failure(address: str) -> None:
    def fail() -> None:
        with gw.connect(address):
            bad = gw.ones(3).view(2, 2)
            raise KeyError(bad)

    with pytest.raises(KeyError):
        fail()


def test_failures_in_a_backward_point_at_the_backward() -> None:
    x = gw.tensor([1.0], requires_grad=True)
    y = x**2
    y.backward()
    line = here() + 1
    y.backward()
    with pytest.raises(gw.errors.AutogradError) as caught:
        gw.fetch(x)
    assert caught.value.location is not None
    assert caught.value.location.lineno == line
    assert caught.value.reason == "GRAPH_FREED"


def test_a_function_called_by_the_user_is_where_the_error_is() -> None:
    def model(x: gw.Tensor) -> gw.Tensor:
        return gw.nn.functional.softmax(x, dim=5)

    y = model(gw.ones(2))
    with pytest.raises(IndexError, match=r"nn\.functional\.softmax"):
        y.tolist()


def test_handles_dropped_in_a_sequence_that_failed_are_dropped_all_the_same(
    session: gw.Session,
) -> None:
    def live() -> int:
        session.synchronize()
        request = pb.GetSessionRequest(session_id=session.id)
        response = pb.GetSessionResponse
        return session.call(
            "/gradwire.v1.AutogradService/GetSession", request, response
        ).session.tensor_count

    x = gw.ones(3)
    before = live()
    bad = x.view(2, 2)
    more = [x + nr for nr in range(10)]
    del bad, more
    with pytest.raises(RuntimeError):
        x.add(0).tolist()
    assert live() == before


def test_errors_tell_what_they_know() -> None:
    y = gw.tensor([1.0, 2.0], requires_grad=True) * 2
    y.backward()
    with pytest.raises(gw.errors.AutogradError) as caught:
        y.tolist()
    assert caught.value.reason == "NON_SCALAR_ROOT"
    assert caught.value.metadata["shape"] == "(2,)"
    assert "gradient=v" in str(caught.value)


def test_tensors_of_two_sessions_do_not_mix(address: str, session: gw.Session) -> None:
    x = gw.ones(2)
    with gw.connect(address):
        y = gw.ones(2)
        for mix in (
            lambda: x + y,
            lambda: gw.add(x, y),
            lambda: gw.cat([x, y]),
            lambda: gw.fetch(x, y),
            lambda: gw.autograd.backward([x, y]),
            lambda: setattr(x, "grad", y),
        ):
            with pytest.raises(gw.GradwireError, match="session"):
                mix()


def test_a_closed_session_says_so(address: str) -> None:
    with gw.connect(address) as session:
        x = gw.ones(2)
    assert session.closed
    session.close()
    for use in (lambda: x + 1, x.tolist, lambda: session.tensor([1.0]), session.synchronize):
        with pytest.raises(gw.errors.SessionError, match="closed"):
            use()


def test_a_deleted_session_says_so(session: gw.Session, stub: AutogradServiceStub) -> None:
    x = gw.ones(2)
    x.tolist()
    stub.DeleteSession(pb.DeleteSessionRequest(session_id=session.id))
    for _ in range(2):
        with pytest.raises(gw.errors.SessionError) as caught:
            x.add(1).tolist()
        assert caught.value.reason == "SESSION_NOT_FOUND"
    with pytest.raises(gw.errors.SessionError):
        session.close()
    assert session.closed
