"""What all transforms share: variables of their own, and results as seen from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from gradwire import tensors as _tensors
from gradwire.errors import refused
from gradwire.func import steps
from gradwire.func.tree import flatten, tree_map, unflatten
from gradwire.modes import enable_grad, is_grad_enabled

if TYPE_CHECKING:
    from gradwire.tensors import Tensor

Argnums = int | tuple[int, ...]

Function = Callable[..., Any]

_innermost: Final[ContextVar[Transform | None]] = ContextVar("gradwire_transform", default=None)


class Transform:
    """A function being differentiated. Within it operators are recorded, also under a `no_grad`.

    Attributes:
        connected: Whether results are part of the graph outside, where they depend on it.
        variables: What this and the transforms within it differentiate by.
    """

    def __init__(self, *, connected: bool | None = None) -> None:
        self.connected = is_grad_enabled() if connected is None else connected
        self.variables: list[Tensor] = []
        self._mode = enable_grad()
        self._entered: Token[Transform | None] | None = None

    def __enter__(self) -> Transform:
        self._entered = _innermost.set(self)
        self._mode.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._mode.__exit__(kind, error, trace)
        if self._entered is not None:
            _innermost.reset(self._entered)
        around = _innermost.get()
        if around is not None:
            # A result of that one may depend on them, and they are no more to be named there.
            around.variables += self.variables

    def variable(self, value: Any) -> Tensor:
        """What the function gets in place of a tensor.

        Raises:
            ValueError: it is no tensor.
        """
        if not isinstance(value, _tensors.Tensor):
            raise refused(
                "BAD_VALUE",
                f"a transform differentiates by tensors, not by {type(value).__name__}; name the "
                "arguments that are tensors with argnums",
            )
        made = steps.variable(value, connected=self.connected)
        self.variables.append(made)
        return made

    def leave(self, value: Any) -> Any:
        """A tree of results as seen from outside."""
        return tree_map(self._leave, value)

    def _leave(self, value: Any) -> Any:
        if not isinstance(value, _tensors.Tensor):
            return value
        return steps.seen_from_outside(value, self.variables, connected=self.connected)


def outputs_of(function: str, value: Any) -> list[Tensor]:
    """The tensors that a function gave, which must be nothing else, and at least one.

    Raises:
        RuntimeError: they are not.
    """
    leaves, _ = flatten(value)
    for each in leaves:
        if not isinstance(each, _tensors.Tensor):
            raise refused(
                "BAD_VALUE",
                f"{function}: the function gave {type(each).__name__} ({each!r}); only tensors, "
                "and tuples, lists and dicts of tensors, can be differentiated. Return the rest as "
                "auxiliary results, with has_aux=True",
            )
    if not leaves:
        raise refused("BAD_VALUE", f"{function}: the function gave no tensor to differentiate")
    return leaves


def _without_aux(function: str, value: Any, has_aux: bool) -> tuple[Any, Any]:
    """What a function gave as its output and its auxiliary results.

    Raises:
        RuntimeError: it was to give both and did not.
    """
    if not has_aux:
        return value, None
    if not (isinstance(value, tuple) and len(value) == 2):
        raise refused(
            "BAD_VALUE",
            f"{function}: with has_aux=True the function must return a tuple (output, aux), not "
            f"{type(value).__name__}",
        )
    return value


class Arguments:
    """The arguments of a call, with variables in the places that are differentiated.

    Attributes:
        all: what the function is to be called with.
        chosen: the tree of variables; of one argument, that argument.
        variables: its leaves.
    """

    def __init__(
        self, transform: Transform, function: str, args: Sequence[Any], argnums: Argnums | None
    ) -> None:
        self._single = isinstance(argnums, int)
        places = _places(function, argnums, len(args))
        self.all = list(args)
        for place in places:
            self.all[place] = tree_map(transform.variable, args[place])
        self.chosen = tuple(self.all[place] for place in places)
        self.variables, self._structure = flatten(self.chosen)
        if not self.variables:
            raise refused("BAD_VALUE", f"{function}: there is no tensor to differentiate by")

    def like(self, results: Sequence[Any]) -> Any:
        """Results, one for each variable, as the tree of the chosen arguments."""
        found = unflatten(results, self._structure)
        return found[0] if self._single else found


class Forward:
    """A function run on variables, for what is to be made of its outputs.

    Attributes:
        transform: What it ran within.
        arguments: What it was called with.
        output: What it gave, or of what it gave the part to differentiate.
    """

    def __init__(
        self,
        function: str,
        func: Function,
        args: Sequence[Any],
        argnums: Argnums | None,
        *,
        has_aux: bool = False,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Run `func(*args, **kwargs)`; `function` says in errors what for.

        Raises:
            ValueError: an argument to differentiate by is no tensor.
            RuntimeError: `argnums` does not fit; with `has_aux`, the result is no pair.
        """
        self._function = function
        self._has_aux = has_aux
        with Transform() as self.transform:
            self.arguments = Arguments(self.transform, function, args, argnums)
            given = func(*self.arguments.all, **(kwargs or {}))
            self.output, self._aux = _without_aux(function, given, has_aux)

    @property
    def roots(self) -> list[Tensor]:
        """The tensors of the output, which must be nothing else, and at least one.

        Raises:
            RuntimeError: they are not.
        """
        return outputs_of(self._function, self.output)

    def like_output(self, results: Sequence[Any]) -> Any:
        """Results, one for each root, as the tree of the output."""
        return unflatten(results, flatten(self.output)[1])

    def value(self) -> Any:
        """The output as seen from outside."""
        return self.transform.leave(self.output)

    def with_aux(self, *results: Any) -> Any:
        """Results, and after them the auxiliary ones if there are any; a single one as it is."""
        if self._has_aux:
            results = (*results, self.transform.leave(self._aux))
        return results[0] if len(results) == 1 else results


