"""Memory goes back to the system: a batch needs much for a moment, and what stays lies between (glibc alone)."""

from __future__ import annotations

import contextlib
import ctypes

LARGE = 1 << 20  # bytes from which a block is the system's own
_M_MMAP_THRESHOLD = -3  # of malloc.h


def own_large_blocks() -> None:
    """From now on a large block goes back as soon as it is free."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE)


def give_back() -> None:
    """Free pages between what stays: some milliseconds for some tens of MB."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
