"""Declarations against PyTorch's own: where an operator is found, its arguments and defaults."""

import inspect
import re
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from gradwire_engine import operators
from gradwire_engine.operator import Operator
from gradwire_engine.registry import Alias, aliases
from gradwire_engine.schema import Argument
from tests.parity.oracle import ENTRIES

PLACES = {
    "torch": torch,
    "Tensor": torch.Tensor,
    "nn.functional": torch.nn.functional,
    "linalg": torch.linalg,
    "special": torch.special,
    "fft": torch.fft,
}

# Where torch has a name that an SDK does not get from the operator of that name.
INTERNAL = "internal there, with other arguments"
PLACED_OTHERWISE = {
    **{
        (name, "torch"): INTERNAL
        for name in (
            "alpha_dropout",
            "batch_norm",
            "ctc_loss",
            "embedding_bag",
            "hinge_embedding_loss",
            "kl_div",
            "poisson_nll_loss",
            "triplet_margin_loss",
            "dropout",
            "feature_alpha_dropout",
            "instance_norm",
        )
    },
    ("real", "Tensor"): "an attribute",
    ("imag", "Tensor"): "an attribute",
    ("index", "Tensor"): "written x[...]",
    ("data", "Tensor"): "an attribute",
    ("where", "Tensor"): "takes the condition second",
    ("to", "Tensor"): "takes a dtype, a device or a tensor",
    ("embedding", "torch"): "internal there",
    ("embedding", "nn.functional"): "takes the indices first",
    ("layer_norm", "torch"): "internal there",
    ("norm", "linalg"): "another function: of matrices too",
    ("unfold", "nn.functional"): "another function, of images",
    ("fill", "torch"): "only fill_ is public",
    ("manual_seed", "torch"): "sets the generator of the session",
}

# Operators of which PyTorch's database has no entry by that name, and what tests them.
NOT_IN_DATABASE = {
    "rand": "as rand_like",
    "adjoint": "tests of nodes, as mH",
    "affine_grid": "tests of nn.functional",
    "convolution": "as conv2d and its kin, which are made of it",
    "dropout1d": "as dropout2d",
    **{f"lp_pool{rank}d": "as avg_pool, tests of nn.functional" for rank in (1, 2, 3)},
    "max.dim": "as max, samples with a dimension",
    **{
        f"max_pool{rank}d_with_indices": "as max_pool, samples that want indices"
        for rank in (1, 2, 3)
    },
    "min.dim": "as min, samples with a dimension",
    "median.dim": "as median, samples with a dimension",
    "nanmedian.dim": "as nanmedian, samples with a dimension",
    "detach": "tests of the engine",
    "fft.fftfreq": "tests of the engine",
    "fft.rfftfreq": "tests of the engine",
    **{
        f"{name}_window": "tests of signals"
        for name in ("hann", "hamming", "blackman", "bartlett", "kaiser")
    },
    "moveaxis": "as movedim",
    "poisson": "tests of random numbers",
    "binomial": "tests of random numbers",
    "randperm": "tests of random numbers",
    "swapaxes": "as transpose",
    "swapdims": "as transpose",
    "linalg.matrix_exp": "as matrix_exp",
    "matrix_power": "as linalg.matrix_power",
    "inverse": "as linalg.inv",
    "det": "as linalg.det",
    "slogdet": "as linalg.slogdet",
}

LAYOUT = {"layout", "device", "pin_memory", "memory_format", "generator"}

OLDER = {"inplace", "reduce", "return_indices", "size_average"}

LEFT_OUT = {
    "stft": {"align_to_window"},
    "group_norm": {"cudnn_enabled"},
    "mse_loss": {"weight"},
    "l1_loss": {"weight"},
    "huber_loss": {"weight"},
    "normalize": {"out"},
    "add.Scalar": {"alpha"},
    "sub.Scalar": {"alpha"},
    "_safe_softmax": {"dtype"},
    "gather": {"sparse_grad"},
    "embedding": {"scale_grad_by_freq", "sparse"},
    "embedding_bag": {"max_norm", "norm_type", "scale_grad_by_freq", "sparse"},
    "embedding_dense_backward": {"scale_grad_by_freq"},
    "layer_norm": {"cudnn_enable"},
    "to": {"non_blocking", "copy"},
    "copy": {"non_blocking"},
    "expand": {"implicit"},
    "_to_copy": {"non_blocking"},
    "leaky_relu_backward": {"self_is_result"},
    "_softmax": {"half_to_float"},
    "_log_softmax": {"half_to_float"},
}

