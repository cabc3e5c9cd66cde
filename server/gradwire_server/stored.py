"""The programs that a session keeps: created, found by id or name, listed, dropped."""

from __future__ import annotations

import hashlib
import itertools
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gradwire.v1 import autograd_pb2 as pb
from gradwire.wire import dtype_from_wire
from gradwire_engine.plan import CompiledProgram
from gradwire_engine.tensor import Tensor
from gradwire_server.errors import ServiceError, failure_of
from gradwire_server.limits import exceeded
from gradwire_server.pages import make_token, page_size, read_token
from gradwire_server.programs import program_of
from gradwire_server.settings import Settings

if TYPE_CHECKING:
    from gradwire_server.workspace import Workspace

_NAME: Final = re.compile(r"[\w.\-<>]{1,100}", re.ASCII)
_ID_BYTES: Final = 16

Shapes = tuple[tuple[int, ...], ...]

Type = tuple[np.dtype[Any], tuple[int, ...], bool]
"""Dtype, shape, and whether it requires grad."""


@dataclass(slots=True)
class StoredProgram:
    """A program, and what a call of it needs to know.

    Attributes:
        ordinal: rises from program to program of a session.
        program: what runs; its outputs are `outputs` results, and then what is left as gradients.
        work: floating-point operations of a run, for each list of shapes that it was estimated for.
        held: for each input the tensor bound to it, or None where a call names one.
        free: positions of the inputs that a call names.
        types: what the inputs must be; None if they may be anything.
        outputs: how many results a call makes.
        grads: `(input, output)` of gradients that a call leaves; output None makes `.grad` None.
        size: bytes of the request that created it.
        described: as clients are told of it, but for its runs.
        runs: so far.
    """

    ordinal: int
    program: CompiledProgram
    held: tuple[Tensor | None, ...]
    free: tuple[int, ...]
    types: tuple[Type, ...] | None
    outputs: int
    grads: tuple[tuple[int, int | None], ...]
    size: int
    described: pb.StoredProgram
    runs: int = 0
    work: dict[Shapes, int] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Unique in its session."""
        return self.described.id

    def describe(self) -> pb.StoredProgram:
        """As clients are told of it."""
        message = pb.StoredProgram(run_count=self.runs)
        message.MergeFrom(self.described)
        return message


class Programs:
    """The programs of one session, oldest first."""

    __slots__ = ("_by_id", "_bytes", "_ordinals", "_settings")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._by_id: dict[str, StoredProgram] = {}
        self._bytes = 0
        self._ordinals = itertools.count()

    def __len__(self) -> int:
        return len(self._by_id)

    def create(self, workspace: Workspace, request: pb.CreateProgramRequest) -> StoredProgram:
        """Keep a program; the same again is the one that is there.

        Raises:
            ServiceError: BAD_VALUE, PROGRAM_NAME_IN_USE, LIMIT_EXCEEDED, WRONG_ARITY,
                HANDLE_NOT_FOUND, PROGRAM_SIGNATURE, and what `program_of` raises.
        """
        data = request.SerializeToString(deterministic=True)
        program_id = hashlib.blake2b(data, digest_size=_ID_BYTES).hexdigest()
        found = self._by_id.get(program_id)
        if found is not None:
            return found
        self._require_name(request.name)
        self._require_room(len(data))
        message = request.program
        positions = {handle: at for at, handle in enumerate(message.inputs)}
        whole = pb.Program()
        whole.CopyFrom(message)
        whole.outputs.extend(each.grad for each in request.grads if each.grad)
        program = program_of(whole, "program", self._settings.max_steps, whole=True)
        held: list[Tensor | None] = [None] * program.inputs
        for at, binding in enumerate(request.bindings):
            path = f"bindings[{at}]"
            position = _input_of(positions, binding.input, f"{path}.input")
            held[position] = workspace.tensor(binding.tensor, f"{path}.tensor")
        free = tuple([at for at, each in enumerate(held) if each is None])
        types = _types_of(request, program.inputs)
        described = pb.StoredProgram(
            id=program_id,
            name=request.name,
            input_count=len(free),
            bound_count=len(held) - len(free),
            output_count=len(message.outputs),
            step_count=len(message.steps),
            input_types=[request.input_types[at] for at in free] if types is not None else [],
        )
        described.create_time.FromNanoseconds(time.time_ns())
        stored = StoredProgram(
            next(self._ordinals),
            CompiledProgram(program, _node_name(request.name)),
            tuple(held),
            free,
            types,
            len(message.outputs),
            tuple(_left_grads(request, positions, len(message.outputs))),
            len(data),
            described,
        )
        for at, each in enumerate(held):
            if each is not None:
                require_type(stored, at, each, f"input_types[{at}]")
        self._by_id[program_id] = stored
        self._bytes += stored.size
        return stored

    def _require_name(self, name: str) -> None:
        if not name:
            return
        if not _NAME.fullmatch(name):
            raise ServiceError(
                "BAD_VALUE",
                'the name of a program has up to 100 letters, digits and any of "_.-<>"',
                field="name",
            )
        if any(each.described.name == name for each in self._by_id.values()):
            raise ServiceError(
                "PROGRAM_NAME_IN_USE",
                f"another program of this session is called '{name}'; delete that one first, or "
                "give this one another name",
                field="name",
                metadata={"name": name},
            )

    def _require_room(self, size: int) -> None:
        settings = self._settings
        if len(self._by_id) >= settings.max_programs:
            raise exceeded(
                "max_programs",
                len(self._by_id) + 1,
                settings.max_programs,
                "too many programs in this session; delete those that are no longer called",
            )
        if self._bytes + size > settings.max_program_bytes:
            raise exceeded(
                "max_program_bytes",
                self._bytes + size,
                settings.max_program_bytes,
                "the programs of this session would take too many bytes; delete those that are no "
                "longer called",
                field="program",
            )

    def find(self, key: str, field: str) -> StoredProgram:
        """The program of an id or a name.

        Raises:
            ServiceError: PROGRAM_NOT_FOUND.
        """
        found = self._by_id.get(key)
        if found is None and key:
            found = next(
                (each for each in self._by_id.values() if each.described.name == key), None
            )
        if found is None:
            raise ServiceError(
                "PROGRAM_NOT_FOUND",
                f"this session has no program '{key[:100]}'; it was deleted, or never created",
                field=field,
                metadata={"program": key[:100]},
            )
        return found

    def drop(self, keys: Iterable[str]) -> None:
        """Drop programs by id; one that is not there is fine."""
        for key in keys:
            stored = self._by_id.pop(key, None)
            if stored is not None:
                self._bytes -= stored.size

    def bound(self) -> Iterator[Tensor]:
        """The tensors that programs hold."""
        for stored in list(self._by_id.values()):
            for each in stored.held:
                if each is not None:
                    yield each

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers that plans keep."""
        return sum(each.program.nbytes for each in list(self._by_id.values()))

    def page(self, request: pb.ListProgramsRequest) -> pb.ListProgramsResponse:
        """One page of them.

        Raises:
            ServiceError: BAD_VALUE, BAD_PAGE_TOKEN.
        """
        size = page_size(request.page_size, 50, 1000)
        call = f"ListPrograms {request.session_id}".encode()
        position = read_token(call, request.page_token)
        after = -1 if position is None else int(position)
        found = [each for each in self._by_id.values() if each.ordinal > after]
        response = pb.ListProgramsResponse(programs=[each.describe() for each in found[:size]])
        if len(found) > size:
            response.next_page_token = make_token(call, str(found[size - 1].ordinal))
        return response


