"""Telling functions that are nothing but operators: they can run on the server as a program.

The look at a function's code is conservative. What it lets pass has no side effects, does not
branch, and depends on its arguments and on constants alone, so that capturing it once is as good as
running it each time. Variables around a function may change, so it may use none but gradwire.
"""

import dis
import inspect
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any, Final

from gradwire.operators import functions, methods

_HARMLESS: Final = frozenset(
    """
    BINARY_OP BINARY_SLICE BINARY_SUBSCR BUILD_LIST BUILD_SLICE BUILD_TUPLE CACHE CALL CALL_KW
    COPY EXTENDED_ARG KW_NAMES LIST_EXTEND LOAD_ATTR LOAD_CONST LOAD_FAST LOAD_FAST_BORROW
    LOAD_FAST_BORROW_LOAD_FAST_BORROW LOAD_FAST_LOAD_FAST LOAD_GLOBAL LOAD_METHOD LOAD_SMALL_INT NOP
    PRECALL PUSH_NULL RESUME RETURN_CONST RETURN_VALUE STORE_FAST SWAP UNARY_INVERT UNARY_NEGATIVE
    """.split()
)
"""Instructions that compute, call or return, of any version of Python; others are not let pass."""

_MODULES: Final = frozenset({"nn", "functional", "linalg", "special"})

_CONVERSIONS: Final = frozenset("to half float double short int long bool cfloat cdouble".split())

_DTYPES: Final = frozenset(
    """
    uint8 int8 int16 int32 int64 float16 float32 float64 complex64 complex128
    """.split()
)

_NAMES: Final[frozenset[str]] = (
    _MODULES
    | _CONVERSIONS
    | _DTYPES
    | {
        name
        for name in vars(methods.Methods)
        if not name.startswith("_") and not name.endswith("_")
    }
)
"""Attributes that may be looked up: operators, by which a tensor is not changed."""


def is_pure(function: Callable[..., Any]) -> bool:
    """Whether a function of tensors is sure to consist of operators and constants."""
    if not isinstance(function, FunctionType) or function.__closure__ or function.__kwdefaults__:
        return False
    code = function.__code__
    if code.co_flags & (
        inspect.CO_GENERATOR
        | inspect.CO_COROUTINE
        | inspect.CO_ASYNC_GENERATOR
        | inspect.CO_VARARGS
        | inspect.CO_VARKEYWORDS
    ):
        return False
    return all(_is_harmless(each, function) for each in dis.get_instructions(code))


def _is_harmless(instruction: dis.Instruction, function: FunctionType) -> bool:
    match instruction.opname:
        case "LOAD_GLOBAL":
            found = function.__globals__.get(instruction.argval)
            if isinstance(found, ModuleType):
                return found.__name__.partition(".")[0] == "gradwire"
            return isinstance(found, FunctionType) and found.__module__ == functions.__name__
        case "LOAD_ATTR" | "LOAD_METHOD":
            return instruction.argval in _NAMES
        case "BINARY_OP":
            # `g *= 2` changes the gradient that others hold, too.
            return not instruction.argrepr.endswith("=")
        case name:
            return name in _HARMLESS
