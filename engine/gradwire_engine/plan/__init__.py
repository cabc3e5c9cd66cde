"""Compiled programs: a plan for each signature that a program is called with.

`record.py` runs a program on values instead of tensors and so learns what it computes;
`lower.py` takes kernels apart into ufuncs; `values.py` holds the graph of steps, in which nothing
is computed twice; `emit.py` writes the steps as one function; `compiled.py` chooses the plan for a
call and gives its results their place in the dynamic graph.
"""

from gradwire_engine.plan.compiled import CompiledProgram
from gradwire_engine.plan.explain import Explanation

__all__ = ["CompiledProgram", "Explanation"]
