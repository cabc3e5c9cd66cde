"""Names of PyTorch's that stand for operators of another name: `concat` for `cat`."""

from __future__ import annotations

from gradwire_engine.in_place import TORCH_FUNCTIONS
from gradwire_engine.registry import Alias, aliases, operators

_NAMES = {
    "abs": "absolute",
    "acos": "arccos",
    "acosh": "arccosh",
    "asin": "arcsin",
    "asinh": "arcsinh",
    "atan": "arctan",
    "atan2": "arctan2",
    "atanh": "arctanh",
    "cat": "concat concatenate",
    "clamp": "clip",
    "digamma": "special.psi",
    "div": "divide",
    "ge": "greater_equal",
    "gt": "greater",
    "igamma": "special.gammainc",
    "igammac": "special.gammaincc",
    "le": "less_equal",
    "lgamma": "special.gammaln",
    "lt": "less",
    "mul": "multiply",
    "mvlgamma": "special.multigammaln",
    "ne": "not_equal",
    "neg": "negative",
    "new_zeros": "new_empty",
    "outer": "ger",
    "sigmoid": "special.expit",
    "sub": "subtract",
    "trunc": "fix",
    "vstack": "row_stack",
}


def _add(name: str, op: str, places: tuple[str, ...]) -> None:
    aliases[name] = Alias(name, op, places)


for _op, _names in _NAMES.items():
    for _name in _names.split():
        _home = _name.rpartition(".")[0]
        _add(_name, _op, (_home,) if _home else operators[_op].places)
        if not _home and f"{_op}_" in operators:
            _here = ("torch",) if f"{_name}_" in TORCH_FUNCTIONS else ()
            _add(f"{_name}_", f"{_op}_", ("Tensor", *_here))
