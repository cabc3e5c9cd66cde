"""No reason is left out: each that autograd can give is provoked in a case of the table."""

from __future__ import annotations

from gradwire.v1 import autograd_pb2 as pb
from tests.service.semantics import (
    test_assignment,
    test_backward_and_grad,
    test_in_place_and_views,
    test_leaves_and_flags,
    test_modes,
    test_numbers,
    test_saved_hooks,
    test_within_the_backward,
)
from tests.service.semantics.table import reasons

# PyTorch has nothing like it; test_within_the_backward provokes it all the same.
ELSEWHERE = {"HOOK_FAILED"}


def test_every_reason_of_autograd_is_provoked() -> None:
    first, end = pb.ERROR_REASON_NON_SCALAR_ROOT, pb.ERROR_REASON_MESSAGE_TOO_LARGE
    names = {
        name.removeprefix("ERROR_REASON_")
        for name, number in pb.ErrorReason.items()
        if first <= number < end
    }
    sections = (
        test_assignment,
        test_backward_and_grad,
        test_leaves_and_flags,
        test_in_place_and_views,
        test_modes,
        test_numbers,
        test_saved_hooks,
        test_within_the_backward,
    )
    provoked = set(reasons(*(section.table for section in sections)))
    assert names - provoked == ELSEWHERE
