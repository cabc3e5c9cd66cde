"""Normalization over a batch, with running statistics; and over images, which is a kind of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradwire_engine.context import grad_mode
from gradwire_engine.declare import composite, general
from gradwire_engine.errors import EngineError
from gradwire_engine.ops.blocks import wide
from gradwire_engine.ops.normalization import (
    Needs,
    by_channel,
    check_channels,
    narrow,
    normalized,
    through,
)

_FUNCTIONAL = ("nn.functional",)

# Images are worked on in blocks that stay in the cache of a core.
_BLOCK_BYTES = 1 << 17


def _batch_norm(
    input: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    running_mean: np.ndarray | None,
    running_var: np.ndarray | None,
    training: bool,
    eps: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = by_channel(wide(input))
    n, channels, pixels = x.shape
    count = max(n * pixels, 1)
    if training:
        mean = np.einsum("ncp->c", x) / count
        variance = np.zeros(channels, x.dtype)
        step = max(1, _BLOCK_BYTES // max(channels * pixels * x.itemsize, 1))
        for first in range(0, n, step):
            centred = x[first : first + step] - mean[:, None]
            variance += np.einsum("ncp,ncp->c", centred, centred)
        variance /= count
    else:
        assert running_mean is not None and running_var is not None
        mean, variance = wide(running_mean), wide(running_var)
    scale = np.asarray(1 / np.sqrt(variance + eps), x.dtype)
    factor = scale if weight is None else scale * weight
    # Subtracted first: folded into the shift, a large mean would cost its digits.
    out = x - mean[:, None]
    out *= factor[:, None]
    if bias is not None:
        out += bias[:, None]
    return out.reshape(input.shape).astype(input.dtype, copy=False), mean, scale


def _batch_norm_gradients(
    grad_output: np.ndarray,
    input: np.ndarray,
    weight: np.ndarray | None,
    running_mean: np.ndarray | None,
    running_var: np.ndarray | None,
    mean: np.ndarray,
    scale: np.ndarray,
    training: bool,
    eps: float,
    needs: Needs,
) -> tuple[Any, ...]:
    x, g = by_channel(wide(input)), by_channel(wide(grad_output))
    n, channels, pixels = x.shape
    mean, scale = mean.astype(x.dtype, copy=False), scale.astype(x.dtype, copy=False)
    factor = scale if weight is None else scale * weight
    sums = np.einsum("ncp->c", g)
    products: Any = None
    if needs[1] or (training and needs[0]):
        products = np.zeros(channels, x.dtype)
        step = max(1, _BLOCK_BYTES // max(channels * pixels * x.itemsize, 1))
        for first in range(0, n, step):
            block = slice(first, first + step)
            products += np.einsum("ncp,ncp->c", g[block], x[block] - mean[:, None])
        products *= scale
    by_input = None
    if needs[0]:
        if training:
            count = max(n * pixels, 1)
            by_input = x - mean[:, None]
            by_input *= (-scale * products / count)[:, None]
            by_input += g
            by_input -= (sums / count)[:, None]
            by_input *= factor[:, None]
        else:
            by_input = g * factor[:, None]
        by_input = by_input.reshape(input.shape)
    found = (by_input, products if needs[1] else None, sums if needs[2] else None)
    return narrow(found, input.dtype)


def _batch_norm_formula(
    F: Any,
    g: Any,
    input: Any,
    weight: Any,
    running_mean: Any,
    running_var: Any,
    mean: Any,
    scale: Any,
    training: bool,
    eps: float,
    needs: Needs,
) -> tuple[Any, Any, Any]:
    channels = (1, input.shape[1], *(1 for _ in input.shape[2:]))
    over = (0, *range(2, len(input.shape)))
    weighted = g if weight is None else g * F.reshape(weight, channels)
    if training:
        x, scale = normalized(F, input, over, eps)
        by_input = through(F, weighted, x, scale, over) if needs[0] else None
    else:
        scale = F.reshape(F.rsqrt(running_var + eps), channels)
        x = (input - F.reshape(running_mean, channels)) * scale
        by_input = weighted * scale
    return (
        by_input,
        F.sum(g * x, over) if needs[1] else None,
        F.sum(g, over) if needs[2] else None,
    )


composite(
    "_batch_norm_backward(Tensor grad_output, Tensor input, Tensor? weight, Tensor? running_mean, "
    "Tensor? running_var, Tensor mean, Tensor scale, bool training, float eps, bool[] needs) "
    "-> (Tensor input, Tensor weight, Tensor bias)",
    _batch_norm_formula,
    kernel=_batch_norm_gradients,
    places=(),
)


def _batch_norm_rule(
    F: Any,
    gs: Any,
    needs: Needs,
    input: Any,
    weight: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    eps: float,
    mean: Any,
    scale: Any,
) -> Any:
    return F._batch_norm_backward(
        gs[0], input, weight, running_mean, running_var, mean, scale, training, eps, needs
    )


general(
    "_batch_norm(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, "
    "Tensor? running_var, bool training, float eps) -> (Tensor result, Tensor mean, Tensor scale)",
    _batch_norm,
    {"input weight bias": _batch_norm_rule},
    grad_fn="NativeBatchNormBackward0",
    places=(),
)


def _with_running_statistics(
    F: Any,
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any,
    bias: Any,
    training: bool,
    momentum: float,
    eps: float,
) -> Any:
    if 0 in input.shape and len(input.shape) < 2:
        # As PyTorch: nothing to normalize, not even channels.
        return F.clone(input)
    check_channels(
        "batch_norm",
        input,
        weight=weight,
        bias=bias,
        running_mean=running_mean,
        running_var=running_var,
    )
    count = math.prod(input.shape) // max(input.shape[1], 1)
    if training and count == 1:
        raise _too_few("batch_norm", "value", input)
    if not training and (running_mean is None or running_var is None):
        raise _no_statistics("batch_norm", "training")
    kept = () if training else (running_mean, running_var)
    result, mean, scale = F._batch_norm(input, weight, bias, *(kept or (None, None)), training, eps)
    if training:
        with grad_mode(False):
            if running_mean is not None:
                _move(F, running_mean, mean, momentum)
            if running_var is not None:
                # The estimate for what the batch was drawn from.
                variance = F.pow(scale, -2) - eps
                _move(F, running_var, variance * (count / max(count - 1, 1)), momentum)
    return result


def _too_few(op: str, what: str, input: Any) -> EngineError:
    return EngineError(
        "BAD_VALUE",
        f"{op}: in training there must be more than one {what} for each channel; an input of shape "
        f"{input.shape} has one",
        argument="input",
        shape=input.shape,
    )


def _no_statistics(op: str, flag: str) -> EngineError:
    return EngineError(
        "BAD_VALUE",
        f"{op}: without {flag}=True it needs running_mean and running_var",
        argument="running_mean",
    )


def _move(F: Any, running: Any, batch: Any, momentum: float) -> None:
    F.add_(F.mul_(running, 1 - momentum), F.to(batch, running.dtype), alpha=momentum)


composite(
    "batch_norm(Tensor input, Tensor? running_mean, Tensor? running_var, Tensor? weight=None, "
    "Tensor? bias=None, bool training=False, float momentum=0.1, float eps=1e-05) -> Tensor",
    _with_running_statistics,
    places=_FUNCTIONAL,
)


def _instance_norm(
    F: Any,
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any,
    bias: Any,
    use_input_stats: bool,
    momentum: float,
    eps: float,
) -> Any:
    """A batch norm of which each channel of each image is a channel."""
    channels = check_channels(
        "instance_norm",
        input,
        weight=weight,
        bias=bias,
        running_mean=running_mean,
        running_var=running_var,
    )
    n, pixels = input.shape[0], math.prod(input.shape[2:])
    if use_input_stats and len(input.shape) > 2 and pixels == 1:
        raise _too_few("instance_norm", "pixel", input)
    if not use_input_stats and (running_mean is None or running_var is None):
        raise _no_statistics("instance_norm", "use_input_stats")

    def repeated(given: Any) -> Any:
        return None if given is None else F.repeat(given, (n,))

    with grad_mode(False):
        means, variances = repeated(running_mean), repeated(running_var)
    result = F.batch_norm(
        F.reshape(input, (1, n * channels, *input.shape[2:])),
        means,
        variances,
        repeated(weight),
        repeated(bias),
        use_input_stats,
        momentum,
        eps,
    )
    if use_input_stats:
        with grad_mode(False):
            for running, moved in ((running_mean, means), (running_var, variances)):
                if running is not None:
                    F.copy_(running, F.mean(F.reshape(moved, (n, channels)), (0,)))
    return F.view(result, input.shape)


composite(
    "instance_norm(Tensor input, Tensor? running_mean=None, Tensor? running_var=None, "
    "Tensor? weight=None, Tensor? bias=None, bool use_input_stats=True, float momentum=0.1, "
    "float eps=1e-05) -> Tensor",
    _instance_norm,
    places=_FUNCTIONAL,
)
