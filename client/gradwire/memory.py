"""Reuse of the memory of large arrays: what the C library's allocator is told, where it is glibc.

By default glibc gets each large block from the kernel and returns it when it is freed, so that
every large array, and every message that carries one, costs a page fault for each 4 KiB. Told
otherwise, it serves them from memory that earlier ones have left.
"""

import ctypes
import os
import platform
from typing import Final

VARIABLE: Final = "GRADWIRE_RETAINED_BYTES"
"""Environment variable that a client looks at when it first connects."""

_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_MAX: Final = -4
_M_ARENA_MAX: Final = -8
_MAX_INT: Final = (1 << 31) - 1


def retain_memory(size: int = 256 << 20, *, one_arena: bool = False) -> bool:
    """Let this process keep up to about `size` bytes that it has freed, and use them again.

    Concerns all that the process allocates with `malloc`, not only what belongs to this package.
    What is kept is not returned to the system while the process lives; peak use does not grow.

    Args:
        size: Bytes to keep, up to 2 GiB.
        one_arena: Also let all threads share one pool, so that what one has freed serves the
            others. Call it before there are threads.

    Returns:
        Whether the allocator took it; False where it is not glibc's.

    Raises:
        ValueError: a size that is not positive.
    """
    if size <= 0:
        raise ValueError(f"the memory to keep must be a positive number of bytes, not {size}")
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # When more than the threshold lies free at the end of the heap, all but the pad is returned.
    threshold = min(size, _MAX_INT)
    taken = [
        mallopt(_M_TRIM_THRESHOLD, threshold),
        mallopt(_M_TOP_PAD, threshold // 2),
        # However large: else blocks from 32 MiB upwards would still come from the kernel.
        mallopt(_M_MMAP_MAX, 0),
    ]
    if one_arena:
        taken.append(mallopt(_M_ARENA_MAX, 1))
    return all(taken)


def retain_as_told() -> None:
    """Do what the environment variable says, if it is set to a positive number.

    Raises:
        ValueError: it is set to something else than a number.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return
    if not text.isdecimal():
        raise ValueError(f"{VARIABLE} must be a number of bytes, not {text!r}")
    if int(text):
        retain_memory(int(text))