ONE_SCHEMA = "torch has an overload without it"
AS_FUNCTIONAL = "as in nn.functional"
DIFFERENT_DEFAULTS = {
    **{
        (name, argument): AS_FUNCTIONAL
        for name in ("im2col", "col2im")
        for argument in ("dilation", "padding", "stride")
    },
    ("arange", "end"): ONE_SCHEMA,
    ("bernoulli", "p"): ONE_SCHEMA,
    ("randperm", "dtype"): "int64",
    ("arange", "step"): ONE_SCHEMA,
    ("eye", "m"): ONE_SCHEMA,
    **{
        (f"{name}_window", argument): ONE_SCHEMA
        for name in ("hann", "hamming", "blackman", "bartlett", "kaiser")
        for argument in ("periodic", "alpha", "beta")
    },
    ("div", "rounding_mode"): ONE_SCHEMA,
    ("sum", "dim"): ONE_SCHEMA,
    ("mean", "dim"): ONE_SCHEMA,
    ("prod", "dim"): ONE_SCHEMA,
    ("squeeze", "dim"): ONE_SCHEMA,
    ("_to_copy", "dtype"): "torch's also moves to another device",
    ("scatter", "reduce"): ONE_SCHEMA,
    ("round", "decimals"): ONE_SCHEMA,
    ("tril_indices", "dtype"): "int64",
    ("triu_indices", "dtype"): "int64",
    ("meshgrid", "indexing"): ONE_SCHEMA,
    ("norm", "p"): "the default of torch.norm",
    ("norm", "dim"): ONE_SCHEMA,
    **{(f"max_pool{rank}d", "stride"): AS_FUNCTIONAL for rank in (1, 2, 3)},
    **{(f"max_pool{rank}d_with_indices", "stride"): AS_FUNCTIONAL for rank in (1, 2, 3)},
    **{(f"avg_pool{rank}d", "stride"): AS_FUNCTIONAL for rank in (1, 2, 3)},
}

DIFFERENT_ARGUMENTS = {
    "nll_loss": "nn.functional's order, in which the reduction comes last",
    "_nll_loss": "a kernel of nll_loss",
    "_nll_loss2d": "a kernel of nll_loss",
    "nll_loss_backward": "needs no total weight",
    "cross_entropy": "nn.functional's arguments; torch's own kernel has numbers for words",
    **dict.fromkeys(
        (
            "special.scaled_modified_bessel_k0",
            "special.scaled_modified_bessel_k1",
            "special.spherical_bessel_j0",
        ),
        "x in the schema, input in torch.special and here",
    ),
    "add.Scalar": "is used without alpha alone",
    **dict.fromkeys(
        ("tensor_split", "hsplit", "vsplit", "dsplit"),
        "two arguments for what torch's overloads take as one",
    ),
    **dict.fromkeys(
        ("trapezoid", "trapz", "cumulative_trapezoid"), "one schema for torch's two overloads"
    ),
    "normal": "numbers stand for tensors, where torch has overloads",
    "cdist": "says the mode by a word, as torch.cdist does",
    "sort": "the order of torch.sort, in which stable comes last",
    "argsort": "the order of torch.argsort, in which stable comes last",
    "diagonal_backward": "its tensor is self, as everywhere here",
    "unfold_backward": "its tensor is self, as everywhere here",
    "_fft_c2c": "says in words what to divide by",
    "_fft_r2c": "says in words what to divide by",
    "_fft_c2r": "says in words what to divide by",
    "_reshape_alias": "needs no strides",
    "select_backward": "its tensor is self, as everywhere here",
    "slice_backward": "its tensor is self, as everywhere here",
}

FORWARD = [op for op in operators.values() if not op.mutates]


def packet(op: Operator) -> Any:
    """Torch's overloads of an operator; None if it has none by that name."""
    name = re.sub(r"^(fft|linalg|special)\.", r"\1_", op.name)
    return getattr(torch.ops.aten, name.partition(".")[0], None)


KNOWN_TO_TORCH = [op for op in FORWARD if packet(op) is not None]

by_name = pytest.mark.parametrize("op", FORWARD, ids=lambda op: op.name)


