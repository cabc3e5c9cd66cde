"""What a step says, checked: operator calls as plans that are found again, fields as paths.

A plan is what is the same for all calls of an operator with the same plain arguments: it is
made once and looked up afterwards, so that decoding a call is little more than reading its
handles. Nothing here keeps a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gradwire.v1 import autograd_pb2 as pb
from gradwire.wire import dtype_from_wire
from gradwire_engine.errors import EngineError
from gradwire_engine.operator import Operator, TensorHandles
from gradwire_engine.registry import lookup
from gradwire_engine.tensor import Tensor
from gradwire_server.errors import ServiceError, failure_of, malformed

_MAX_PLANS: Final = 16384
_MAX_KEY_BYTES: Final = 512

VARIADIC: Final = -1
"""Number of results of an operator that makes as many as its arguments say."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A call of an operator without its tensors.

    Attributes:
        op: the operator.
        path: what runs it, on arguments in schema order; the last may be left out.
        template: arguments in schema order, None where a tensor goes.
        given: the template without what is left out: the default values at its end.
        slots: `(position in the template, index in the call's handles)`.
        lists: `(position, indices)` of arguments that are lists; index -1 is "none".
        results: number of results, or VARIADIC.
        mutates: the operator changes its first argument.
        counts_elements: a call costs as much as its tensors have elements.
        lead: how many tensors a call begins with, where these are all its tensors, one or two, and
            it makes one result and costs as much as they have elements; else 0.
        rest: of `given`, what comes after them.
    """

    op: Operator
    path: Callable[..., Any]
    template: tuple[Any, ...]
    given: tuple[Any, ...]
    slots: tuple[tuple[int, int], ...]
    lists: tuple[tuple[int, tuple[int, ...]], ...]
    results: int
    mutates: bool
    counts_elements: bool
    lead: int
    rest: tuple[Any, ...]


_plans: dict[tuple[Any, ...], Plan] = {}


def call_of(message: pb.Op) -> tuple[Plan, Sequence[int]]:
    """The plan of a call, and its handles: the inputs, then those of list arguments.

    Raises:
        ServiceError: UNKNOWN_OP, WRONG_ARITY, BAD_ATTRIBUTE, UNKNOWN_DTYPE; with its field.
    """
    name = message.name
    inputs = message.inputs[:]
    attributes = message.attributes
    key: tuple[Any, ...] = (name, len(inputs))
    if not attributes and 0 not in inputs:
        plan = _plans.get(key)
        if plan is None:
            plan = _remember(key, _make_plan(message, name, inputs))
        return plan, inputs
    parts: list[Any] = [name, tuple([handle != 0 for handle in inputs])]
    handles = inputs
    for attribute in attributes[:]:
        if attribute.HasField("tensor_list"):
            listed = attribute.tensor_list.tensors[:]
            handles = handles + listed
            parts += (attribute.name, tuple([handle != 0 for handle in listed]))
        else:
            parts.append(attribute.SerializeToString())
    key = tuple(parts)
    plan = _plans.get(key)
    if plan is None:
        plan = _make_plan(message, name, inputs)
        if message.ByteSize() <= _MAX_KEY_BYTES:
            _remember(key, plan)
    return plan, handles


def _remember(key: tuple[Any, ...], plan: Plan) -> Plan:
    if len(_plans) >= _MAX_PLANS:
        _plans.clear()
    _plans[key] = plan
    return plan


def _make_plan(message: pb.Op, name: str, inputs: Sequence[int]) -> Plan:
    try:
        op = lookup(name)
    except EngineError as error:
        raise _failed(error, "op.name") from None
    # Bound to places among the handles, counted from 1, so that the plan fits other handles too.
    places = [at + 1 if handle else 0 for at, handle in enumerate(inputs)]
    values: dict[str, Any] = {}
    taken = len(inputs)
    for at, attribute in enumerate(message.attributes):
        path = f"op.attributes[{at}]"
        if attribute.name in values:
            raise ServiceError(
                "BAD_ATTRIBUTE",
                f"{name}: argument '{attribute.name}' is given twice",
                field=path,
                metadata={"op": name, "argument": attribute.name},
            )
        if attribute.HasField("tensor_list"):
            listed = attribute.tensor_list.tensors[:]
            values[attribute.name] = TensorHandles(
                tuple([taken + i + 1 if handle else 0 for i, handle in enumerate(listed)])
            )
            taken += len(listed)
        else:
            values[attribute.name] = _value_of(attribute, path)
    try:
        bound = op.bind(places, values)
    except EngineError as error:
        raise refused(error, message) from None
    results = op.schema.results
    tensors = {position for position, _ in bound.slots}
    lists = {position for position, _ in bound.lists}
    given = len(bound.template)
    while given - 1 not in tensors | lists and given and _is_default(op, bound.template, given - 1):
        given -= 1
    types = [
        Tensor if at in tensors else list if at in lists else type(value)
        for at, value in enumerate(bound.template[:given])
    ]
    slots = tuple([(position, place - 1) for position, place in bound.slots])
    counts_elements = op.counts_elements and not op.list_positions
    lead = len(slots)
    if (
        lead not in (1, 2)
        or slots != ((0, 0), (1, 1))[:lead]
        or bound.lists
        or len(results) != 1
        or results == ("[]",)
        or op.mutates
        or not counts_elements
    ):
        lead = 0
    return Plan(
        op,
        op.path(tuple(types)),
        bound.template,
        bound.template[:given],
        slots,
        tuple([(position, tuple([p - 1 for p in listed])) for position, listed in bound.lists]),
        VARIADIC if results == ("[]",) else len(results),
        op.mutates,
        counts_elements,
        lead,
        bound.template[lead:given],
    )


def _is_default(op: Operator, template: Sequence[Any], position: int) -> bool:
    value, default = template[position], op.defaults[position]
    return value is default or (type(value) is type(default) and value == default)


def _failed(error: EngineError, field: str) -> ServiceError:
    failure = failure_of(error)
    failure.field = field
    return failure


def _value_of(attribute: pb.Attribute, path: str) -> Any:
    kind = attribute.WhichOneof("value")
    match kind:
        case "bool_value" | "int_value" | "double_value" | "string_value":
            return getattr(attribute, kind)
        case "complex_value":
            return complex(attribute.complex_value.real, attribute.complex_value.imag)
        case "dtype_value":
            try:
                return dtype_from_wire(attribute.dtype_value)
            except ValueError as error:
                failure = failure_of(error)
                failure.field = f"{path}.dtype_value"
                raise failure from None
        case "int_list" | "double_list":
            return tuple(getattr(attribute, kind).values)
        case _:
            raise ServiceError(
                "BAD_ATTRIBUTE",
                f"attribute '{attribute.name}' has no value",
                field=path,
                metadata={"argument": attribute.name},
            )


def path_of_handle(message: pb.Op, index: int) -> str:
    """The path, within the step, of the handle at an index of a call's handles."""
    if index < len(message.inputs):
        return f"op.inputs[{index}]"
    index -= len(message.inputs)
    for at, attribute in enumerate(message.attributes):
        if attribute.HasField("tensor_list"):
            if index < len(attribute.tensor_list.tensors):
                return f"op.attributes[{at}].tensor_list.tensors[{index}]"
            index -= len(attribute.tensor_list.tensors)
    return "op.inputs"


