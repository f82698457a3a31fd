"""That a version was tried in a limited process before it is loaded into one that must not die.

What was proved once is remembered on disk by its seal, so that each process of a home tries it no more.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec
import onnxruntime

from onnx_models.files import locked, replace
from onnx_models.registry import HERE, Files, ModelError

CHECKS = 1  # grows with what the probe looks for: then all is tried again
SECONDS = 20  # of a processor, and by the clock, that a try may take
START_S = 30  # for the libraries to load, on a busy machine
_ENVIRONMENT = {
    name: os.environ[name] for name in ("PATH", "LANG", "HOME", "PYTHONPATH", "VIRTUAL_ENV") if name in os.environ
}


class Verdict(msgspec.Struct, frozen=True):
    """`seal`: sha256 of the metadata, which holds those of the other files. `wrong`: empty: it may be loaded."""

    place: str
    seal: str
    wrong: str


class Hostile(ModelError):
    """A model that must not be loaded: not what we export, or the process that tried it died."""


class Untried(ModelError):
    """A process tries the model at this moment: ask again."""


class Proofs:
    """`place`: where what was proved is remembered. A refusal is remembered until `forget`."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._refused: dict[str, str] = {}
        self._trying = set[str]()

    def prove(self, files: Files, *, wait: bool = True) -> None:
        """Returns if these very files may be loaded; those that ship are as trustworthy as we.

        Raises Hostile; Untried where it would have to `wait`, which takes seconds.
        """
        mark = self._place / _key(files.seal)
        if files.place.is_relative_to(HERE) or mark.exists():
            return
        if wait:
            self._prove(files, mark)
        elif files.seal in self._refused:
            raise Hostile(self._refused[files.seal])
        else:
            self._begin(files, mark)
            raise Untried(f"{files.place}: it is being tried")

    def _begin(self, files: Files, mark: Path) -> None:
        def beside() -> None:
            try:
                with contextlib.suppress(ModelError):  # whoever asks again is told
                    self._prove(files, mark)
            finally:
                self._trying.discard(files.seal)

        if files.seal not in self._trying:
            self._trying.add(files.seal)
            threading.Thread(target=beside, name="proof", daemon=True).start()

    def _prove(self, files: Files, mark: Path) -> None:
        try:
            self._place.mkdir(parents=True, exist_ok=True)
        except OSError:  # a home that we may not write to: each process tries for itself
            self._try(files)
            return
        with locked(self._place / "lock", START_S + SECONDS):  # several processes meet a new version at once
            if not mark.exists():
                self._try(files)
                replace(mark, f"{files.metadata.name} {files.metadata.version}\n".encode())

    def forget(self) -> None:
        """What was refused may be tried again."""
        self._refused.clear()

    def _try(self, files: Files) -> None:
        if files.seal not in self._refused:
            (verdict,) = probed([files.place])
            if not verdict.wrong and verdict.seal == files.seal:
                return
            self._refused[files.seal] = verdict.wrong or f"{files.place}: changed while it was tried"
        raise Hostile(self._refused[files.seal])


def probed(places: Sequence[Path]) -> list[Verdict]:
    """The probe's verdict of each directory."""
    words = [sys.executable, "-m", "onnx_models.probe", *map(str, places)]
    try:
        ended = subprocess.run(
            words,
            cwd=HERE.parent,
            env=_ENVIRONMENT | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=START_S + SECONDS * len(places),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return [Verdict(str(place), "", f"{place}: not tried within {START_S + SECONDS} s") for place in places]
    told = [msgspec.json.decode(line, type=Verdict) for line in ended.stdout.splitlines()]
    why = (ended.stderr.decode(errors="replace").strip().splitlines() or [f"ended with {ended.returncode}"])[-1]
    return told + [Verdict(str(p), "", f"{p}: it could not be tried: {why}") for p in places[len(told) :]]


def _key(seal: str) -> str:
    return hashlib.sha256(f"{seal} {CHECKS} {onnxruntime.__version__}".encode()).hexdigest()
