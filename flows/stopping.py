"""A word to stop that a signal handler may say.

`threading.Event` takes a lock that is not reentrant: a handler that sets it while the same thread is about to wait
for it waits for itself, for ever. Here the flag is one assignment, and who waits is woken through a pipe.
"""

from __future__ import annotations

import os
import select


class Stop:
    """Like `threading.Event`, as far as it goes."""

    def __init__(self) -> None:
        self._said = False
        self._ear, self._mouth = os.pipe()
        os.set_blocking(self._ear, False)
        os.set_blocking(self._mouth, False)

    def set(self) -> None:
        if not self._said:
            self._said = True
            os.write(self._mouth, b".")

    def clear(self) -> None:
        if self._said:
            select.select([self._ear], [], [])
            os.read(self._ear, 1)
            self._said = False

    def is_set(self) -> bool:
        return self._said

    def wait(self, seconds: float) -> bool:
        """Whether it was said, at once or within so many seconds."""
        return self._said or bool(select.select([self._ear], [], [], seconds)[0])