def refused(error: EngineError, message: pb.Op) -> ServiceError:
    """The failure of a call that the engine refused, with the path of the argument at fault."""
    return _failed(error, path_of_argument(message, error.argument))


def path_of_argument(message: pb.Op, argument: str | None) -> str:
    """The path, within the step, of an argument of the schema."""
    if argument is None:
        return "op"
    for at, attribute in enumerate(message.attributes):
        if attribute.name == argument:
            return f"op.attributes[{at}]"
    try:
        arguments = lookup(message.name).schema.arguments
    except EngineError:
        return "op"
    tensors = [each.name for each in arguments if each.is_tensor]
    if argument in tensors:
        at = tensors.index(argument)
        return f"op.inputs[{at}]" if at < len(message.inputs) else "op.inputs"
    # A composite may be refused by an operator whose arguments have other names.
    return "op.attributes" if any(each.name == argument for each in arguments) else "op"


@dataclass(frozen=True, slots=True)
class Form:
    """What calls of an Ops step have in common.

    Attributes:
        plan: of the calls; None if there is none, because of `failure`.
        count: how many handles of tensors each call brings.
        message: without handles.
    """

    plan: Plan | None
    failure: ServiceError | None
    count: int
    message: pb.Op


class Calls:
    """The calls of an Ops step, on their way.

    Attributes:
        forms: of all calls.
        handles: of all calls.
        at: the next call.
        place: of its first handle.
    """

    __slots__ = ("at", "forms", "handles", "place")

    def __init__(self, message: pb.Ops) -> None:
        """Take the columns apart; what is wrong with a form is said when a call has it.

        Raises:
            ServiceError: MALFORMED_REQUEST.
        """
        forms = [_form(each) for each in message.forms]
        calls = message.calls[:]
        if max(calls, default=-1) >= len(forms):
            raise malformed(f"a call has form {max(calls)} of {len(forms)}", "ops.calls")
        self.forms = [forms[index] for index in calls]
        self.handles: list[int] = message.handles[:]
        self.at = 0
        self.place = 0
        expected = sum([form.count for form in self.forms]) + len(calls)
        if expected != len(self.handles):
            raise malformed(
                f"the calls take {expected} handles, and {len(self.handles)} are there",
                "ops.handles",
            )

    def unmade(self) -> Iterator[tuple[Sequence[int], bool]]:
        """What the calls from the next one on were to make, as `makes` says it."""
        place = self.place
        for form in self.forms[self.at :]:
            place += form.count + 1
            yield _op_makes(form.message.name, self.handles[place - 1])


