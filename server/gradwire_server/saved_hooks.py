"""Saved-tensor hooks of clients: what they keep of a tensor stays with them, under a number.

A step that names a `PackHook` records under it. Each tensor that it keeps for backward goes to
the client, which answers with the number of an `UnpackHook`; that stands in the node, and is asked
for the tensor when a backward needs it. A pair of programs runs here, and what it packs stays here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradwire.v1 import autograd_pb2 as pb
from gradwire_engine.context import current
from gradwire_engine.program import Program
from gradwire_engine.saved_hooks import SavedHooks
from gradwire_engine.tensor import Tensor
from gradwire_server.errors import ServiceError, malformed
from gradwire_server.hooks import ClientHooks, Question
from gradwire_server.programs import program_of

if TYPE_CHECKING:
    from gradwire_server.execute import Execution
    from gradwire_server.workspace import Workspace


class PackHook:
    """A hook of kind PACK: a pair of functions of the client, or of programs.

    Attributes:
        number: the client's name for it.
        max_value_bytes: larger values are left out of the calls; 0 for no such bound.
        program: what packs here in place of asking the client.
        pair: the same for the engine.
    """

    __slots__ = ("_hooks", "_unpack", "max_value_bytes", "number", "pair", "program")

    def __init__(
        self,
        hooks: ClientHooks,
        number: int,
        max_value_bytes: int,
        program: Program | None,
        unpack: Program | None,
    ) -> None:
        self.number = number
        self.max_value_bytes = max_value_bytes
        self.program = program
        self._unpack = unpack
        self._hooks = hooks
        self.pair = SavedHooks(self._pack, self._open)

    @property
    def _execution(self) -> Execution:
        execution = self._hooks.running
        assert execution is not None, "hooks run within a sequence"
        return execution

    def _pack(self, tensor: Tensor) -> Any:
        execution = self._execution
        if self.program is not None:
            (packed,) = execution.run_program(self.program, [tensor], False)
            assert packed is not None, "checked when the hook was registered"
            execution.workspace.bytes_bound += packed.data.nbytes
            return _without_graph(packed)
        reply = Question(self, [tensor], 1, 0, False).put_to_client(execution)
        if not reply.unpack_hook:
            return _without_graph(reply.replacements[0] or tensor)
        if reply.unpack_hook in self._hooks:
            raise ServiceError(
                "HANDLE_IN_USE",
                f"{reply.unpack_hook} cannot be the number of a new hook: a live hook has it",
                field="hook_answer.unpack_hook",
                metadata={"hook": reply.unpack_hook},
            )
        made = UnpackHook(self._hooks, reply.unpack_hook, self.max_value_bytes)
        self._hooks.add(made)
        return made

    def _open(self, held: Any) -> Tensor:
        if isinstance(held, UnpackHook):
            return held.ask()
        if self._unpack is None:
            return held  # type: ignore[no-any-return]
        (tensor,) = self._execution.run_program(self._unpack, [held], _creates_graph())
        assert tensor is not None, "checked when the hook was registered"
        return tensor


@dataclass(slots=True, weakref_slot=True, eq=False)
class UnpackHook:
    """A hook of kind UNPACK. Lives as long as the node keeps what it stands for.

    Attributes:
        number: the client's name for it.
        max_value_bytes: of no use here: its calls carry no values.
        program: none; the client is asked.
    """

    _hooks: ClientHooks
    number: int
    max_value_bytes: int
    program: None = None

    def ask(self) -> Tensor:
        """The tensor that the client packed.

        Raises:
            ServiceError: HOOK_SHAPE if it gives none, and what asking raises.
        """
        execution = self._hooks.running
        assert execution is not None, "hooks run within a sequence"
        question = Question(self, [], 1, 0, _creates_graph())
        (tensor,) = question.put_to_client(execution).replacements
        if tensor is None:
            raise ServiceError(
                "HOOK_SHAPE",
                f"unpack hook {self.number} gave no tensor; answer with the one that was packed",
                metadata={"hook": self.number},
            )
        return tensor


def register_pack_hook(workspace: Workspace, message: pb.RegisterHook) -> None:
    """Register a hook of kind PACK.

    Raises:
        ServiceError: MALFORMED_REQUEST, WRONG_ARITY, LIMIT_EXCEEDED, and what is wrong with its
            programs.
    """
    if message.WhichOneof("target") is not None:
        raise malformed("a hook of kind PACK has no target; steps name it", "register_hook.target")
    if message.HasField("program") != message.HasField("unpack"):
        raise malformed(
            "a program that packs needs one that unpacks, and the other way round",
            "register_hook.unpack",
        )
    hooks = workspace.hooks
    workspace.require_room(len(hooks.packs) + 1, "register_hook.hook")
    program = unpack = None
    if message.HasField("program"):
        program = _program(workspace, message.program, "register_hook.program")
        unpack = _program(workspace, message.unpack, "register_hook.unpack")
    hooks.note_length(program)
    hooks.note_length(unpack)
    hooks.add_pack(PackHook(hooks, message.hook, message.max_value_bytes, program, unpack))


def _program(workspace: Workspace, message: pb.Program, field: str) -> Program:
    program = program_of(message, field, workspace.settings.max_steps)
    if program.inputs != 1 or len(program.outputs) != 1 or None in program.outputs:
        raise ServiceError(
            "WRONG_ARITY",
            f"{field} goes from one tensor to one tensor, not from {program.inputs} to "
            f"{len(program.outputs)}",
            field=field,
        )
    return program


def _without_graph(tensor: Tensor) -> Tensor:
    """The values alone: what a node keeps is not to keep other nodes."""
    return Tensor(tensor.data)


def _creates_graph() -> bool:
    running = current.context.running
    return running is not None and bool(running.creates_graph)
