import warnings
from collections.abc import Iterator

import numpy as np
import pytest

from gradwire_engine import Context, threads, use
from gradwire_engine.plan import blocks, calls, emit, fuse


@pytest.fixture(autouse=True)
def context() -> Iterator[Context]:
    """A context of its own for each test; NumPy says nothing of infinities, as in a server."""
    with use(Context(seed=0)) as context, np.errstate(all="ignore"), warnings.catch_warnings():
        # torch's own: it warns of reading .grad of a non-leaf.
        warnings.simplefilter("ignore")
        yield context


@pytest.fixture
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever has several elements is run in blocks of a few, by two threads."""
    monkeypatch.setattr(fuse, "LARGE", 2)
    monkeypatch.setattr(fuse, "SMALLEST", 1)
    monkeypatch.setattr(fuse, "BLOCK_BYTES", 64)
    monkeypatch.setattr(blocks, "THREADED", 1)
    monkeypatch.setattr(emit, "SMALL", 0)
    monkeypatch.setattr(emit, "FILLED", 1)
    monkeypatch.setattr(calls, "BITS", 1)
    before = threads.count()
    threads.set_count(2)
    yield
    threads.set_count(before)
