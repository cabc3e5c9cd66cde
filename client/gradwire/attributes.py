"""Plain arguments of operators as messages."""

from gradwire import dtypes
from gradwire.dtypes import dtype
from gradwire.recorder import AttributeValue, Handles
from gradwire.v1 import autograd_pb2 as pb


def set_attribute(message: pb.Attribute, value: AttributeValue) -> None:
    """Set the value of an attribute's message."""
    if isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, int):
        message.int_value = value
    elif isinstance(value, float):
        message.double_value = value
    elif isinstance(value, Handles):
        message.tensor_list.SetInParent()
        message.tensor_list.tensors.extend(value)
    elif isinstance(value, tuple):
        if value and isinstance(value[0], float):
            message.double_list.values.extend(value)
        else:
            message.int_list.SetInParent()
            message.int_list.values.extend(value)  # type: ignore[arg-type]
    elif isinstance(value, dtype):
        message.dtype_value = value.wire  # type: ignore[assignment]
    elif isinstance(value, str):
        message.string_value = value
    else:
        number = complex(value)
        message.complex_value.real = number.real
        message.complex_value.imag = number.imag


def get_attribute(message: pb.Attribute) -> AttributeValue | None:
    """The value of an attribute's message; None if it has none."""
    match message.WhichOneof("value"):
        case "bool_value":
            return message.bool_value
        case "int_value":
            return message.int_value
        case "double_value":
            return message.double_value
        case "complex_value":
            return complex(message.complex_value.real, message.complex_value.imag)
        case "string_value":
            return message.string_value
        case "dtype_value":
            return dtypes.from_wire(message.dtype_value)
        case "int_list":
            return tuple(message.int_list.values)
        case "double_list":
            return tuple(message.double_list.values)
        case "tensor_list":
            return Handles(message.tensor_list.tensors)
        case _:
            return None
