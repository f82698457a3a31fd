"""Puts a made model where it belongs: into a directory, or into the library under the registry's eyes."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from onnx_models import card
from onnx_models.library import Library, me
from onnx_models.making import bury, making
from training import card_text, export, plots
from training.job import Made


class Published(msgspec.Struct, frozen=True):
    """What became of a version: its state in the registry, and why."""

    metadata: card.Metadata
    place: Path
    state: str
    why: str


class Failed(RuntimeError):
    """A version that did not pass its gates, where nothing but a good one is wanted."""


def into(directory: Path, made: Made) -> Path:
    """The version in `directory`, past any registry. Raises Failed where a gate stopped it: then nothing is written."""
    if made.failed:
        raise Failed(f"{made.metadata.name}: a gate stopped it, nothing was written: {made.failed}")
    made = _named(made, [directory])
    return write(directory, made)


def register(library: Library, made: Made, why: str, *, promote: bool) -> Published:
    """The version in the library's first place, in the state that it earned.

    One that passed its gates comes into the shadow, or is deployed where `promote` says so or nothing is yet; another
    is retired and can never be deployed. Raises ModelError.
    """
    made = _named(made, list(library.places))
    bury(library, made.metadata.name)
    with making(library, made.metadata.name, made.metadata.version):
        return _registered(library, made, why, promote=promote)


def _registered(library: Library, made: Made, why: str, *, promote: bool) -> Published:
    name, version, who = made.metadata.name, made.metadata.version, me()
    first = library.current(name) is None
    library.register(name, version, "TRAINING", who, why)
    try:
        place = write(library.places[0], made)
        library.register(name, version, "VALIDATING", who, "written, and answers as its trainer does")
    except BaseException as error:
        library.register(name, version, "RETIRED", who, f"training ended early: {error or type(error).__name__}")
        raise
    if made.failed:
        library.register(name, version, "RETIRED", who, made.failed)
        return Published(made.metadata, place, "RETIRED", made.failed)
    passed = "passed its gates"
    library.register(name, version, "SHADOW", who, passed)
    if first or promote:
        passed += ", the first version of all" if first else ", as asked"
        library.promote(name, version, who, passed)
    return Published(made.metadata, place, "DEPLOYED" if first or promote else "SHADOW", passed)


def write(directory: Path, made: Made) -> Path:
    """`directory`/<name>/<version>/ with card and pictures, whole or not at all. Raises what `export.write` raises."""
    making = directory / f".making-{made.metadata.name}-{made.metadata.version}"
    try:
        place = export.write(making, made.fitted, made.held_out, made.metadata)
        metadata = card.decode((place / card.METADATA).read_bytes())
        (place / card.CARD).write_text(card_text.card(metadata), encoding="utf-8")
        plots.draw(place, made.label, made.scores, metadata.importance, metadata.threshold)
        target = directory / made.metadata.name / made.metadata.version
        target.parent.mkdir(parents=True, exist_ok=True)
        return place.rename(target)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _named(made: Made, places: list[Path]) -> Made:
    """Under a version that no directory has: a second later where need be."""
    name, at = made.metadata.name, datetime.now(UTC)
    while any((place / name / at.strftime("%Y%m%d%H%M%S")).exists() for place in places):
        at += timedelta(seconds=1)
    version = at.strftime("%Y%m%d%H%M%S")
    return msgspec.structs.replace(made, metadata=msgspec.structs.replace(made.metadata, version=version))
