"""Reading tensors back, and what is remembered of them so that it need not be read twice.

A session counts what may make memory stale: `changes` for in-place changes (any of them, since a
tensor may be a view of another), `backwards` for steps that may fill `.grad`. What was read is
trusted while its count is the session's.

Whoever waits for an answer anyway also learns the `.grad` of all tensors that may have got one, and
the values of the roots of the last backwards where they are small. So `loss.item()` and `w.grad`
after a `backward()` take one round trip together, whichever comes first. A program that reads no
`.grad`, as one that leaves them to an optimizer, is told of them once only.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

import numpy as np

from gradwire import dtypes, tracing
from gradwire.codec import Array, Fetched, Info, TensorType
from gradwire.errors import ServerError
from gradwire.v1 import autograd_pb2 as pb

if TYPE_CHECKING:
    from gradwire.core import SessionCore
    from gradwire.tensors import Tensor

SMALL: Final = 64 << 10
"""Values of up to this many bytes are remembered."""

_ASIDE: Final = 1 << 10
"""Values of up to this many bytes are fetched though nobody asked for them yet."""


@dataclass(slots=True)
class Known:
    """What is remembered of a tensor.

    Attributes:
        info: Metadata. Its dtype and shape hold for good, the rest at `info_at`.
        info_at: The session's `changes` when it was read.
        value: The value, if it is small.
        value_at: The session's `changes` when it was read.
        grad: The tensor that `.grad` was when last looked at.
        grad_at: The session's `backwards` when it was looked at; -1: never.
        base: Of a view, the tensor that it is a view of.
        type: What a value told, where there is no `info`.
    """

    info: Info | None = None
    info_at: int = -1
    value: Array | None = None
    value_at: int = -1
    grad: "Tensor | None" = None
    grad_at: int = -1
    base: "Tensor | None" = None
    type: TensorType | None = None


def known(tensor: "Tensor") -> Known:
    """What is remembered of a tensor, for writing to."""
    found = tensor._known
    if found is None:
        found = tensor._known = Known()
    return found


def info_of(tensor: "Tensor") -> Info:
    """Metadata of a tensor as it is now; one round trip unless it is known."""
    found = tensor._known
    if found is not None and found.info is not None and found.info_at == tensor._session.changes:
        return found.info
    return tensor._session.finish(read_info(tensor))


async def read_info(tensor: "Tensor") -> Info:
    """As `info_of`, to be awaited."""
    found = tensor._known
    if found is not None and found.info is not None and found.info_at == tensor._session.changes:
        return found.info
    await _read(tensor._session, [tensor], _ASIDE)
    return _info(tensor)


def type_of(tensor: "Tensor") -> Info | TensorType:
    """Metadata of which only dtype and shape are sure; one round trip unless they are known."""
    found = tensor._known
    if found is not None and (sure := found.info or found.type) is not None:
        return sure
    return info_of(tensor)


def info_and_small_value_of(tensor: "Tensor") -> tuple[Info, Array | None]:
    """Metadata, and the value unless it is larger than `SMALL`; at most one round trip.

    There is one, as in `values_of`, where operators were recorded since the last.
    """
    return tensor._session.finish(read_info_and_small_value(tensor))


async def read_info_and_small_value(tensor: "Tensor") -> tuple[Info, Array | None]:
    """As `info_and_small_value_of`, to be awaited."""
    tracing.refuse_value(tensor._session)
    value = remembered(tensor)
    if value is not None and not tensor._session.unsettled:
        return await read_info(tensor), value
    (value,) = await _read(tensor._session, [tensor], SMALL)
    return _info(tensor), value


async def read_makers(session: "SessionCore", tensors: Sequence["Tensor"]) -> dict[int, int]:
    """The nodes that made tensors, by handle; without leaves and failed ones. One round trip."""
    at = session.changes
    untold = [
        each
        for each in tensors
        if not (each._known and each._known.info and each._known.info_at == at)
        and not session.has_failed(each._handle)
    ]
    if untold:
        await _read(session, untold, _ASIDE)
    found = {}
    for each in tensors:
        info = each._known.info if each._known is not None else None
        if info is not None and info.grad_fn is not None:
            found[each._handle] = info.grad_fn.id
    return found


def values_of(tensors: Sequence["Tensor"], *, info: bool = False) -> list[Array]:
    """The values of tensors of one session, read-only; at most one round trip for all.

    What is remembered is not asked for again. But where operators were recorded since the last
    round trip there is one all the same: if one of them failed, it is time to say so.

    Args:
        info: Learn the metadata of what is read along with it.
    """
    session = tensors[0]._session
    if not session.unsettled:
        tracing.refuse_value(session)
        known = [value for each in tensors if (value := remembered(each)) is not None]
        if len(known) == len(tensors):
            return known
    return session.finish(read_values(tensors, info=info))


async def read_values(tensors: Sequence["Tensor"], *, info: bool = False) -> list[Array]:
    """As `values_of`, to be awaited."""
    session = tensors[0]._session
    tracing.refuse_value(session)
    found = [remembered(each) for each in tensors]
    missing = [each for each, value in zip(tensors, found, strict=True) if value is None]
    if missing or session.unsettled:
        read = iter(await _read(session, missing, 0, info=info))
        found = [next(read) if value is None else value for value in found]
    complete = [value for value in found if value is not None]
    if len(complete) < len(found):
        raise ServerError("the server left out a value that was asked for")
    return complete


def remembered(tensor: "Tensor") -> Array | None:
    """The value of a tensor as it is now, where it needs no round trip."""
    found = tensor._known
    if found is None or found.value_at != tensor._session.changes:
        return None
    return found.value


def _info(tensor: "Tensor") -> Info:
    found = tensor._known
    if found is None or found.info is None:
        raise ServerError("the server left out metadata that was asked for")
    return found.info


async def _read(
    session: "SessionCore",
    tensors: Sequence["Tensor"],
    most_bytes: int,
    holders: Sequence["Tensor"] = (),
    grad_bytes: int = _ASIDE,
    *,
    info: bool = True,
) -> list[Array | None]:
    """One round trip: metadata unless `info` is off, and values of up to `most_bytes` (0: any).

    Also the `.grad` of `holders`, and of all that may have one, with values of `grad_bytes`.
    """
    at = session.changes
    asked = [_fetch([each._handle for each in tensors], most_bytes, info)] if tensors else []
    read = tensors
    if session.last_roots and (roots := _roots(session, tensors)):
        asked.append(_fetch([each._handle for each in roots], SMALL))
        read = [*tensors, *roots]
    answers = await _exchange(session, asked, holders, grad_bytes)
    values = [_remember(*pair, at) for pair in zip(read, answers, strict=True)]
    return values[: len(tensors)]


def _roots(session: "SessionCore", tensors: Sequence["Tensor"]) -> list["Tensor"]:
    """Roots of the last backwards whose value is not known, and not asked for with `tensors`."""
    roots = [
        root
        for ref in session.last_roots
        if (root := ref()) is not None
        and remembered(root) is None
        and not session.has_failed(root._handle)
        and not any(root is each for each in tensors)
    ]
    session.last_roots = ()
    return roots


async def refresh(tensor: "Tensor") -> None:
    """Learn what is not known of a tensor: metadata, `.grad`, its value if that is small.

    At most one round trip.
    """
    session, found = tensor._session, tensor._known
    tracing.refuse_value(session)
    holders = () if is_resolved(tensor) else (tensor,)
    is_known = found is not None and found.info_at == found.value_at == session.changes
    if holders or session.unsettled or not is_known:
        await _read(session, [tensor], SMALL, holders)


async def read_grads(session: "SessionCore", *holders: "Tensor", most_bytes: int = SMALL) -> None:
    """One round trip: the `.grad` of these tensors and of all others that may have one."""
    untold = [each for each in holders if each._known is None or each._known.info is None]
    await _read(session, untold, _ASIDE, holders, most_bytes)


def _fetch(handles: Sequence[int], most_bytes: int, info: bool = True) -> pb.Step:
    # Set field by field, which takes half of the time that keywords do.
    step = pb.Step()
    fetch = step.fetch
    fetch.tensors.extend(handles)
    fetch.values = True
    if info:
        fetch.info = True
    if most_bytes:
        fetch.max_value_bytes = most_bytes
    else:
        fetch.downloads = True
    return step


async def _exchange(
    session: "SessionCore",
    fetches: Sequence[pb.Step],
    asked: Sequence["Tensor"] = (),
    asked_bytes: int = _ASIDE,
) -> list[Fetched]:
    """Fetch, and learn the grads that are not known, in one round trip.

    Those of `asked` with values of up to `asked_bytes`.
    """
    at, backwards = session.changes, session.backwards
    if not asked and (session.grads_known_at == backwards or not session.grads_read):
        return await session.ask(*fetches)
    holders = _unresolved(session, asked)
    if not holders:
        session.grads_known_at = backwards
        return await session.ask(*fetches)
    session.grads_read = False
    first = session.new_handles(len(holders))
    grads = range(first, first + len(holders))
    naming = pb.GetGrad(tensors=[each._handle for each in holders], outputs=grads)
    near = sum(any(each is other for other in asked) for each in holders) if asked else 0
    parts = ((grads[:near], asked_bytes), (grads[near:], _ASIDE))
    try:
        answers = await session.ask(
            *fetches,
            pb.Step(get_grad=naming),
            *(_fetch(part, most_bytes) for part, most_bytes in parts if part),
        )
    except BaseException:
        for handle in grads:
            session.release(handle)
        raise
    session.grads_known_at = backwards
    count = len(answers) - len(holders)
    for holder, answer in zip(holders, answers[count:], strict=True):
        if is_resolved(holder):
            # Someone else learned or set it meanwhile.
            session.release(answer.tensor)
            continue
        found = known(holder)
        found.grad_at = backwards
        if answer.absent:
            session.release(answer.tensor)
            found.grad = None
            continue
        found.grad = session.tensor_type(answer.tensor, session)
        session.grads_seen = True
        _remember(found.grad, answer, at)
    return answers[:count]


async def learn_grad(tensor: "Tensor") -> "Tensor | None":
    """What `.grad` is; at most one round trip. Where there is none, metadata is known then."""
    if not is_resolved(tensor):
        if tensor._session.backwards == 0 and _is_known_leaf(tensor):
            return None
        await read_grads(tensor._session, tensor)
    known = tensor._known
    grad = None if known is None else known.grad
    if grad is None and not _is_known_leaf(tensor):
        await read_info(tensor)
    return grad


def _is_known_leaf(tensor: "Tensor") -> bool:
    known = tensor._known
    return known is not None and known.info is not None and known.info.is_leaf


def is_resolved(tensor: "Tensor") -> bool:
    """Whether it is known what `.grad` is."""
    found, session = tensor._known, tensor._session
    if found is None:
        return False
    if found.grad is None or (found.info is not None and not found.info.is_leaf):
        # What a non-leaf retains is replaced by each backward.
        return found.grad_at >= session.backwards
    return found.grad_at >= session.rebuilt_grads


def _unresolved(session: "SessionCore", asked: Sequence["Tensor"]) -> list["Tensor"]:
    """Tensors whose `.grad` is to be learned, those of `asked` first."""
    candidates = {id(each): each for each in (*asked, *_alive(session))}
    return [
        each
        for each in candidates.values()
        if not is_resolved(each) and not session.has_failed(each._handle)
    ]


def _alive(session: "SessionCore") -> list["Tensor"]:
    # A snapshot: other threads may add to it meanwhile.
    refs = session.grad_holders.valuerefs()
    return [tensor for ref in refs if (tensor := ref()) is not None]


def _remember(tensor: "Tensor", answer: Fetched, at: int) -> Array | None:
    found = known(tensor)
    if answer.info is not None:
        found.info, found.info_at = answer.info, at
    value = answer.value
    if value is not None:
        if found.info is None:
            found.type = _type_of(value.dtype, value.shape)
        if value.nbytes <= SMALL:
            found.value, found.value_at = value, at
    return value


@functools.lru_cache(maxsize=1024)
def _type_of(found: np.dtype[np.generic], shape: tuple[int, ...]) -> TensorType:
    return TensorType(dtypes.from_numpy(found), shape)


async def read_without_absent(
    session: "SessionCore", tensors: "Sequence[Tensor]", *before: pb.Step
) -> "tuple[Tensor, ...]":
    """The tensors, with None for those whose handle holds none; one round trip, after steps.

    Typed as if there were no None, as PyTorch types `grad`: whoever allows unused inputs knows.
    """
    at = session.changes
    fetch = _fetch([each._handle for each in tensors], _ASIDE)
    answers = await _exchange(session, [*before, fetch])
    found: list[Tensor | None] = []
    for each, answer in zip(tensors, answers, strict=True):
        if not answer.absent:
            _remember(each, answer, at)
        found.append(None if answer.absent else each)
    return cast("tuple[Tensor, ...]", tuple(found))
