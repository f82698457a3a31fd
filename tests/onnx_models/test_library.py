"""One file says which version is deployed: it changes whole, under a lock, and only to what can be trusted."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

from onnx_models import book as books
from onnx_models import card
from onnx_models.files import locked
from onnx_models.library import Library
from onnx_models.registry import Conflict, Damaged, NoModel, NoVersion
from tests.onnx_models.versions import ALL, NAME, SERVICE, A, B, C, D


def spoil(library: Library, version: str) -> None:
    (library.place(NAME, version) / card.ONNX).write_bytes(b"spoilt")


def test_versions_of_all_places(library: Library) -> None:
    """What was trained here and what ships are one list; a version lies where it was written."""
    assert library.names() == [NAME]
    assert library.versions(NAME) == list(ALL)
    assert library.place(NAME, A).parent.parent == library.places[1]
    assert library.place(NAME, B).parent.parent == library.places[0]


def test_without_a_registry_the_newest_is_deployed(library: Library) -> None:
    """No file beside the versions: the newest that can be trusted, as ever."""
    assert library.deployed(NAME).version == D
    spoil(library, D)
    assert library.deployed(NAME).version == C
    assert library.states(NAME) == {A: "RETIRED", B: "RETIRED", C: "RETIRED", D: "DEPLOYED"}


@pytest.mark.parametrize("state", ["TRAINING", "VALIDATING", "SHADOW", "RETIRED"])
def test_a_version_that_is_registered_is_not_deployed_by_being_new(library: Library, state: books.State) -> None:
    """What the registry knows as something else than deployed waits for its promotion."""
    library.register(NAME, D, state, "ann", "trained")
    assert library.deployed(NAME).version == C
    assert library.states(NAME)[D] == state


def test_promotion(library: Library) -> None:
    """The version is deployed, the one before is retired, and the history says who, what and why."""
    book = library.promote(NAME, B, "ann", "better on May")
    assert (library.deployed(NAME).version, book.states) == (B, {D: "RETIRED", B: "DEPLOYED"})
    assert [(c.who, c.what, c.version, c.state, c.why) for c in book.history] == [
        ("ann", "promote", B, "DEPLOYED", "better on May")
    ]
    assert library.book(NAME) == book


def test_promoting_what_is_deployed_changes_nothing(library: Library) -> None:
    """A promotion that is sent twice is one."""
    first = library.promote(NAME, B, "ann", "better")
    assert library.promote(NAME, B, "ann", "better") == first


def test_rollback_goes_back_one_by_one(library: Library) -> None:
    """Each rollback leads to what was deployed before, never forth again; at the end there is nothing left."""
    for version in (B, C):
        library.promote(NAME, version, "ann", "try")
    found = [library.rollback(NAME, "ann", "worse").deployed for _ in range(3)]
    assert found == [B, D, A]
    with pytest.raises(Conflict, match="expected an earlier version"):
        library.rollback(NAME, "ann", "worse")


def test_rollback_passes_over_what_cannot_be_trusted(library: Library) -> None:
    """A rollback never leads to a damaged version."""
    library.promote(NAME, C, "ann", "try")
    spoil(library, D)
    assert library.rollback(NAME, "ann", "worse").deployed == B


def test_a_damaged_version_is_not_promoted(library: Library) -> None:
    """A promotion verifies first; what stood goes on standing."""
    spoil(library, B)
    with pytest.raises(Damaged):
        library.promote(NAME, B, "ann", "hope")
    assert library.book(NAME) == books.Book()


def test_what_a_gate_stopped_is_never_deployed(library: Library) -> None:
    """TRAINING -> VALIDATING -> RETIRED: neither promoted nor taken into the shadow, and it says why."""
    for state in ("TRAINING", "VALIDATING", "RETIRED"):
        library.register(NAME, D, state, "job", "AUC 0.51 < 0.60")
    with pytest.raises(Conflict, match=r"AUC 0.51 < 0.60"):
        library.promote(NAME, D, "ann", "hope")
    with pytest.raises(Conflict, match=r"AUC 0.51 < 0.60"):
        library.register(NAME, D, "SHADOW", "ann", "hope")


def test_the_deployed_version_cannot_be_retired(library: Library) -> None:
    """Something has to score."""
    library.promote(NAME, B, "ann", "try")
    with pytest.raises(Conflict, match=f"{B} is DEPLOYED"):
        library.retire(NAME, B, "ann", "away")


def test_one_shadow_at_a_time(library: Library) -> None:
    """A new shadow retires the one before; its promotion ends it."""
    library.register(NAME, C, "SHADOW", "job", "passed")
    library.register(NAME, D, "SHADOW", "job", "passed")
    shadow = library.shadow(NAME)
    assert shadow is not None
    assert (shadow.version, library.states(NAME)[C]) == (D, "RETIRED")
    library.promote(NAME, D, "ann", "better")
    assert library.shadow(NAME) is None


def test_a_change_on_condition(library: Library) -> None:
    """`instead` names what is to be replaced: if something else is deployed by then, nothing changes."""
    library.promote(NAME, B, "ann", "try", instead=D)
    with pytest.raises(Conflict, match=f"expected {D} to be deployed, but it is {B}"):
        library.rollback(NAME, "bob", "worse", instead=D)


def test_a_deployed_version_that_is_damaged_falls_back(library: Library) -> None:
    """The newest before it that may serve, and what was passed over is said."""
    library.promote(NAME, C, "ann", "try")
    spoil(library, C)
    model = library.deployed(NAME)
    assert model.version == B
    assert "expected sha256" in model.refused[0]


def test_unknown_names_and_versions(library: Library) -> None:
    """Neither a model nor a version that is not there, nor a path instead of one, gets anywhere."""
    for name in ("absent", "../home", ""):
        with pytest.raises(NoModel):
            library.promote(name, A, "ann", "hope")
    for version in ("20990101000000", "..", "../../shipped/x"):
        with pytest.raises(NoVersion):
            library.promote(NAME, version, "ann", "hope")


def test_a_damaged_registry_is_named(library: Library) -> None:
    """A file that is no registry is not taken for an empty one: that might deploy what was retired."""
    library.promote(NAME, B, "ann", "try")
    (library.places[0] / NAME / books.FILE).write_bytes(b"{")
    with pytest.raises(Damaged, match=r"registry.json: expected a registry"):
        library.deployed(NAME)


def test_changes_at_once_lose_none(library: Library) -> None:
    """Six processes promote and roll back at once: each change is one generation, and the last stands."""
    code = """
