"""Every operator against PyTorch's, over the samples of PyTorch's own operator database.

A call must give the same values and dtypes, leave the same graph, carry the same gradient back,
and be refused where torch refuses it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gradwire_engine import EngineError, Tensor, grad, operators
from tests.parity.oracle import ENTRIES, RANDOM, Call, Entry, Sides, graph, run_ours, run_theirs

DIFFERENTIABLE_DTYPES = (torch.float64, torch.complex128)
OTHER_DTYPES = (
    torch.float32,
    torch.float16,
    torch.complex64,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
)

# Relative and absolute.
TOLERANCES = {
    np.dtype(np.float64): (1e-9, 1e-10),
    np.dtype(np.complex128): (1e-9, 1e-10),
    np.dtype(np.float32): (1e-5, 1e-5),
    np.dtype(np.complex64): (1e-5, 1e-5),
    np.dtype(np.float16): (1e-2, 1e-2),
}

# Where torch's own values are less exact than that: relative tolerance and where it comes from.
LESS_EXACT = {
    **dict.fromkeys(
        ("special.airy_ai", *(f"special.bessel_{name}" for name in ("j0", "j1", "y0", "y1"))), 1e-5
    ),
    "polygamma": 1e-4,
    "hardsigmoid": 1e-7,
}

_COMPLEX_AS_REAL = "torch takes a complex convolution apart into three real ones"
GRAPH_DIFFERS: dict[Any, str] = {
    **{
        (f"nn.functional.conv{kind}{rank}d", torch.complex128): _COMPLEX_AS_REAL
        for kind in ("", "_transpose")
        for rank in (1, 2, 3)
    },
    "linalg.tensorinv": "the inverse lies in memory by columns there",
    "linalg.matrix_power": "the inverse lies in memory by columns there",
    "nn.functional.pad-circular": "one operator here; torch copies slices into a new tensor",
    "nn.functional.scaled_dot_product_attention": (
        "where it is composed of others: a reshaped transpose is a view here, ReshapeAlias there"
    ),
    "stft": "torch takes frames by strides, and transposes in place",
    "istft": "a node of the window's, where it is looked at whether it covers the signal",
    "fill": "only fill_ is public, and its node's name is not fill's",
    "squeeze-multiple": "a list of one dimension is that dimension, SqueezeBackward1 and not 2",
}

IN_PLACE_DIFFERS = {
    **{
        ("addbmm", dtype): "torch lets the tensor that is written to grow"
        for dtype in (torch.float64, torch.complex128, torch.int64)
    },
    **{
        (name, dtype): "torch has not differentiated the in-place form"
        for name in ("acosh", "asinh", "atanh")
        for dtype in (torch.float64, torch.complex128)
    },
    ("nn.functional.dropout3d", torch.float64): "torch gives a batch of one another shape and back",
    ("abs", torch.complex128): "real values fit into a complex tensor; torch refuses them",
    ("nn.functional.leaky_relu", torch.float64): "torch has another number for the same node",
}

# Of equal elements any may be chosen; torch's choice follows from how its kernels divide the work.
CHOICE_AMONG_EQUALS = {"sort", "argsort", "topk", "kthvalue", "median", "nanmedian", "mode"}

DTYPE_LEFT_OUT = {
    **{
        (f"nn.functional.{name}", torch.uint8): "torch interpolates bytes with weights in 16 bits"
        for name in ("interpolate-bilinear", "interpolate-bicubic")
    },
    ("nn.functional.soft_margin_loss", torch.float16): "torch's exponential overflows in halves",
    ("nn.functional.cosine_embedding_loss", torch.uint8): "a target of bytes has no -1",
    ("matrix_exp", torch.float16): "torch's steps are in halves, which overflow",
    **{
        (name, torch.complex64): "eigenvalues come in the order in which LAPACK finds them"
        for name in ("linalg.eig", "linalg.eigvals")
    },
    ("complex", torch.float16): "there is no complex of halves in NumPy",
    ("view_as_complex", torch.float16): "there is no complex of halves in NumPy",
}

A_NUMBER_IS_A_TENSOR = "a plain number may stand for any tensor but the only one"
RANK_65 = "NumPy has no such array to pass"
ACCEPTED_HERE = {
    **{
        (name, position): A_NUMBER_IS_A_TENSOR
        for name, positions in {
            "eq": [0],
            "ne": [0],
            "lt": [0],
            "le": [0],
            "gt": [0],
            "ge": [0],
            "rsub": [0],
            "maximum": [0, 1],
            "minimum": [0, 1],
            "logical_and": [0, 1],
            "logical_or": [0, 1],
            "logical_xor": [0, 1],
            "atan2": [0, 1],
            "clamp_max": [0, 1],
            "clamp_min": [0, 1],
            "copysign": [0],
            "fmax": [0, 1],
            "fmin": [0, 1],
            "fmod": [0],
        }.items()
        for position in positions
    },
    **{("gradient", at): "a list of one number is that number" for at in (0, 7, 14)},
    **{("gradient", at): "a tensor on another device" for at in (3, 10, 17)},
    **{(name, at): RANK_65 for name in ("amax", "amin", "aminmax") for at in (1, 2)},
}

per_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)


@per_entry
def test_values_graphs_and_gradients(entry: Entry) -> None:
    faults: list[str] = []
    for dtype in DIFFERENTIABLE_DTYPES:
        requires_grad = entry.differentiable(dtype)
        for call in entry.calls(dtype, requires_grad=requires_grad):
            faults += [f"{call}: {fault}" for fault in differences(entry, call, requires_grad)]
    assert not faults, "\n".join(faults)


@per_entry
def test_values_in_other_dtypes(entry: Entry) -> None:
    faults: list[str] = []
    for dtype in OTHER_DTYPES:
        if (entry.id, dtype) not in DTYPE_LEFT_OUT:
            for call in entry.calls(dtype):
                faults += [f"{call}: {fault}" for fault in differences(entry, call, False)]
    assert not faults, "\n".join(faults)


IN_PLACE = [
    entry
    for entry in ENTRIES
    if f"{entry.name}_" in operators and entry.info.inplace_variant is not None
]


@pytest.mark.parametrize("entry", IN_PLACE, ids=lambda entry: entry.id)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128, torch.int64], ids=str)
def test_in_place(entry: Entry, dtype: torch.dtype) -> None:
    if (entry.id, dtype) in IN_PLACE_DIFFERS:
        return
    faults: list[str] = []
    requires_grad = entry.differentiable(dtype) and dtype in DIFFERENTIABLE_DTYPES
    for call in entry.calls(dtype, requires_grad=requires_grad):
        call = replace(call, name=f"{call.name}_", function=on_clone(entry.info.inplace_variant))
        faults += [f"{call}: {fault}" for fault in differences(entry, call, requires_grad)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "entry", [entry for entry in ENTRIES if entry.info.error_inputs_func], ids=lambda e: e.id
)
def test_what_torch_refuses_is_refused(entry: Entry) -> None:
    accepted: list[str] = []
    for position, call in enumerate(entry.refused_calls()):
        if call is None or (entry.id, position) in ACCEPTED_HERE:
            continue
        try:
            run_ours(call, Sides())
        except EngineError:
            continue
        accepted.append(f"{position}: {call}")
    assert not accepted, "\n".join(accepted)


def on_clone(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The in-place function, applied to a clone of its first argument."""
    return lambda input, *args, **kwargs: function(input.clone(), *args, **kwargs)


