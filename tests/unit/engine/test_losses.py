"""The loss of classes is PyTorch's, whichever of its targets are ignored."""

import numpy as np
import pytest
import torch
import torch.nn.functional as functional

from gradwire_engine import Tensor, backward, operators

CLASSES = 4

# Of targets and the index that is ignored: below the classes, one of them, or above them.
TARGETS: dict[str, tuple[list[int], int]] = {
    "none ignored": ([0, 3, 1, 3], -100),
    "some ignored": ([0, -100, 1, -100], -100),
    "a class ignored": ([0, 3, 1, 3], 3),
    "a class that no target is": ([0, 3, 1, 3], 2),
    "an index above the classes": ([0, 255, 1, 3], 255),
    "an index above, of no target": ([0, 2, 1, 3], 255),
    "all ignored": ([-1, -1], -1),
    "no rows": ([], -100),
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("case", TARGETS)
@pytest.mark.parametrize("has_weight", [False, True])
def test_a_loss_of_classes_is_that_of_torch(case: str, reduction: str, has_weight: bool) -> None:
    targets, ignored = TARGETS[case]
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((len(targets), CLASSES)).astype(np.float32)
    weight = rng.random(CLASSES).astype(np.float32) if has_weight else None
    target = np.array(targets, np.int64)
    x, leaf = Tensor.from_array(scores, requires_grad=True), torch.tensor(scores).requires_grad_()
    given = None if weight is None else Tensor.from_array(weight)
    made = operators["nll_loss"](x, Tensor.from_array(target), given, ignored, reduction)
    expected = functional.nll_loss(
        leaf,
        torch.from_numpy(target),
        None if weight is None else torch.from_numpy(weight),
        ignore_index=ignored,
        reduction=reduction,
    )
    np.testing.assert_allclose(made.data, expected.detach().numpy(), 1e-6)
    backward([made], [Tensor.from_array(np.ones(made.shape, np.float32))])
    expected.backward(torch.ones_like(expected))
    assert x.grad is not None and leaf.grad is not None
    np.testing.assert_allclose(x.grad.data, leaf.grad.numpy(), 1e-6)
