"""PyTorch as the oracle: the samples of its operator database, called on both sides.

An `Entry` is one record of the database with the operator that stands for it here; a `Call` is one
sample of it. `CONVENTIONS` says, entry by entry, how torch's way to call becomes ours.
"""

import functools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from gradwire_engine import Tensor, operators

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db

torch.set_num_threads(1)

Arguments = tuple[str, tuple[Any, ...], dict[str, Any]]
"""An operator's name here, positional arguments and keyword arguments, with torch's values."""

# Arguments that say where and how torch lays a tensor out. Here there is one place and one way.
LAYOUT = {"device", "layout", "memory_format", "pin_memory", "requires_grad"}

# Entries whose samples call something that is not an operator here.
NOT_HERE = {
    "as_strided-partial_views": "over a storage that is larger than the tensor",
    "linalg.pinv-singular": "of a product of two matrices",
    "bmm-triton_optimized": "the same operator again, for a GPU compiler",
    "addmm-decomposed": "the same operator again, as torch's compiler takes it apart",
    "linspace-tensor_overload": "start and end as tensors",
    "max-binary": "maximum under another name; an SDK calls maximum",
    "min-binary": "minimum under another name; an SDK calls minimum",
    "normal-in_place": "tests of random numbers",
    "norm-nuc": "the nuclear norm needs a singular value decomposition",
}


@dataclass(frozen=True)
class Call:
    """One sample: the same arguments for both sides, in torch's values."""

    function: Callable[..., Any]
    input: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    name: str
    our_args: tuple[Any, ...]
    our_kwargs: dict[str, Any]
    results: int | None = None
    entry: str = ""

    def __str__(self) -> str:
        return f"{self.name}{_show((self.input, *self.args))} {_show(self.kwargs)}"


MAX_SAMPLES = 60

# What draws random numbers: torch's cannot be had here, so values are not compared.
RANDOM = frozenset(
    """
    alpha_dropout bernoulli dropout dropout1d dropout2d dropout3d feature_alpha_dropout multinomial
    normal rand_like randint randint_like randn randn_like rrelu
    """.split()
)

# Making samples takes longer than running them, and several tests run the same.
_CALLS: dict[tuple[str, torch.dtype, bool], list[Call]] = {}


@dataclass(frozen=True)
class Entry:
    """A record of torch's database and what it is called here."""

    id: str
    info: Any
    name: str

    @property
    def operator(self) -> Any:
        return operators[self.name]

    def differentiable(self, dtype: torch.dtype) -> bool:
        """Whether torch differentiates the operator in this dtype."""
        return bool(self.info.supports_autograd) and dtype in self.info.backward_dtypes

    def calls(self, dtype: torch.dtype, *, requires_grad: bool = False) -> list[Call]:
        """Every sample of this dtype that has a meaning here; none if torch has not the dtype."""
        key = (self.id, dtype, requires_grad)
        if key not in _CALLS:
            samples = self._samples(dtype, requires_grad) if dtype in self.info.dtypes else []
            calls = [self.call(sample) for sample in samples]
            _CALLS[key] = [call for call in calls if call is not None]
        return _CALLS[key]

    def _samples(self, dtype: torch.dtype, requires_grad: bool) -> list[Any]:
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # info.sample_inputs() would look through the call stack for every sample.
            samples = list(self.info.sample_inputs_func(self.info, "cpu", dtype, requires_grad))
        # Poolings have all combinations of their arguments.
        return samples[:: math.ceil(len(samples) / MAX_SAMPLES) or 1]

    def refused_calls(self) -> list[Call | None]:
        """What torch refuses, in the order in which its database has it."""
        torch.manual_seed(0)
        return [
            self.call(error.sample_input) for error in self.info.error_inputs_func(self.info, "cpu")
        ]

    def call(self, sample: Any) -> Call | None:
        """The call of a sample; None where it asks for what is not an operator here."""
        if sample.kwargs.get("memory_format", torch.preserve_format) is not torch.preserve_format:
            return None
        kwargs = {name: value for name, value in sample.kwargs.items() if name not in LAYOUT}
        convention = CONVENTIONS.get(self.id, _as_given)
        ours = convention(self.name, (sample.input, *sample.args), kwargs)
        if ours is None:
            return None
        # Where a flag decides whether there are indices too, the operator here always has them.
        results = 1 if "adaptive_max" in self.name and not any(sample.args[1:]) else None
        if self.name.startswith("unique"):
            results = 1 + kwargs["return_inverse"] + kwargs["return_counts"]
        if self.name == "multi_head_attention_forward" and not kwargs.get("need_weights", True):
            results = 1
        if self.id == "linalg.lstsq-grad_oriented":
            results = 2
        return Call(self.info.op, sample.input, sample.args, sample.kwargs, *ours, results, self.id)