def differences(entry: Entry, call: Call, requires_grad: bool) -> list[str]:
    """What the two sides do not agree on; both may refuse."""
    sides = Sides()
    try:
        theirs = run_theirs(call, sides)
    except (RuntimeError, TypeError, IndexError, ValueError) as error:
        try:
            run_ours(call, sides)
        except EngineError:
            return []
        return [f"accepted, where torch says: {error}"]
    try:
        ours = run_ours(call, sides)
    except EngineError as error:
        return [f"refused: {error}"]
    if len(theirs) != len(ours):
        return [f"{len(ours)} results for {len(theirs)}"]
    faults: list[str] = []
    for number, (expected, result) in enumerate(zip(theirs, ours, strict=True)):
        chosen = entry.name in CHOICE_AMONG_EQUALS and result.dtype == np.int64
        compared = entry.name not in RANDOM and (requires_grad or not chosen)
        tolerance = LESS_EXACT.get(entry.name, 0.0)
        fault = difference(expected, result, values=compared, tolerance=tolerance)
        faults += [f"result {number}: {fault}"] if fault else []
    if sides.torch_leaves and not faults:
        compared = {entry.id, (entry.id, sides.torch_leaves[0].dtype)}.isdisjoint(GRAPH_DIFFERS)
        if compared or call.name == "fill_":
            expected_graph = graph(theirs, sides.torch_leaves)
            found_graph = graph(ours, sides.our_leaves)
            if found_graph != expected_graph:
                faults.append(f"graph {found_graph}, expected {expected_graph}")
        faults += gradient_differences(
            theirs,
            ours,
            sides,
            values=entry.name not in RANDOM,
            tolerance=LESS_EXACT.get(entry.name, 0.0),
        )
    return faults


