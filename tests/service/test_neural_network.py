"""What nn.functional does beyond a schema: padding by words, indices on demand, in place, modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import gradwire as gw
from tests.service.sdk import session

pytestmark = pytest.mark.usefixtures("session")
__all__ = ["session"]

CALLS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "conv2d, padding same": lambda F, x, w: F.conv2d(x, w, padding="same"),
    "conv2d, padding valid": lambda F, x, w: F.conv2d(x, w, stride=2, padding="valid"),
    "conv2d, numbers": lambda F, x, w: F.conv2d(x, w, None, (2, 1), 1, (1, 2)),
    "conv_transpose2d": lambda F, x, w: F.conv_transpose2d(x, w, None, 2, output_padding=1),
    "max_pool2d": lambda F, x, w: F.max_pool2d(x, 2),
    "max_pool2d with indices": lambda F, x, w: F.max_pool2d(x, 3, 2, 1, return_indices=True),
    "adaptive_avg_pool2d": lambda F, x, w: F.adaptive_avg_pool2d(x, (None, 3)),
    "adaptive_max_pool2d": lambda F, x, w: F.adaptive_max_pool2d(x, 2, True),
    "adaptive_max_pool2d, values": lambda F, x, w: F.adaptive_max_pool2d(x, 2),
    "avg_pool2d": lambda F, x, w: F.avg_pool2d(x, 2, ceil_mode=True),
    "batch_norm": lambda F, x, w: F.batch_norm(x, None, None, training=True),
    "group_norm": lambda F, x, w: F.group_norm(x, 2),
    "relu in place": lambda F, x, w: F.relu(x * 1, inplace=True),
    "leaky_relu_": lambda F, x, w: F.leaky_relu_(x * 1, 0.2),
    "pad": lambda F, x, w: F.pad(x, (1, 1, 2, 0), mode="replicate"),
    "unfold": lambda F, x, w: F.unfold(x, (2, 3), padding=1, stride=2),
    "fold": lambda F, x, w: F.fold(F.unfold(x, 2), (5, 6), 2),
    "interpolate": lambda F, x, w: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "interpolate to a size": lambda F, x, w: F.interpolate(x, (3, 9), mode="bicubic"),
    "lp_pool2d": lambda F, x, w: F.lp_pool2d(x, 2.0, 2),
    "pixel_shuffle": lambda F, x, w: F.pixel_shuffle(x, 2),
    "elu in place": lambda F, x, w: F.elu(x * 1, 0.5, inplace=True),
    "prelu": lambda F, x, w: F.prelu(x, w[0, :, 0, 0]),
    "smooth_l1_loss": lambda F, x, w: F.smooth_l1_loss(x, x.detach() * 0.3, beta=0.5),
    "cosine_similarity": lambda F, x, w: F.cosine_similarity(x, x.detach() + 1),
    "attention": lambda F, x, w: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "affine_grid": lambda F, x, w: F.affine_grid(x[:, 0, :2, :3], (2, 1, 4, 5), True),
    "affine_grid of a volume": lambda F, x, w: F.affine_grid(
        x[:, :3, 0, :4], (2, 1, 2, 1, 3), align_corners=False
    ),
    "grid_sample": lambda F, x, w: F.grid_sample(
        x,
        F.affine_grid(x[:, 0, :2, :3], (2, 4, 3, 3), align_corners=False),
        padding_mode="reflection",
        align_corners=False,
    ),
    "max_unpool2d": lambda F, x, w: F.max_unpool2d(
        *F.max_pool2d(x, 2, return_indices=True), 2, output_size=(5, 6)
    ),
    "dropout, not in training": lambda F, x, w: F.dropout(x, 0.5, training=False),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_gives_the_values_and_gradients_that_torch_gives(call: Callable[..., Any]) -> None:
    found, expected = ([], []), ([], [])
    for library, (values, gradients) in ((gw, found), (torch, expected)):
        x, w = inputs(library)
        made = call(library.nn.functional, x, w)
        results = made if isinstance(made, tuple) else (made,)
        (results[0] * results[0]).sum().backward()
        values += [each.detach().numpy() for each in results]
        gradients.append(x.grad.numpy())
    for one, other in zip([*found[0], *found[1]], [*expected[0], *expected[1]], strict=True):
        np.testing.assert_allclose(one, other, 1e-9, 1e-12)


def inputs(library: Any) -> tuple[Any, Any]:
    generator = np.random.default_rng(0)
    x, w = generator.standard_normal((2, 4, 5, 6)), generator.standard_normal((4, 4, 2, 3))
    return library.tensor(x, requires_grad=True), library.tensor(w)


def test_a_seed_decides_what_dropout_leaves_out() -> None:
    drawn = []
    for _ in range(2):
        gw.manual_seed(7)
        drawn.append(gw.nn.functional.dropout(gw.ones(1000), 0.5).tolist())
    assert drawn[0] == drawn[1]
    assert 0 < drawn[0].count(0.0) < 1000


def test_alignments_of_one_sequence_and_no_second_derivative_of_their_loss() -> None:
    scores = np.random.default_rng(0).standard_normal((6, 4))
    theirs = torch.tensor(scores, requires_grad=True)
    ours = gw.tensor(scores, requires_grad=True)
    expected = torch.nn.functional.ctc_loss(
        theirs.log_softmax(1), torch.tensor([1, 1, 3]), torch.tensor(6), torch.tensor(3)
    )
    expected.backward()
    log_probs = ours.log_softmax(1)
    found = gw.nn.functional.ctc_loss(log_probs, gw.tensor([1, 1, 3]), gw.tensor(6), gw.tensor(3))
    np.testing.assert_allclose(found.item(), expected.item())
    (gradient,) = gw.autograd.grad(found, ours, retain_graph=True)
    assert gradient is not None and theirs.grad is not None
    np.testing.assert_allclose(gradient.numpy(), theirs.grad.numpy(), 1e-9, 1e-12)
    (recorded,) = gw.autograd.grad(found, log_probs, create_graph=True)
    assert recorded is not None
    with pytest.raises(gw.GradwireError, match="no second derivative"):
        gw.autograd.grad(recorded.sum(), ours)[0].tolist()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
def test_attention_with_several_heads(compiled: bool, need_weights: bool) -> None:
    torch.manual_seed(0)
    shapes = [(3, 2, 6), (18, 6), (18,), (6, 6), (6,)]
    theirs = [torch.randn(shape, requires_grad=True) for shape in shapes]
    ours = [gw.tensor(each.detach(), requires_grad=True) for each in theirs]
    outputs: list[Any] = []
    for module, leaves in ((torch, theirs), (gw, ours)):
        forward: Any = module.nn.functional.multi_head_attention_forward

        def attend(x: Any, *weights: Any, forward: Any = forward) -> Any:
            given = (*weights[:2], None, None, False, 0.0, *weights[2:])
            output, chances = forward(x, x, x, 6, 2, *given, need_weights=need_weights)
            return (output, chances) if need_weights else output

        run = gw.compile(attend) if compiled and module is gw else attend
        results = run(*leaves)
        results = results if need_weights else (results,)
        sum((each * each).sum() for each in results).backward()
        outputs.append([each.detach().numpy() for each in (*results, *(p.grad for p in leaves))])
    for expected, found in zip(*outputs, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
