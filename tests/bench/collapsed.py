"""Stacks as py-spy writes them (`-f raw`), made fit to be read: one name a call, without lines, starts and addresses.

A line: `outer (file:line);inner (library.so) 17`. A name here: `flows/engine.py Engine.count`, or `[numpy] take` of
compiled code, of which a run in one library is one call. Stacks that only wait are no CPU and are left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from tests.bench.flame_picture import NATIVE

_FRAME = re.compile(r"(.*) \(([^()]*?)(?::\d+)?\)$")
_WAITS = ("poll", "select", "epoll_wait", "clock_nanosleep", "lock_PyThread_acquire_lock", "PyThread_acquire_lock")
_WAITS_PYTHON = ("threading.py Condition.wait", "threading.py wait")
_UNKNOWN, _RUST = re.compile(r"^0x[0-9a-f]+$"), re.compile(r"::h[0-9a-f]{16}$")
_BEGINS = ("<frozen runpy>", "threading.py Thread.", "threading.py _bootstrap", "threading.py run")
_PLUMBING = ("[libpython", "[libc", "[ld-linux")  # between calls they say nothing
LONGEST = 90  # letters of a name


def collapsed(lines: Iterable[str]) -> dict[str, int]:
    """How often each stack was seen, `outermost;...;innermost`."""
    found = Counter[str]()
    for line in lines:
        stack, _, seen = line.rstrip().rpartition(" ")
        frames = [name for name in map(_name, stack.split(";")) if name]
        if frames and not _waits(frames[-1]) and (told := ";".join(_told(frames))):
            found[told] += int(seen)
    return dict(+found)


def _name(frame: str) -> str:
    """Empty where it is not known."""
    matched = _FRAME.match(frame)
    function, file = matched.groups() if matched else (frame, "")
    if _UNKNOWN.match(function):
        return ""
    if not matched or file.endswith(".py") or file.startswith("<"):
        return f"{file} {function}".strip()
    return f"{NATIVE}{_library(file)}] {_tidy(function)}"


def _library(file: str) -> str:
    """`numpy` of numpy/_core/_multiarray.cpython-311.so, `bytewax` of _bytewax.so, `zstd` of zstd.c."""
    first, _, rest = file.lstrip("/").partition("/")
    name = first if rest else first.partition(".")[0]
    return name.strip("_") or file


def _tidy(function: str) -> str:
    plain = _RUST.sub("", function).replace("$LT$", "<").replace("$GT$", ">").replace("$u20$", " ").replace("..", "::")
    plain = re.sub(r"<.*>", "<…>", plain)
    return plain if len(plain) <= LONGEST else plain[: LONGEST - 1] + "…"


def _waits(innermost: str) -> bool:
    function = innermost.rpartition("] ")[2]
    if innermost.startswith(NATIVE):
        return function.startswith((*_WAITS, "pthread_cond_"))
    return innermost in _WAITS_PYTHON


def _told(frames: list[str]) -> Iterator[str]:
    """Without how threads begin; compiled code by its innermost call alone, and between calls by its library."""
    last = ""
    for frame, inner in zip(frames, [*frames[1:], ""], strict=True):
        library = frame.partition("]")[0]
        if frame.startswith(_BEGINS) or (inner and frame.startswith(NATIVE) and inner.startswith(library)):
            continue
        name = frame
        if inner and frame.startswith(NATIVE):
            if frame.startswith(_PLUMBING):
                continue
            name = f"{library}]"
        if name != last:
            yield name
        last = name