import sys
from pathlib import Path
from onnx_models.library import Library
from onnx_models.registry import Conflict
home, shipped, name, *versions = sys.argv[1:]
library = Library(Path(home), Path(shipped))
for version in versions * 3:
    library.promote(name, version, "p", "race")
    try:
        library.rollback(name, "p", "race")
    except Conflict as error:
        assert "expected an earlier version" in str(error)
"""
    words = [sys.executable, "-c", code, *map(str, library.places), NAME]
    racing = [subprocess.Popen([*words, *ALL[i % 4 :], *ALL[: i % 4]]) for i in range(4)]
    assert [process.wait(60) for process in racing] == [0] * 4
    book = library.book(NAME)
    assert [change.generation for change in book.history] == list(range(1, book.generation + 1))
    assert book.deployed == book.history[-1].version
    assert [v for v, state in book.states.items() if state == "DEPLOYED"] == [book.deployed]


def test_a_killed_change_leaves_the_old_state_and_no_lock(library: Library) -> None:
    """kill -9 of a process that holds the lock, half of the new file written: the old book stands, the next goes on."""
    book = library.promote(NAME, B, "ann", "try")
    folder = library.places[0] / NAME
    code = f"""
import time
from pathlib import Path
from onnx_models.files import locked
with locked(Path({str(folder / "registry.lock")!r}), 1.0):
    Path({str(folder / ".registry.json.new")!r}).write_bytes(b'{{"generation": 2')
    print("held", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
    assert library.book(NAME) == book
    began = time.monotonic()
    assert library.promote(NAME, C, "ann", "again").deployed == C
    assert time.monotonic() - began < 1


def test_a_change_that_never_ends_is_named(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for the lock in vain is told, and nothing changes."""
    monkeypatch.setattr("onnx_models.library.PATIENCE_S", 0.05)
    folder = library.places[0] / NAME
    with locked(folder / "registry.lock", 1.0), pytest.raises(Conflict, match="still under way"):
        library.promote(NAME, B, "ann", "try")


def test_a_version_answers_as_itself(library: Library) -> None:
    """The model that is loaded is the version that was asked for."""
    row = np.zeros((1, len(SERVICE.features)), np.float32)
    assert len({float(library.load(NAME, version).score(row)[0]) for version in ALL}) == len(ALL)
