"""Saved-tensor hooks that keep a copy change no gradient, of any kind of operator and order."""

import numpy as np
import pytest
import torch

from gradwire_engine import Tensor, grad
from gradwire_engine.saved_hooks import saved_tensors_hooks
from tests.parity.oracle import ENTRIES, Entry
from tests.parity.test_derivatives import as_function, directions, leaf, small_calls

KINDS = frozenset(
    """
    mul pow exp where cat stack max prod std norm softmax cumprod sort gather index_put matmul addmm
    linalg.solve linalg.det nn.functional.linear nn.functional.layer_norm nn.functional.conv2d
    nn.functional.cross_entropy nn.functional.embedding maximum logsumexp masked_fill t
    """.split()
)
"""Operators that keep arguments, results, parts of either, lists, shapes, or nothing."""

DIFFERENTIABLE = [entry for entry in ENTRIES if entry.id in KINDS]
CALLS = 2
"""Of each operator; what is saved does not depend on more."""


@pytest.mark.parametrize("entry", DIFFERENTIABLE, ids=lambda entry: entry.id)
def test_a_copy_is_as_good_as_what_was_saved(entry: Entry) -> None:
    kept: list[bytes] = []

    def pack(tensor: Tensor) -> tuple[bytes, str, tuple[int, ...]]:
        kept.append(tensor.data.tobytes())
        return kept[-1], tensor.dtype.str, tensor.shape

    def unpack(packed: tuple[bytes, str, tuple[int, ...]]) -> Tensor:
        data, dtype, shape = packed
        return Tensor(np.frombuffer(data, dtype).reshape(shape))

    for call in list(small_calls(entry, torch.float64))[:CALLS]:
        function, leaves = as_function(call)
        results = function(leaves)
        if not results or not leaves:
            continue
        cotangents = directions(np.random.default_rng(0), results)
        with saved_tensors_hooks(pack, unpack):
            packed = function(leaves)
        plain = _orders(results, leaves, cotangents)
        hooked = _orders(packed, leaves, cotangents)
        with saved_tensors_hooks(pack, unpack):
            within = _orders(function(leaves), leaves, cotangents)
        for one, other, third in zip(plain, hooked, within, strict=True):
            for gradient in (other, third):
                # Copies lie differently in memory, so products of matrices may round differently.
                np.testing.assert_allclose(gradient, one, 1e-12, 1e-12, err_msg=str(call))


def _orders(
    results: list[Tensor], leaves: list[Tensor], cotangents: list[np.ndarray]
) -> list[np.ndarray]:
    """The gradients, and those of their sum."""
    given = [leaf(each) for each in cotangents]
    first = grad(results, leaves, given, retain_graph=True, materialize_grads=True)
    traced = grad(results, leaves, given, create_graph=True, retain_graph=True, allow_unused=True)
    live = [each for each in traced if each is not None and each.requires_grad]
    if not live:
        return [each.data for each in first if each is not None]
    ones = [Tensor(np.ones_like(each.data)) for each in live]
    second = grad(live, [*leaves, *given], ones, materialize_grads=True)
    return [each.data for each in (*first, *second) if each is not None]