def place_and_name(op: Operator) -> tuple[str | None, str]:
    """`linalg.vector_norm` is in linalg; `max.dim` is an overload of `max`."""
    first, _, rest = op.name.partition(".")
    return (first, rest) if first in PLACES else (None, first)


@by_name
def test_torch_has_an_operator_in_its_places(op: Operator) -> None:
    _, name = place_and_name(op)
    assert [place for place in op.places if not hasattr(PLACES[place], name)] == []


@by_name
def test_an_operator_has_the_places_that_torch_gives_it(op: Operator) -> None:
    home, name = place_and_name(op)
    if name.startswith("_") or op.name.endswith(
        (".Scalar", ".padding", ".coordinates", ".float_float")
    ):
        assert op.places == ()
        return
    missing = [
        place
        for place, module in PLACES.items()
        if hasattr(module, name)
        and home in (None, place)
        and place not in op.places
        and (op.name, place) not in PLACED_OTHERWISE
        and f"{place}.{name}" not in operators
    ]
    assert missing == []


@pytest.mark.parametrize("alias", aliases.values(), ids=lambda alias: alias.name)
def test_torch_has_an_alias_in_its_places(alias: Alias) -> None:
    name = alias.name.rpartition(".")[2]
    assert [place for place in alias.places if not hasattr(PLACES[place], name)] == []


def test_aliases_in_torchs_database_are_known() -> None:
    missing = {
        f"{name} of {entry.name}"
        for entry in ENTRIES
        for name in (each.name.removeprefix("torch.") for each in entry.info.aliases)
        if name not in operators and name not in aliases
        if name.rpartition(".")[0] not in operators[entry.name].places
    }
    assert missing == {"orgqr of linalg.householder_product"}


def test_every_public_operator_is_compared_with_torch() -> None:
    compared = {entry.name for entry in ENTRIES}
    public = {op.name for op in FORWARD if op.places}
    assert public - compared - set(NOT_IN_DATABASE) == set()


@pytest.mark.parametrize(
    "op",
    [op for op in KNOWN_TO_TORCH if op.name not in DIFFERENT_ARGUMENTS],
    ids=lambda op: op.name,
)
def test_arguments_are_those_of_an_overload_in_torch(op: Operator) -> None:
    candidates = [overload for overload in overloads(op) if names(overload) == own_names(op)]
    assert candidates, f"{own_names(op)} in none of {[names(each) for each in overloads(op)]}"
    differing = [
        {
            ours.name
            for ours, theirs in zip(op.schema.arguments, overload, strict=True)
            if not agree(ours, theirs) and (op.name, ours.name) not in DIFFERENT_DEFAULTS
        }
        for overload in candidates
    ]
    assert set() in differing, f"defaults differ: {differing}"


@dataclass(frozen=True)
class Parameter:
    """A parameter of a Python function, in the terms of torch's schemas."""

    name: str
    default_value: Any

    def has_default_value(self) -> bool:
        return self.default_value is not inspect.Parameter.empty


def functional(op: Operator) -> list[list[Any]]:
    """The arguments of the function in `nn.functional`, where that is written in Python."""
    function = getattr(torch.nn.functional, op.name, None)
    if "nn.functional" not in op.places or not inspect.isfunction(function):
        return []
    left_out = OLDER | LEFT_OUT.get(op.name, set())
    parameters = inspect.signature(function).parameters.values()
    return [
        [Parameter(each.name, each.default) for each in parameters if each.name not in left_out]
    ]


def overloads(op: Operator) -> list[list[Any]]:
    """The arguments of each overload in torch, without those that have no meaning here."""
    left_out = LAYOUT | LEFT_OUT.get(op.name, set())
    return functional(op) + [
        [each for each in getattr(packet(op), name)._schema.arguments if each.name not in left_out]
        for name in packet(op).overloads()
        if "out" not in name
    ]


def names(overload: list[Any]) -> list[str]:
    return ["self" if each.name == "input" else each.name for each in overload]


def own_names(op: Operator) -> list[str]:
    return ["self" if each.name == "input" else each.name for each in op.schema.arguments]


def agree(ours: Argument, theirs: Any) -> bool:
    """Whether the two may be left out alike, and then stand for the same."""
    if ours.required or not theirs.has_default_value():
        return ours.required and not theirs.has_default_value()
    default = theirs.default_value
    if ours.type == "ScalarType" and ours.name == "dtype":
        return ours.default is None
    return ours.default == (tuple(default) if isinstance(default, list) else default)
