"""Tries models in processes that may die of it: `python -m onnx_models.probe DIR...`, started by proof.py.

Each directory has a process of its own, limited in memory, time and files, forked from one that has loaded what they
all need. A line of JSON a directory: the seal of what was tried, and what is wrong with it.
"""

from __future__ import annotations

import importlib
import itertools
import os
import resource
import signal
import stat
import sys
import time
from pathlib import Path

import msgspec
import numpy as np

from onnx_models import card, graph_check, registry
from onnx_models.graph_check import Unfit
from onnx_models.proof import SECONDS, Verdict
from onnx_models.session import SLICE, Model

MEMORY = 2 << 30  # bytes of address space
FILES, OPEN = 64, 64  # in a directory; open at once
WRONG: tuple[type[Exception], ...] = (Unfit, registry.ModelError, *registry.UNREADABLE, MemoryError)
SLOWEST_S = 0.1  # of a processor for a slice of rows


def main(places: list[str]) -> int:
    boosters = [Path(place) / card.BOOSTER for place in places]
    if any(file.is_file() and file.stat().st_size for file in boosters):
        importlib.import_module("onnx_models.booster_check")  # once, for all who are forked
    for place in places:
        sys.stdout.write(msgspec.json.encode(_apart(place)).decode() + "\n")
        sys.stdout.flush()
    return 0


def _apart(place: str) -> Verdict:
    """The verdict of a process of its own, or how it died."""
    out, into = os.pipe()
    child = os.fork()
    if not child:
        os.close(out)
        limit()
        os.write(into, msgspec.json.encode(tried(Path(place))))
        os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb") as answers:
        answer = answers.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        return msgspec.json.decode(answer, type=Verdict)
    except msgspec.DecodeError:
        died = f"died of {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"
        return Verdict(place, "", f"{place}: the process that tried it {died}")


def limit() -> None:
    """From here on too much memory, time or files is an error or the end, wherever in the libraries it happens."""
    for what, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, OPEN),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS)


def tried(place: Path) -> Verdict:
    """What is wrong with the version in this directory."""
    seal = ""
    try:
        own_files(place)
        files = registry.read(place)
        seal = files.seal
        graph_check.check(files.graph, len(files.metadata.inputs))
        model = registry.verified(files, files.metadata.inputs)
        _quick(model)
        _booster((place / card.BOOSTER).read_bytes(), model)
    except WRONG as error:
        return Verdict(str(place), seal, f"{place}: {error or type(error).__name__}"[:1000])
    return Verdict(str(place), seal, "")


def own_files(place: Path) -> None:
    """Only files that nothing else names: a link may lead to, or be changed from, anywhere. Raises Unfit."""
    found = list(itertools.islice(itertools.chain([place], place.rglob("*")), FILES + 1))
    if len(found) > FILES:
        raise Unfit(f"expected at most {FILES} files")
    for path in found:
        told = path.lstat()
        if stat.S_ISDIR(told.st_mode):
            continue
        if not stat.S_ISREG(told.st_mode) or told.st_nlink != 1:
            raise Unfit(f"expected files of its own, {path.name} is a link or no file")


def _quick(model: Model) -> None:
    """A slice of rows, the most that is scored at once, takes little; all answers are probabilities."""
    golden = np.array(model.metadata.golden.inputs, np.float32)
    rows = np.resize(golden, (SLICE, golden.shape[1]))
    began = time.process_time()
    answers = np.array(model.scores(rows))
    spent = time.process_time() - began
    if spent > SLOWEST_S:
        raise Unfit(f"expected {SLICE} rows within {SLOWEST_S} s, took {spent:.2g}")
    if not ((answers >= 0) & (answers <= 1)).all():
        raise Unfit("expected probabilities, 0-1")


def _booster(content: bytes, model: Model) -> None:
    """An empty file: there is none, and signals alone explain."""
    if content:
        from onnx_models import booster_check

        booster_check.check(content, model)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
