"""What a computation runs under: grad mode, limits, random generator, node numbering.

Each session has a `Context`; the current one is local to the thread.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwire_engine.errors import EngineError

if TYPE_CHECKING:
    from gradwire_engine.profile import Profile
    from gradwire_engine.saved_hooks import SavedHooks


@dataclass(frozen=True, slots=True)
class Limits:
    """What one operator may make. Checked from shapes, before anything is allocated."""

    max_elements: int = 1 << 40
    max_rank: int = 64
    max_results: int = 1 << 24


class Context:
    """State that operators read while they run. Not safe for use by two threads at once.

    Attributes:
        grad_enabled: whether operators are recorded in the graph.
        inference: new tensors go without a version counter; `grad_enabled` is false then.
        default_dtype: dtype of Python floats and of float results of integers.
        check: called between nodes of a backward; raises to stop it.
        detect_anomaly: a backward checks what each rule gives for NaN.
        profile: what is told what runs and how long; None if nobody wants to know.
        running: the backward pass that runs, for hooks; None outside of one.
        saved_hooks: what tensors that are kept for backward go through; None for nothing.
        generator: source of `rand`, `randn` and `dropout`.
        last_id: the number that was given to a node last; numbers rise in order of recording.
    """

    __slots__ = (
        "_generator",
        "_seed",
        "check",
        "default_dtype",
        "detect_anomaly",
        "grad_enabled",
        "inference",
        "last_id",
        "limits",
        "profile",
        "running",
        "saved_hooks",
    )

    def __init__(
        self,
        *,
        seed: int | None = None,
        limits: Limits | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        self.grad_enabled = True
        self.inference = False
        self.default_dtype: np.dtype = np.dtype(np.float32)
        self.limits = limits or Limits()
        self.check = check
        self.detect_anomaly = False
        self.profile: Profile | None = None
        self.running: Any = None
        self.saved_hooks: SavedHooks | None = None
        # Made when it is first drawn from: that costs more than all the rest of a context.
        self._seed = seed
        self._generator: np.random.Generator | None = None
        self.last_id = 0

    def next_id(self) -> int:
        """A number for a node."""
        self.last_id += 1
        return self.last_id

    @property
    def generator(self) -> np.random.Generator:
        """The source of random numbers."""
        if self._generator is None:
            self._generator = np.random.default_rng(self._seed)
        return self._generator

    @generator.setter
    def generator(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def admit(self, shape: Sequence[int], what: str) -> None:
        """Refuse a shape beyond the limits.

        Raises:
            EngineError: LIMIT_EXCEEDED.
        """
        limits = self.limits
        if len(shape) > limits.max_rank:
            raise EngineError(
                "LIMIT_EXCEEDED",
                f"{what} would have {len(shape)} dimensions; "
                f"at most {limits.max_rank} are admitted",
                limit="max_rank",
                value=len(shape),
                maximum=limits.max_rank,
            )
        elements = math.prod(shape)
        if not elements:
            # What is made on the way to nothing may be as large as the other sizes say.
            elements = math.prod(filter(None, shape))
        if elements > limits.max_elements:
            counted = " without its size of 0" if 0 in shape else ""
            raise EngineError(
                "LIMIT_EXCEEDED",
                f"{what} would have {elements} elements{counted} (shape {tuple(shape)}); "
                f"at most {limits.max_elements} are admitted",
                limit="max_tensor_elements",
                value=elements,
                maximum=limits.max_elements,
            )

    def admit_results(self, count: int, what: str) -> None:
        """Refuse a call with so many results.

        Raises:
            EngineError: LIMIT_EXCEEDED.
        """
        if count > self.limits.max_results:
            raise EngineError(
                "LIMIT_EXCEEDED",
                f"{what} would make {count} tensors; at most {self.limits.max_results} are "
                "admitted",
                limit="max_session_tensors",
                value=count,
                maximum=self.limits.max_results,
            )


class _Current(threading.local):
    def __init__(self) -> None:
        self.context = Context()


current = _Current()


@contextmanager
def use(context: Context) -> Iterator[Context]:
    """Make `context` the current one of this thread."""
    before = current.context
    current.context = context
    try:
        yield context
    finally:
        current.context = before


@contextmanager
def grad_mode(enabled: bool) -> Iterator[None]:
    """Set whether the current context records operators."""
    context = current.context
    before = context.grad_enabled
    context.grad_enabled = enabled
    try:
        yield
    finally:
        context.grad_enabled = before


@contextmanager
def inference_mode() -> Iterator[None]:
    """Let the current context record nothing, and make tensors without a version counter."""
    context = current.context
    before = context.inference
    context.inference = True
    try:
        with grad_mode(False):
            yield
    finally:
        context.inference = before
