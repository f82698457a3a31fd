"""Child processes that end with the process that started them, even when it is killed with -9."""

from __future__ import annotations

import os
import sys

# PR_SET_PDEATHSIG is 1 in linux/prctl.h. The program that runs it is then replaced by the command, which keeps
# the wish. (Not `preexec_fn`: that is unsafe, and a warning, once the parent has threads.)
_LEASH = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def leashed(command: list[str]) -> list[str]:
    """The command (its program an absolute path), changed to get a SIGTERM when its parent dies.

    Linux alone can do so; elsewhere it comes back as it was. The kernel means the *thread* that starts
    it: start children from a thread that lives on.
    """
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", "-c", _LEASH, str(os.getpid()), *command]
