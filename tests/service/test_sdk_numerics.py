"""Numerics through the SDK: results by name, lists of them, namespaces, words for numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gradwire as gw
from tests.service.sdk import session

pytestmark = pytest.mark.usefixtures("session")
__all__ = ["session"]

VALUES = np.random.default_rng(0).standard_normal((4, 4))


def both() -> tuple[gw.Tensor, torch.Tensor]:
    return gw.tensor(VALUES, requires_grad=True), torch.tensor(VALUES, requires_grad=True)


def test_results_have_names_and_unpack_as_in_torch() -> None:
    ours, theirs = both()
    values, indices = ours.sort(dim=0, descending=True)
    np.testing.assert_array_equal(indices.numpy(), theirs.sort(dim=0, descending=True).indices)
    assert ours.topk(2).values.tolist() == theirs.topk(2).values.tolist()
    assert gw.linalg.svd(ours)._fields == ("U", "S", "Vh")
    median = ours.median(1)
    assert (median.values.tolist(), ours.median().item()) == (
        theirs.median(1).values.tolist(),
        theirs.median().item(),
    )
    (values * gw.tensor([1.0, 2.0, 3.0, 4.0])[:, None]).sum().backward()
    (theirs.sort(dim=0, descending=True).values * torch.arange(1.0, 5.0)[:, None]).sum().backward()
    assert ours.grad is not None
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad)


def test_lists_of_results_are_as_long_as_the_arguments_say() -> None:
    ours, theirs = both()
    for split in (3, [1, 2]):
        found = [part.tolist() for part in gw.tensor_split(ours, split, dim=1)]
        assert found == [part.tolist() for part in torch.tensor_split(theirs, split, dim=1)]
    assert [part.shape for part in ours.hsplit(2)] == [(4, 2)] * 2
    grids = gw.meshgrid(gw.arange(3), gw.arange(2), indexing="xy")
    expected = torch.meshgrid(torch.arange(3), torch.arange(2), indexing="xy")
    assert [each.tolist() for each in grids] == [each.tolist() for each in expected]
    wide, tall = gw.broadcast_tensors(gw.ones(1, 3), gw.ones(2, 1))
    assert wide.shape == tall.shape == (2, 3)


def test_which_elements_there_are_and_where_as_in_torch() -> None:
    data = [[3, 1, 1], [0, 3, 3]]
    ours, theirs = gw.tensor(data), torch.tensor(data)
    for options in (
        {"return_counts": True},
        {"return_inverse": True},
        {"return_inverse": True, "return_counts": True, "dim": 1},
    ):
        for name in ("unique", "unique_consecutive"):
            found = getattr(gw, name)(ours, **options)
            expected = getattr(torch, name)(theirs, **options)
            assert [each.tolist() for each in found] == [each.tolist() for each in expected]
    assert ours.unique().tolist() == [0, 1, 3]
    assert ours.nonzero().tolist() == theirs.nonzero().tolist()
    places = ours.nonzero(as_tuple=True)
    assert [each.tolist() for each in places] == [
        each.tolist() for each in theirs.nonzero(as_tuple=True)
    ]
    assert ours[places].tolist() == theirs[theirs.nonzero(as_tuple=True)].tolist()
    assert [each.tolist() for each in gw.nonzero(gw.tensor(7), as_tuple=True)] == [[0]]


def test_gradients_of_samples_take_a_number_numbers_or_coordinates() -> None:
    ours, theirs = both()
    points = [0.0, 1.0, 3.0, 4.0]
    pairs = [
        (gw.gradient(ours), torch.gradient(theirs)),
        (gw.gradient(ours, spacing=0.5, dim=1), torch.gradient(theirs, spacing=0.5, dim=1)),
        (
            gw.gradient(ours, spacing=[gw.tensor(points)] * 2, edge_order=2),
            torch.gradient(theirs, spacing=[torch.tensor(points)] * 2, edge_order=2),
        ),
    ]
    for found, expected in pairs:
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one.detach().numpy(), other.detach(), 1e-6)
    with pytest.raises(gw.GradwireError) as refused:
        gw.gradient(ours, spacing=[1.0, 2.0, 3.0])[0].tolist()
    assert refused.value.reason == "BAD_VALUE"


def test_namespaces_are_those_of_torch() -> None:
    ours, theirs = both()
    pairs = [
        (gw.linalg.det(ours), torch.linalg.det(theirs)),
        (gw.linalg.norm(ours, "nuc"), torch.linalg.norm(theirs, "nuc")),
        (gw.linalg.norm(ours, 1), torch.linalg.norm(theirs, 1)),
        (gw.fft.irfft(gw.fft.rfft(ours)).sum(), torch.fft.irfft(torch.fft.rfft(theirs)).sum()),
        (gw.special.erfcx(ours).sum(), torch.special.erfcx(theirs).sum()),
        (
            gw.einsum("ij,kj->ik", [ours, ours]).sum(),
            torch.einsum("ij,kj->ik", theirs, theirs).sum(),
        ),
        (gw.quantile(ours, 0.3), torch.quantile(theirs, 0.3)),
    ]
    for one, other in pairs:
        assert one.grad_fn is not None and other.grad_fn is not None
        assert one.grad_fn.name() == other.grad_fn.name()
        np.testing.assert_allclose(one.item(), other.item())
        np.testing.assert_allclose(
            gw.autograd.grad(one, ours)[0].numpy(), torch.autograd.grad(other, theirs)[0], 1e-9
        )


def test_a_matrix_without_an_inverse_is_refused_and_the_session_lives() -> None:
    matrix = gw.zeros(2, 2)
    with pytest.raises(ValueError, match="singular"):
        gw.linalg.inv(matrix).numpy()
    assert matrix.sum().item() == 0
