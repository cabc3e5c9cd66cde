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
"""Environment variable that a client looks at when it connects."""

LARGEST_KEPT: Final = 32 << 20
"""Larger blocks go back to the kernel even so, but in a process that does nothing else."""

_DEFAULT: Final = 256 << 20

_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3
_M_MMAP_MAX: Final = -4
_M_ARENA_MAX: Final = -8
_MAX_INT: Final = (1 << 31) - 1


def retain_memory(size: int = _DEFAULT, *, exclusive: bool = False) -> bool:
    """Let this process keep about `size` bytes that it has freed, and use them again.

    Concerns all that the process allocates with `malloc`, not only what belongs to this package.

    Args:
        size: Bytes to keep, up to 2 GiB.
        exclusive: For a process that does nothing else: also keep blocks of more than 32 MiB, and
            let all threads share one pool, so that what one has freed serves the others. Call it
            before there are threads.

    Returns:
        Whether the allocator took it; False where it is not glibc's.

    Raises:
        ValueError: a size that is not positive.
    """
    if size <= 0:
        raise ValueError(f"the memory to keep must be a positive number of bytes, not {size}")
    if platform.libc_ver()[0] != "glibc":
        return False
    # When more than the threshold lies free at the end of the heap, all but the pad is returned.
    kept = min(size, _MAX_INT)
    options = {_M_TRIM_THRESHOLD: kept, _M_TOP_PAD: kept // 2}
    if exclusive:
        options |= {_M_MMAP_MAX: 0, _M_ARENA_MAX: 1}
    else:
        options |= {_M_MMAP_THRESHOLD: min(kept, LARGEST_KEPT)}
    mallopt = ctypes.CDLL(None).mallopt
    taken = [mallopt(option, value) for option, value in options.items()]
    return all(taken)


def retain_as_told() -> None:
    """Do what a client does by itself, or what the environment variable says.

    That is `retain_memory()`, unless variables of the allocator's own are set: then somebody else
    has decided. A variable that is 0 leaves the allocator alone.

    Raises:
        ValueError: the variable is set to something else than a number.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if text:
        if not text.isdecimal():
            raise ValueError(f"{VARIABLE} must be a number of bytes, not {text!r}")
        size = int(text)
    elif any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        size = 0
    else:
        size = _DEFAULT
    if size:
        retain_memory(size)
