"""A running process takes what the registry says within a second, and never what cannot be trusted."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from onnx_models import book as books
from onnx_models import card, proof
from onnx_models.library import Library
from onnx_models.watch import Watch
from tests.flows.made_models import logistic
from tests.onnx_models.test_library import spoil
from tests.onnx_models.versions import NAME, SERVICE, B, C, D


@pytest.fixture
def watch(library: Library) -> Iterator[Watch]:
    """A running one."""
    found = Watch(library, [SERVICE])
    found.start()
    yield found
    found.stop()


def within_a_second(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 1.0
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_promotion_is_seen(watch: Watch) -> None:
    """Promoted, rolled back: the model to score with follows within a second each time."""
    assert watch.models[NAME].version == D
    watch.library.promote(NAME, B, "ann", "try")
    within_a_second(lambda: watch.models[NAME].version == B)
    watch.library.rollback(NAME, "ann", "worse")
    within_a_second(lambda: watch.models[NAME].version == D)


def test_what_was_taken_is_never_changed(watch: Watch) -> None:
    """A batch that holds the models scores to its end with these."""
    held = watch.models
    watch.library.promote(NAME, B, "ann", "try")
    watch.look()
    assert (held[NAME].version, watch.models[NAME].version) == (D, B)


def test_nothing_new_is_nothing_replaced(watch: Watch) -> None:
    """Without a change the models stay the same objects, however often one looks."""
    held = watch.models
    watch.look(again=True)
    assert watch.models is held


def test_a_version_that_appears_without_a_registry(library: Library) -> None:
    """A newer directory, copied beside the others, scores when it is whole."""
    kept = library.places[0].parent / "kept"
    (library.places[0] / NAME / D).rename(kept)
    watch = Watch(library, [SERVICE])
    place = library.places[0] / NAME / D
    place.mkdir()
    shutil.copy(kept / card.METADATA, place)
    watch.look()
    assert watch.models[NAME].version == C
    assert "expected a file" in watch.refused[NAME]
    for file in (card.ONNX, card.BOOSTER):
        shutil.copy(kept / file, place)
    watch.look(again=True)
    assert (watch.models[NAME].version, watch.refused) == (D, {})


def test_a_damaged_version_does_not_replace_the_one_that_scores(library: Library) -> None:
    """The file of the deployed version was damaged after its promotion: what scored goes on."""
    library.promote(NAME, B, "ann", "try")
    watch = Watch(library, [SERVICE])
    library.promote(NAME, C, "ann", "try")
    spoil(library, C)
    watch.look()
    assert watch.models[NAME].version == B
    assert "expected sha256" in watch.refused[NAME]


def test_a_damaged_registry_does_not_stop_the_one_that_scores(watch: Watch) -> None:
    """A registry that nobody can read changes nothing, and is named."""
    (watch.library.places[0] / NAME / books.FILE).write_bytes(b"{")
    watch.look()
    assert watch.models[NAME].version == D
    assert "expected a registry" in watch.refused[NAME]


def test_another_input_list_is_refused(library: Library, tmp_path: Path) -> None:
    """A version of other inputs than the service states does not score."""
    fewer = SERVICE.__class__(name=NAME, features=SERVICE.features[:-1], description="")
    logistic(tmp_path / "home", fewer, fewer.features[0], 1.0, 2.0, 0.9, version="20260105000000")
    watch = Watch(library, [SERVICE])
    assert watch.models[NAME].version == D
    assert "expected the 45 inputs" in watch.refused[NAME]


def test_a_shadow_scores_beside(watch: Watch) -> None:
    """What is registered as SHADOW is loaded beside the deployed one, and goes when it is promoted."""
    watch.library.promote(NAME, B, "ann", "try")
    watch.library.register(NAME, D, "SHADOW", "job", "passed")
    watch.look()
    assert (watch.shadows[NAME].version, watch.models[NAME].version) == (D, B)
    watch.library.promote(NAME, D, "ann", "better")
    watch.look()
    assert (watch.shadows, watch.models[NAME].version) == ({}, D)


def test_nobody_waits_while_a_version_is_tried(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that appears is tried beside: meanwhile another one may be promoted, and is seen within a second."""
    going, asked = threading.Event(), threading.Event()
    watch = Watch(library, [SERVICE])
    kept = proof.probed
    for version in (B, C):
        library.load(NAME, version)

    def slowly(places: Sequence[Path]) -> list[proof.Verdict]:
        asked.set()
        going.wait(10)
        return kept(places)

    monkeypatch.setattr(proof, "probed", slowly)
    watch.start()
    logistic(library.places[0], SERVICE, SERVICE.features[0], 9.0, 2.0, 0.9, version="20260105000000")
    assert asked.wait(5)
    within_a_second(lambda: "being tried" in watch.refused.get(NAME, ""))
    library.promote(NAME, B, "ann", "meanwhile")
    within_a_second(lambda: watch.models[NAME].version == B)
    library.promote(NAME, C, "ann", "meanwhile")
    going.set()
    within_a_second(lambda: watch.models[NAME].version == C)
    watch.stop()


def test_a_version_that_appears_scores_once_it_was_tried(watch: Watch) -> None:
    """Without a promotion, where nothing was promoted before: the newest, some seconds later."""
    new = "20260105000000"
    logistic(watch.library.places[0], SERVICE, SERVICE.features[0], 8.0, 2.0, 0.9, version=new)
    deadline = time.monotonic() + 20
    while watch.models[NAME].version != new:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert watch.refused == {}


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    """No version at all: nothing to score with, and it is said where one was expected."""
    watch = Watch(Library(tmp_path), [SERVICE])
    assert watch.models == {}
    assert f"in {tmp_path / NAME}" in watch.refused[NAME]