def gradient_differences(
    theirs: list[Any], ours: list[Any], sides: Sides, *, values: bool, tolerance: float
) -> list[str]:
    """Where a random cotangent, the same on both sides, comes out differently at a leaf."""
    generator = np.random.default_rng(0)
    roots = [pair for pair in zip(theirs, ours, strict=True) if pair[0].requires_grad]
    if not roots:
        return [] if not any(result.requires_grad for result in ours) else ["requires grad"]
    cotangents = [random_like(generator, result.data) for _, result in roots]
    expected = torch.autograd.grad(
        [root for root, _ in roots],
        sides.torch_leaves,
        [torch.from_numpy(each) for each in cotangents],
        allow_unused=True,
    )
    found = grad(
        [root for _, root in roots],
        sides.our_leaves,
        [Tensor(each) for each in cotangents],
        allow_unused=True,
    )
    faults: list[str] = []
    references: list[torch.Tensor | None] = list(expected)
    for number, (reference, result) in enumerate(zip(references, found, strict=True)):
        if reference is not None and result is not None:
            fault = difference(reference, result, values=values, tolerance=tolerance)
        else:
            both_none = reference is None and result is None
            fault = None if both_none else f"{result}, expected {reference}"
        faults += [f"gradient {number}: {fault}"] if fault else []
    return faults


def difference(
    expected: torch.Tensor, found: Tensor, *, values: bool = True, tolerance: float = 0.0
) -> str | None:
    """How a tensor differs from torch's, in words; None if it does not."""
    reference = expected.detach().resolve_conj().resolve_neg().numpy(force=True)
    array = found.data
    if array.dtype != reference.dtype:
        return f"{array.dtype}, expected {reference.dtype}"
    if array.shape != reference.shape:
        return f"shape {array.shape}, expected {reference.shape}"
    relative, absolute = TOLERANCES.get(array.dtype, (0.0, 0.0))
    relative = max(relative, tolerance)
    # A small sum of large terms is as exact as its terms are.
    sizes = np.abs(reference[np.isfinite(reference)])
    absolute *= max(1.0, float(sizes.max(initial=0)))
    if values and not np.allclose(array, reference, relative, absolute, equal_nan=True):
        worst = np.nanmax(np.abs(array.astype(complex) - reference.astype(complex)))
        return f"values differ by up to {worst:.3g}"
    return None


def random_like(generator: np.random.Generator, array: np.ndarray) -> np.ndarray:
    """Normally distributed numbers of the array's shape and dtype."""
    drawn = generator.standard_normal(array.shape)
    if array.dtype.kind == "c":
        drawn = drawn + 1j * generator.standard_normal(array.shape)
    return np.asarray(drawn, array.dtype)
