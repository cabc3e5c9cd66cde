"""The loss of connectionist temporal classification, which sums over all alignments.

Graves et al., 2006: Connectionist Temporal Classification. Between the labels of a target, before
and after them, there may be blanks: 2L + 1 states, through which a path goes on by none, one or,
past a blank between different labels, two.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwire_engine.declare import composite, general
from gradwire_engine.errors import EngineError
from gradwire_engine.ops.accumulation import add_at
from gradwire_engine.ops.index_checks import require_in_range, require_index
from gradwire_engine.ops.losses import require_reduction

_OP = "ctc_loss"


def _states(targets: np.ndarray, lengths: np.ndarray, blank: int) -> tuple[np.ndarray, np.ndarray]:
    """The label of each state, (n, states), and which can be entered past the state before."""
    longest = int(lengths.max(initial=0))
    labels = np.full((len(lengths), 2 * longest + 1), blank)
    inner = np.arange(longest) < lengths[:, None]
    if targets.ndim == 1:
        begins = np.cumsum(lengths) - lengths
        places = np.where(inner, begins[:, None] + np.arange(longest), 0)
        read = targets[places] if targets.size else np.zeros(inner.shape, np.int64)
    else:
        read = targets[:, :longest]
    labels[:, 1::2] = np.where(inner, read, blank)
    return labels, _skips(labels, blank)


def _skips(labels: np.ndarray, blank: int) -> np.ndarray:
    skips = np.zeros(labels.shape, np.bool_)
    skips[:, 2:] = (labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2])
    return skips


def _step(before: np.ndarray, skips: np.ndarray) -> np.ndarray:
    """Logarithms of the sums over the states that each can be entered from."""
    nothing = np.full((len(before), 2), -np.inf, before.dtype)
    padded = np.concatenate((nothing, before), 1)
    entered = np.logaddexp(before, padded[:, 1:-1])
    made: np.ndarray = np.where(skips, np.logaddexp(entered, padded[:, :-2]), entered)
    return made


def _forward(scores: np.ndarray, skips: np.ndarray) -> np.ndarray:
    """For each time and state the logarithm of the sum over the paths that lead there.

    Args:
        scores: (time, n, states).
    """
    alpha = np.full_like(scores, -np.inf)
    if len(scores):
        alpha[0, :, :2] = scores[0, :, :2]
    for t in range(1, len(scores)):
        alpha[t] = _step(alpha[t - 1], skips) + scores[t]
    return alpha


def _ends(alpha: np.ndarray, input_lengths: np.ndarray, target_lengths: np.ndarray) -> np.ndarray:
    """Logarithms of the sums over all paths, by which the target's last states are reached."""
    samples = np.arange(alpha.shape[1])
    last = alpha[np.maximum(input_lengths - 1, 0), samples]
    total = last[samples, 2 * target_lengths]
    label = last[samples, np.maximum(2 * target_lengths - 1, 0)]
    total = np.where(target_lengths > 0, np.logaddexp(total, label), total)
    # In no time only the empty target is reached.
    return np.where(input_lengths > 0, total, np.where(target_lengths > 0, -np.inf, 0))