def _node_name(name: str) -> str:
    """What nodes are called that calls of a program of this name record."""
    last = name.partition("-")[0].rpartition(".")[2]
    letters = re.sub(r"\W+", "", last, flags=re.ASCII).lstrip("0123456789_")
    return letters[:1].upper() + letters[1:] or "Compiled"


def require_type(stored: StoredProgram, position: int, tensor: Tensor, field: str) -> None:
    """Refuse a tensor that is not what the program was made for.

    Raises:
        ServiceError: PROGRAM_SIGNATURE.
    """
    if stored.types is None:
        return
    dtype, shape, requires_grad = stored.types[position]
    data = tensor.data
    if data.shape == shape and data.dtype == dtype and tensor.requires_grad == requires_grad:
        return

    def told(dtype: object, shape: tuple[int, ...], requires_grad: bool) -> str:
        return f"{dtype} of shape {shape}{' that requires grad' if requires_grad else ''}"

    given = told(data.dtype, data.shape, tensor.requires_grad)
    expected = told(dtype, shape, requires_grad)
    raise ServiceError(
        "PROGRAM_SIGNATURE",
        f"input {position} of the program is {given}, and it was made for {expected}; create "
        "another program for this one",
        field=field,
        metadata={"input": position, "given": given, "expected": expected},
    )


def _types_of(request: pb.CreateProgramRequest, inputs: int) -> tuple[Type, ...] | None:
    if not request.input_types:
        return None
    if len(request.input_types) != inputs:
        raise ServiceError(
            "WRONG_ARITY",
            f"{len(request.input_types)} types for {inputs} inputs; there must be one for each",
            field="input_types",
            metadata={"given": len(request.input_types), "expected": inputs},
        )
    types: list[Type] = []
    for at, each in enumerate(request.input_types):
        try:
            dtype = dtype_from_wire(each.dtype)
        except ValueError as error:
            failure = failure_of(error)
            failure.field = f"input_types[{at}].dtype"
            raise failure from None
        types.append((dtype, tuple(each.shape), each.requires_grad))
    return tuple(types)


def _left_grads(
    request: pb.CreateProgramRequest, positions: dict[int, int], outputs: int
) -> Iterator[tuple[int, int | None]]:
    for at, each in enumerate(request.grads):
        position = _input_of(positions, each.input, f"grads[{at}].input")
        yield position, outputs if each.grad else None
        outputs += bool(each.grad)


def _input_of(positions: dict[int, int], handle: int, field: str) -> int:
    found = positions.get(handle)
    if found is None:
        raise ServiceError(
            "HANDLE_NOT_FOUND",
            f"the program has no input {handle}",
            field=field,
            metadata={"handle": handle},
        )
    return found


def arguments_of(stored: StoredProgram, tensors: Sequence[Tensor], field: str) -> list[Tensor]:
    """All inputs of a call, those that are bound among them.

    Raises:
        ServiceError: WRONG_ARITY, PROGRAM_SIGNATURE.
    """
    if len(tensors) != len(stored.free):
        raise ServiceError(
            "WRONG_ARITY",
            f"{len(tensors)} inputs, and a call of this program names {len(stored.free)}",
            field=field,
            metadata={"given": len(tensors), "expected": len(stored.free)},
        )
    arguments: list[Any] = list(stored.held)
    for position, tensor in zip(stored.free, tensors, strict=True):
        arguments[position] = tensor
    if stored.types is not None:
        for position, tensor in enumerate(arguments):
            require_type(stored, position, tensor, field)
    return arguments