def _form(message: pb.Op) -> Form:
    plan, failure = None, None
    try:
        plan, _ = call_of(message)
    except ServiceError as error:
        failure = error
    count = len(message.inputs)
    for attribute in message.attributes:
        if attribute.HasField("tensor_list"):
            count += len(attribute.tensor_list.tensors)
    return Form(plan, failure, count, message)


def makes(step: pb.Step) -> Iterable[tuple[Sequence[int], bool]]:
    """The handles that a step was to make; True if it would have made more, none knows how many."""
    if step.WhichOneof("kind") != "ops":
        return (_makes(step),)
    try:
        return Calls(step.ops).unmade()
    except ServiceError:
        return ()


def _makes(step: pb.Step) -> tuple[Sequence[int], bool]:
    match step.WhichOneof("kind"):
        case "op":
            return _op_makes(step.op.name, step.op.output)
        case "put":
            return (step.put.output,), False
        case "grad":
            first = step.grad.output
            return range(first, first + len(step.grad.inputs)), False
        case "checkpoint":
            first = step.checkpoint.output
            return range(first, first + len(step.checkpoint.program.outputs)), False
        case "call_program":
            first, count = step.call_program.output, step.call_program.output_count
            # How many it has if that is not said, only the program knows.
            return (range(first, first + count), False) if count else ((first,), bool(first))
        case "jvp":
            first = step.jvp.output
            return range(first, first + len(step.jvp.outputs)), False
        case "get_grad":
            return step.get_grad.outputs[:], False
        case "get_saved":
            return step.get_saved.outputs[:], False
        case _:
            return (), False


def _op_makes(name: str, first: int) -> tuple[Sequence[int], bool]:
    if not first:
        return (), False
    try:
        results = lookup(name).schema.results
    except EngineError:
        return (first,), False
    if results == ("[]",):
        return (first,), True
    return range(first, first + len(results)), False