def _show(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, (list, tuple)):
        return f"({', '.join(_show(each) for each in value)})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}={_show(each)}' for name, each in value.items())}}}"
    return repr(value)


def _as_given(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    return name, args, kwargs


def _condition_first(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    self, condition, other = args
    return name, (condition, self, other), kwargs


def _by_dimension_if_given(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    return (f"{name}.dim" if len(args) > 1 or kwargs else name), args, kwargs


def _by_dimension(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    return f"{name}.dim", args, kwargs


def _with_sizes(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    return "split_with_sizes", args, kwargs


def _unbiased(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """`unbiased` is an older name of `correction`; it comes first, or by keyword."""
    given = {**kwargs}
    if len(args) > 1 and isinstance(args[1], bool):
        args, given = args[:1], {**given, "unbiased": args[1]}
    if "unbiased" in given:
        given["correction"] = int(given.pop("unbiased"))
    return name, args, given


def _norm(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """The Frobenius norm of a matrix is the norm of its elements."""
    self, *rest = args
    return name, (self, *(2 if each == "fro" else each for each in rest)), kwargs


def _to(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
    """`to(device, dtype, non_blocking, copy)`: a copy here is another operator."""
    self, *rest = args
    dtype = next((each for each in rest if isinstance(each, torch.dtype)), None)
    if dtype is None:
        return None
    copy = rest[-1] is True
    return ("_to_copy" if copy else name), (self, dtype), kwargs


def _start_as_number(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    self, dim, start, length = args
    if isinstance(start, torch.Tensor) and start.ndim == 0:
        start = start.item()
    return name, (self, dim, start, length), kwargs


def _from_zero(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """`randint(high, size)` starts at 0."""
    return name, (args if isinstance(args[1], int) else (0, *args)), kwargs


def _like_from_zero(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """`randint_like(x, high)` starts at 0."""
    self, *bounds = args
    return name, (self, *(bounds if len(bounds) == 2 else (0, *bounds))), kwargs


def _mean_second(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """Two numbers and a size are another overload."""
    std, mean, *size = args
    return (f"{name}.float_float" if size else name), (mean, std, *size), kwargs


def _embedding(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
    """Without renormalization, gradients scaled by frequency and sparse gradients."""
    return (name, args, kwargs) if set(kwargs) <= {"padding_idx"} else None


def _embedding_bag(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
    """The table first, as for embedding, with the same left out."""
    table, indices, *rest = args
    known = {"offsets", "mode", "per_sample_weights", "include_last_offset", "padding_idx"}
    return (name, (indices, table, *rest), kwargs) if set(kwargs) <= known else None


def _lengths_as_tensors(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    *given, inputs, targets = args
    return name, (*given, torch.as_tensor(inputs), torch.as_tensor(targets)), kwargs


def _sizes_as_tuple(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """Sizes are one tuple, or one argument each."""
    self, *sizes = args
    listed = len(sizes) == 1 and isinstance(sizes[0], (list, tuple))
    return name, (self, tuple(sizes[0] if listed else sizes)), kwargs


def _order_first(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    self, n = args
    return name, (n, self), kwargs


def _padding_as_word(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """Padding is numbers or a word, and these are two overloads."""
    word = isinstance(kwargs.get("padding"), str) or (len(args) > 4 and isinstance(args[4], str))
    return f"{name}.padding" if word else name, args, kwargs


def _max_pool(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """With indices it is another operator."""
    given = {**kwargs}
    with_indices = given.pop("return_indices", False)
    return f"{name}_with_indices" if with_indices else name, args, given


def _adaptive_pool(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """None for a size, the input's own, is -1 here. The indices always come too."""
    if len(args) < 2:
        return name, args, {}
    self, size, *_ = args
    sizes = tuple(-1 if each is None else each for each in _as_tuple(size))
    return name, (self, sizes), kwargs


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _without_dropout(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
    return None if kwargs.get("dropout_p") else (name, args, kwargs)


def _evaluated(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
    """Without training, in which attention leaves out weights at random."""
    return None if kwargs.get("training", True) and args[10] else (name, args, kwargs)


def _tensors_as_list(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """One tensor after the other, or a list of them."""
    listed = len(args) == 1 and isinstance(args[0], (list, tuple))
    return name, args if listed else (args,), kwargs


def _one_tensor(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
    """A list of tensors is another overload, which an SDK offers by one call each."""
    return (name, args, kwargs) if isinstance(args[0], torch.Tensor) else None


def _sections_or_indices(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """Into how many parts, or at which places, said by one argument; here there are two."""
    self, places, *dim = args
    if isinstance(places, torch.Tensor):
        places = places.tolist()
    parts = (places, None) if isinstance(places, int) else (None, tuple(places))
    return name, (self, *parts, *dim), kwargs


def _equation_first(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    tensors, equation = args
    return name, (equation, tensors), kwargs


def _dimensions_of_both(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """How many dimensions to sum over is said here by their numbers."""
    self, other = args
    dims = kwargs["dims"]
    if isinstance(dims, int):
        dims = (tuple(range(self.ndim - dims, self.ndim)), tuple(range(dims)))
    return name, (self, other, *map(tuple, dims)), {}


# Results that are unique up to a phase, of which the absolute values are compared; and along which
# dimension those beyond the number of singular values are not unique at all.
UP_TO_A_PHASE: dict[str, dict[int, int | None]] = {
    "linalg.eigh": {1: None},
    "linalg.eig": {1: None},
    "linalg.svd": {0: -1, 2: -2},
    "svd": {0: -1, 2: -1},
}

# What reads one half of a matrix, and takes the other half to be its adjoint, or zeros. PyTorch
# gives the gradient by a matrix that is so: central differences must keep to such.
HERMITIAN = {
    "linalg.eigh",
    "linalg.eigvalsh",
    "linalg.cholesky",
    "linalg.cholesky_ex",
    "cholesky",
    "linalg.pinv-hermitian",
}
TRIANGULAR = {"cholesky_solve": 1, "cholesky_inverse": 0}


def _target_last(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """The target says 1 or -1: there is nothing between to differentiate by."""
    return name, (*args[:-1], args[-1].detach()), kwargs


def _of_spacing(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """Spacings are numbers, or tensors of coordinates, and these are two overloads."""
    spacing = kwargs.get("spacing")
    listed = isinstance(spacing, (list, tuple))
    coordinates = listed and isinstance(spacing[0], torch.Tensor)
    return f"{name}.coordinates" if coordinates else name, args, kwargs


def _inverse_if_counts(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Arguments | None:
    """There are always three results here; counts without an inverse would be torch's second."""
    return None if kwargs["return_counts"] > kwargs["return_inverse"] else (name, args, kwargs)


def _as_one_tensor(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
    """A tuple of vectors is what an SDK makes of it."""
    return None if kwargs.get("as_tuple") else (name, args, {})


def _with_freedom(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
    """What is divided by no degrees of freedom is infinite where rounding has left anything."""
    infinite = kwargs.get("correction") == 2 and args[0].is_complex()
    return None if infinite else (name, args, kwargs)


def _as_columns(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    return "im2col", args, kwargs


CONVENTIONS: dict[str, Callable[..., Arguments | None]] = {
    "nn.functional.unfold": _as_columns,
    "cov": _with_freedom,
    "sum_to_size": _sizes_as_tuple,
    "gradient": _of_spacing,
    "unique": _inverse_if_counts,
    "unique_consecutive": _inverse_if_counts,
    "nonzero": _as_one_tensor,
    "nn.functional.hinge_embedding_loss": _target_last,
    "nn.functional.cosine_embedding_loss": _target_last,
    "nn.functional.scaled_dot_product_attention": _without_dropout,
    "nn.functional.multi_head_attention_forward": _evaluated,
    **{f"nn.functional.max_pool{rank}d": _max_pool for rank in (1, 2, 3)},
    **{
        f"nn.functional.adaptive_{kind}_pool{rank}d": _adaptive_pool
        for kind in ("avg", "max")
        for rank in (1, 2, 3)
    },
    "nn.functional.conv1d": _padding_as_word,
    "nn.functional.conv2d": _padding_as_word,
    "nn.functional.conv3d": _padding_as_word,
    "where": _condition_first,
    "max-reduction_with_dim": _by_dimension,
    "min-reduction_with_dim": _by_dimension,
    **{f"polygamma-polygamma_n_{n}": _order_first for n in range(5)},
    **dict.fromkeys(
        (
            "meshgrid-variadic_tensors",
            "meshgrid-list_of_tensors",
            "block_diag",
            "cartesian_prod",
            "broadcast_tensors",
            "hstack",
            "vstack",
            "dstack",
            "column_stack",
        ),
        _tensors_as_list,
    ),
    **dict.fromkeys(("atleast_1d", "atleast_2d", "atleast_3d"), _one_tensor),
    **dict.fromkeys(("tensor_split", "hsplit", "vsplit", "dsplit"), _sections_or_indices),
    "einsum": _equation_first,
    "tensordot": _dimensions_of_both,
    "median": _by_dimension_if_given,
    "nanmedian": _by_dimension_if_given,
    "split-list_args": _with_sizes,
    "var_mean": _unbiased,
    "var_mean-unbiased": _unbiased,
    "std_mean": _unbiased,
    "std_mean-unbiased": _unbiased,
    "var": _unbiased,
    "var-unbiased": _unbiased,
    "std": _unbiased,
    "std-unbiased": _unbiased,
    "norm": _norm,
    "norm-fro": _norm,
    "norm-inf": _norm,
    "to": _to,
    "narrow": _start_as_number,
    "normal-number_mean": _mean_second,
    "randint": _from_zero,
    "randint_like": _like_from_zero,
    "nn.functional.embedding": _embedding,
    "nn.functional.ctc_loss": _lengths_as_tensors,
    "nn.functional.embedding_bag": _embedding_bag,
}


def _entries() -> Iterator[Entry]:
    for info in op_db:
        variant = f"-{info.variant_test_name}" if info.variant_test_name else ""
        identity = f"{info.name}{variant}"
        name = info.name.removeprefix("nn.functional.")
        if name in operators and identity not in NOT_HERE:
            yield Entry(identity, info, name)


ENTRIES = tuple(_entries())


@dataclass
class Sides:
    """One call's tensors on both sides: leaf i of torch's is leaf i of ours."""

    torch_leaves: list[torch.Tensor] = field(default_factory=list)
    our_leaves: list[Tensor] = field(default_factory=list)
    seen: dict[torch.Tensor, tuple[torch.Tensor, Tensor]] = field(default_factory=dict)

    def pair(self, tensor: torch.Tensor) -> tuple[torch.Tensor, Tensor]:
        held = self.seen.get(tensor)
        if held is None:
            theirs = tensor.detach().clone().requires_grad_(tensor.requires_grad)
            array = tensor.detach().resolve_conj().resolve_neg().clone().numpy()
            ours = Tensor.from_array(array, requires_grad=tensor.requires_grad)
            held = self.seen[tensor] = (theirs, ours)
            if tensor.requires_grad:
                self.torch_leaves.append(theirs)
                self.our_leaves.append(ours)
        return held

    def theirs(self, value: Any) -> Any:
        return _map(value, lambda tensor: self.pair(tensor)[0])

    def ours(self, value: Any) -> Any:
        value = _map(value, lambda tensor: self.pair(tensor)[1])
        return numpy_dtype(value) if isinstance(value, torch.dtype) else value


def _map(value: Any, function: Callable[[torch.Tensor], Any]) -> Any:
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, (list, tuple)):
        return [_map(each, function) for each in value]
    return value


@functools.cache
def numpy_dtype(dtype: torch.dtype) -> np.dtype:
    """NumPy's dtype of the same name."""
    return torch.empty(0, dtype=dtype).numpy().dtype


def run_theirs(call: Call, sides: Sides) -> list[torch.Tensor]:
    """The results of one call in torch."""
    args = [sides.theirs(value) for value in (call.input, *call.args)]
    kwargs = {name: sides.theirs(value) for name, value in call.kwargs.items()}
    results = [each for each in as_list(call.function(*args, **kwargs)) if each is not None]
    return _settled(call, results, torch.abs, torch.narrow)


def run_ours(call: Call, sides: Sides, *, in_shape: bool = False) -> list[Tensor]:
    """The results of one call here; of an in-place call on a clone of its first argument.

    Args:
        in_shape: make matrices of which one half is read Hermitian or triangular first.
    """
    if call.name.rstrip("_") in RANDOM:
        # Derivatives are those of one draw.
        operators["manual_seed"](0)
    args = [sides.ours(value) for value in call.our_args]
    if call.name.endswith("_"):
        args[0] = operators["clone"](args[0])
    kwargs = {name: sides.ours(value) for name, value in call.our_kwargs.items()}
    if in_shape and call.entry in HERMITIAN:
        args[0] = args[0] + operators["conj"](operators["transpose"](args[0], -2, -1))
    elif in_shape and call.entry in TRIANGULAR:
        at = TRIANGULAR[call.entry]
        args[at] = operators["triu" if kwargs.get("upper") else "tril"](args[at])
    results = as_list(operators[call.name](*args, **kwargs))
    return _settled(call, results[: call.results], operators["abs"], operators["narrow"])


def _settled(call: Call, results: list[Any], size: Any, narrow: Any) -> list[Any]:
    """The results, those with a phase as absolute values of what is unique in them."""
    vectors = UP_TO_A_PHASE.get(call.entry, {})
    if not vectors:
        return results
    count = results[1].shape[-1] if len(results) == 3 else 0
    settled = list(results)
    for at, dim in vectors.items():
        if dim is not None and settled[at].shape[dim] > count:
            settled[at] = narrow(settled[at], dim, 0, count)
        settled[at] = size(settled[at])
    return settled


def as_list(results: Any) -> list[Any]:
    """One result or several, as a list."""
    return list(results) if isinstance(results, (list, tuple)) else [results]


def graph(results: Sequence[Any], leaves: Sequence[Any]) -> list[Any]:
    """The graph below the results as plain data, the same for both sides if the graphs are.

    Nodes are numbered as a walk from the results meets them; a leaf is shown by its position.
    """
    numbers: dict[Any, int] = {}
    shown: list[Any] = []
    accumulators = {id(leaf): i for i, leaf in enumerate(leaves)}
    stack = [each.grad_fn for each in results]
    for node in stack:
        if node is None:
            shown.append(None)
            continue
        if node in numbers:
            continue
        numbers[node] = len(numbers)
        name = node.name() if callable(node.name) else node.name
        if "AccumulateGrad" in name:
            shown.append(f"leaf {accumulators[id(node.variable)]}")
            continue
        following = [nr if after is not None else None for after, nr in node.next_functions]
        shown.append((name.removeprefix("torch::autograd::"), following))
        stack.extend(after for after, _ in node.next_functions)
    return shown
