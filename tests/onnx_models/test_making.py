"""A version whose maker was killed is retired; one whose maker lives is not touched."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from onnx_models.book import State
from onnx_models.library import Library
from onnx_models.making import KILLED, bury, making
from onnx_models.watch import Watch
from tests.onnx_models.versions import NAME, SERVICE, D

NEW = "20990101000000"
MAKER = """
import sys, time
from pathlib import Path
from onnx_models.library import Library
from onnx_models.making import making
library = Library(*map(Path, sys.argv[3:]))
with making(library, *sys.argv[1:3]):
    library.register(*sys.argv[1:3], "TRAINING", "ann", "again")
    print("at it", flush=True)
    time.sleep(60)
"""


@contextmanager
def maker(library: Library) -> Iterator[subprocess.Popen[str]]:
    """A process that makes a version, killed in the end."""
    words = [sys.executable, "-c", MAKER, NAME, NEW, *map(str, library.places)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "at it\n"
        try:
            yield process
        finally:
            process.kill()


def test_who_lives_goes_on(library: Library) -> None:
    """However often one looks."""
    with maker(library):
        assert bury(library, NAME)
        assert library.states(NAME)[NEW] == "TRAINING"


def test_who_was_killed_has_left_a_retired_version(library: Library) -> None:
    """The registry says why, and keeps it among those that are never deployed."""
    with maker(library):
        pass
    assert not bury(library, NAME)
    book = library.book(NAME)
    assert (book.states[NEW], book.failed[NEW]) == ("RETIRED", KILLED)


def test_a_running_process_sees_it_within_a_second(library: Library) -> None:
    """Though a kill changes no file."""
    watch = Watch(library, [SERVICE])
    watch.start()
    try:
        with maker(library):
            time.sleep(0.6)  # it looks twice meanwhile
            assert library.states(NAME)[NEW] == "TRAINING"
        deadline = time.monotonic() + 1.0
        while library.states(NAME)[NEW] != "RETIRED":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert watch.models[NAME].version == D
    finally:
        watch.stop()


@pytest.mark.parametrize("state", ["SHADOW", "DEPLOYED"])
def test_what_came_to_its_end_stays(library: Library, state: State) -> None:
    """Its lock is gone as well."""
    with making(library, NAME, D):
        library.register(NAME, D, "TRAINING", "ann", "again")
        library.register(NAME, D, "SHADOW", "ann", "passed")
        if state == "DEPLOYED":
            library.promote(NAME, D, "ann", "good")
    bury(library, NAME)
    assert library.states(NAME)[D] == state
