import warnings
from collections.abc import Iterator

import numpy as np
import pytest

from gradwire_engine import Context, use


@pytest.fixture(autouse=True)
def context() -> Iterator[Context]:
    """A context of its own for each test; NumPy says nothing of infinities, as in a server."""
    with use(Context(seed=0)) as context, np.errstate(all="ignore"), warnings.catch_warnings():
        # torch's own: it warns of reading .grad of a non-leaf.
        warnings.simplefilter("ignore")
        yield context
