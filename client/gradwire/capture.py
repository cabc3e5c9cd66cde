"""Capturing a function as a program: its operators are noted, not run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from gradwire import tensors as _tensors
from gradwire.encoding import encode_op
from gradwire.errors import refused
from gradwire.recorder import Attribute, OpEntry
from gradwire.v1 import autograd_pb2 as pb

if TYPE_CHECKING:
    from gradwire.core import SessionCore
    from gradwire.tensors import Tensor


class Capture:
    """Stands in for a session while a function runs on placeholders.

    Tensors of the real session that the function uses become further inputs of the program.

    Attributes:
        session: the real one.
        lifted: tensors of the real session that the function used, in order.
    """

    id: Final = "capture"
    unsettled: Final = False

    def __init__(self, session: "SessionCore", what: str) -> None:
        """Begin; `what` says in errors what is captured."""
        self.session = session
        self.changes = 0
        self.tensor_type = session.tensor_type
        self.lifted: list[Tensor] = []
        self._what = what
        self._next = 1
        self._entries: list[OpEntry] = []
        self._inputs: dict[int, Tensor] = {}

    def placeholder(self) -> "Tensor":
        """A tensor whose value nobody knows yet."""
        handle = self._next
        self._next += 1
        return self.tensor_type(handle, cast("SessionCore", self))

    def lift(self, tensor: "Tensor") -> "Tensor":
        """The placeholder for a tensor of the real session."""
        found = self._inputs.get(tensor._handle)
        if found is None:
            found = self._inputs[tensor._handle] = self.placeholder()
            self.lifted.append(tensor)
        return found

    def lifted_placeholders(self) -> "list[Tensor]":
        """The placeholders of `lifted`, in order."""
        return [self._inputs[each._handle] for each in self.lifted]

    def op(
        self,
        name: str,
        inputs: tuple[int, ...],
        attributes: tuple[Attribute, ...],
        outputs: int,
        grad_mode: int,
    ) -> int:
        """Note an operator; the handle of its first result."""
        output = self._next if outputs else 0
        self._next += outputs
        # A program is not under hooks; the step that runs it is.
        self._entries.append((name, inputs, output, outputs, attributes, int(grad_mode), None, 0))
        return output

    def tensor(self, *args: Any, **kwargs: Any) -> "Tensor":
        """A tensor of the real session: a constant of the program."""
        return self.session.tensor(*args, **kwargs)

    def release(self, handle: int) -> None:
        """Nothing: handles of a program live as long as it runs."""

    def program(self, inputs: "Sequence[Tensor]", outputs: "Sequence[Tensor | None]") -> pb.Program:
        """What was noted, from placeholders to results.

        Raises:
            TypeError: an output is no tensor of this capture, nor of the real session.
        """
        results = [0 if each is None else self.own(each)._handle for each in outputs]
        program = pb.Program.FromString(b"".join([encode_op(e) for e in self._entries]))
        program.inputs.extend(each._handle for each in inputs)
        program.outputs.extend(results)
        return program

    def own(self, tensor: object) -> "Tensor":
        """A result as a tensor of this capture.

        Raises:
            TypeError: it is no tensor of this capture, nor of the real session.
        """
        if not isinstance(tensor, _tensors.Tensor):
            raise refused(
                "BAD_ATTRIBUTE",
                f"{self._what} must give tensors, or None, not {type(tensor).__name__}",
            )
        return tensor if is_of(tensor, self) else self.lift(tensor)

    def __getattr__(self, name: str) -> Any:
        raise refused(
            "BAD_VALUE",
            f"{self._what} is captured as a program of operators, so no value, shape or gradient "
            "of its tensors is known while it runs; write it with operators alone, for example "
            "gradwire.where() instead of if",
        )


def is_of(tensor: "Tensor", capture: Capture) -> bool:
    """Whether a tensor is a placeholder, or result, of this capture."""
    return cast("object", tensor._session) is capture


def joined(tensors: Sequence[object]) -> list[object] | None:
    """Operands of several sessions as those of the capture among them; None if there is none."""
    sessions: list[object] = [
        each._session for each in tensors if isinstance(each, _tensors.Tensor)
    ]
    capture = next((each for each in sessions if isinstance(each, Capture)), None)
    if capture is None:
        return None
    together: list[object] = []
    for each in tensors:
        if isinstance(each, _tensors.Tensor) and each._session is capture.session:
            each = capture.lift(each)
        together.append(each)
    # A tensor of yet another session stays what it is, and is refused as ever.
    unchanged = all(new is old for new, old in zip(together, tensors, strict=True))
    return None if unchanged else together