def _places(function: str, argnums: object, count: int) -> tuple[int, ...]:
    if argnums is None:
        return tuple(range(count))
    given = argnums if isinstance(argnums, tuple) else (argnums,)
    if not all(isinstance(each, int) for each in given):
        raise refused(
            "BAD_VALUE", f"{function}: argnums must be an int or a tuple of ints, not {argnums!r}"
        )
    if not given:
        raise refused("BAD_VALUE", f"{function}: argnums is empty; name at least one argument")
    for each in given:
        if not -count <= each < count:
            raise refused(
                "BAD_VALUE",
                f"{function}: argnums names argument {each}, and there are {count} positional ones",
            )
    places = tuple(each % count for each in given)
    if len(set(places)) < len(places):
        raise refused("BAD_VALUE", f"{function}: argnums names an argument twice: {argnums}")
    return places


def same_structure(function: str, one: Any, other: Any, what: str, like: str) -> list[Tensor]:
    """The tensors of the tree `other`, which must be built as `one`.

    Raises:
        RuntimeError: it is not, or something in it is no tensor.
    """
    _, wanted = flatten(one)
    leaves, found = flatten(other)
    if wanted != found:
        raise refused(
            "BAD_VALUE",
            f"{function}: {what} must be built as {like} ({wanted}, where * is a tensor), not "
            f"{found}",
        )
    for each in leaves:
        if not isinstance(each, _tensors.Tensor):
            raise refused(
                "BAD_VALUE", f"{function}: {what} hold {type(each).__name__}, not only tensors"
            )
    return leaves


def refuse_complex(function: str, tensors: Sequence[Any]) -> None:
    """Refuse tensors that are known to be complex: what their Jacobian is, is not agreed upon.

    Raises:
        RuntimeError: one is.
    """
    for each in tensors:
        info = steps.known_type(each) if isinstance(each, _tensors.Tensor) else None
        if info is not None and info.dtype.is_complex:
            raise refused(
                "BAD_VALUE",
                f"{function}: a tensor of {info.dtype} has no Jacobian that all agree upon; "
                "differentiate a function of real tensors (view_as_real), or use vjp and jvp",
            )