def _scores(log_probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.take_along_axis(
        log_probs, np.broadcast_to(labels, (len(log_probs), *labels.shape)), 2
    )


def _losses(
    log_probs: np.ndarray,
    targets: np.ndarray,
    input_lengths: np.ndarray,
    target_lengths: np.ndarray,
    blank: int,
) -> np.ndarray:
    labels, skips = _states(targets, target_lengths, blank)
    alpha = _forward(_scores(log_probs, labels), skips)
    return -_ends(alpha, input_lengths, target_lengths).astype(log_probs.dtype)


def _slopes(
    log_probs: np.ndarray,
    targets: np.ndarray,
    input_lengths: np.ndarray,
    target_lengths: np.ndarray,
    blank: int,
) -> np.ndarray:
    """Of each sample's loss by what the logarithms of probabilities were made of.

    That is by scores of which a log_softmax was taken, as in PyTorch: probabilities, without how
    much of each symbol the paths use.
    """
    time, n, symbols = log_probs.shape
    labels, skips = _states(targets, target_lengths, blank)
    scores = _scores(log_probs, labels)
    alpha = _forward(scores, skips)
    total = _ends(alpha, input_lengths, target_lengths)
    # Backwards the same from the end, with each sample's last time first and last state first.
    times = np.arange(time)[:, None]
    states = np.arange(labels.shape[1])
    at_time = np.where(times < input_lengths, input_lengths - 1 - times, times)
    count = (2 * target_lengths + 1)[:, None]
    at_state = np.where(states < count, count - 1 - states, states)
    samples = np.arange(n)[:, None]
    turned = scores[at_time[:, :, None], samples, at_state]
    back_skips = _skips(np.take_along_axis(labels, at_state, 1), blank)
    beta = _forward(np.where(states < count, turned, -np.inf), back_skips)
    beta = beta[at_time[:, :, None], samples, at_state]
    used = np.exp(alpha + beta - scores - total[:, None])
    used = np.where((times < input_lengths)[:, :, None] & (states < count), used, 0)
    shares = np.zeros((time, n, symbols), log_probs.dtype)
    every = np.arange(time)[:, None, None]
    add_at(shares, (every, samples, labels), used)
    inside = (times < input_lengths)[:, :, None]
    return np.where(inside, np.exp(log_probs) - shares, 0).astype(log_probs.dtype)


def _refuse_second(F: Any, g: Any) -> Any:
    raise EngineError(
        "BAD_VALUE",
        f"{_OP}: has no second derivative; take its gradient without create_graph, and it is a "
        "constant to what follows",
        op=_OP,
    )


_ARGUMENTS = (
    "Tensor log_probs, Tensor targets, Tensor input_lengths, Tensor target_lengths, int blank"
)
general(
    f"_ctc_slopes({_ARGUMENTS}) -> Tensor",
    _slopes,
    _refuse_second,
    grad_fn="CtcLossBackwardBackward0",
    places=(),
)


def _pulled(
    F: Any,
    g: Any,
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int,
) -> Any:
    slopes = F._ctc_slopes(log_probs, targets, input_lengths, target_lengths, blank)
    # A gradient of zero is of a loss that was replaced, whose slopes may be no numbers.
    return F.where(F.unsqueeze(g, 1) == 0, 0.0, F.unsqueeze(g, 1) * slopes)


general(
    f"_ctc_losses({_ARGUMENTS}) -> Tensor",
    _losses,
    _pulled,
    grad_fn="CtcLossBackward0",
    shape=lambda log_probs, targets, input_lengths, target_lengths, blank: (
        len(log_probs),
        len(target_lengths),
        2 * int(target_lengths.max(initial=0)) + 1,
    ),
    flops=lambda log_probs, targets, *rest: 20 * log_probs.shape[0] * (targets.data.size + 1),
    places=(),
)


def _require_lengths(name: str, lengths: Any, count: int, most: int) -> None:
    require_index(lengths.data, _OP)
    if lengths.shape != (count,):
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{_OP}: {name} of shape {lengths.shape} must have one element for each of the {count} "
            "samples",
            argument=name,
            shape=lengths.shape,
        )
    if count and (lengths.data.min() < 0 or lengths.data.max() > most):
        raise EngineError("BAD_VALUE", f"{_OP}: {name} must be from 0 to {most}", argument=name)


def _require_targets(log_probs: Any, targets: Any, lengths: Any, blank: int) -> None:
    _, n, symbols = log_probs.shape
    require_index(targets.data, _OP)
    if not 0 <= blank < symbols:
        raise EngineError(
            "BAD_VALUE",
            f"{_OP}: blank must be one of the {symbols} symbols, not {blank}",
            argument="blank",
        )
    rank = len(targets.shape)
    if rank not in (1, 2) or (rank == 2 and targets.shape[0] != n):
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{_OP}: targets of shape {targets.shape} must be of shape ({n}, longest), or all in "
            "one vector",
            argument="targets",
            shape=targets.shape,
        )
    _require_lengths("target_lengths", lengths, n, targets.shape[-1])
    if rank == 1 and lengths.data.sum() != targets.shape[0]:
        raise EngineError(
            "SHAPE_MISMATCH",
            f"{_OP}: target_lengths must sum up to the {targets.shape[0]} elements of targets",
            argument="target_lengths",
        )
    require_in_range(targets.data, symbols, _OP, "targets")


def _ctc_loss(
    F: Any,
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int,
    reduction: str,
    zero_infinity: bool,
) -> Any:
    require_reduction(reduction, _OP)
    is_alone = len(log_probs.shape) == 2
    if is_alone:
        log_probs = F.unsqueeze(log_probs, 1)
        targets = F.reshape(targets, (1, -1))
        input_lengths, target_lengths = (
            F.reshape(each, (1,)) if each.data.size == 1 else each
            for each in (input_lengths, target_lengths)
        )
    if log_probs.dtype.kind != "f" or len(log_probs.shape) != 3:
        raise EngineError(
            "SHAPE_MISMATCH" if log_probs.dtype.kind == "f" else "DTYPE_MISMATCH",
            f"{_OP}: log_probs must be floating-point numbers of shape (time, n, symbols) "
            f"or (time, symbols), not {log_probs.dtype}{list(log_probs.shape)}",
            argument="log_probs",
            shape=log_probs.shape,
        )
    time, n, _ = log_probs.shape
    _require_lengths("input_lengths", input_lengths, n, time)
    _require_targets(log_probs, targets, target_lengths, blank)
    losses = F._ctc_losses(log_probs, targets, input_lengths, target_lengths, blank)
    if zero_infinity:
        losses = F.where(losses == np.inf, F.zeros((), dtype=losses.dtype), losses)
    if reduction == "none":
        return F.squeeze(losses, (0,)) if is_alone else losses
    if reduction == "sum":
        return F.sum(losses)
    return F.mean(losses / F.to(F.clamp_min(target_lengths, 1), losses.dtype))


composite(
    "ctc_loss(Tensor log_probs, Tensor targets, Tensor input_lengths, Tensor target_lengths, "
    "int blank=0, str reduction='mean', bool zero_infinity=False) -> Tensor",
    _ctc_loss,
    places=("nn.functional",),
)
