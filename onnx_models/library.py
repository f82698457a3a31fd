"""Where models are: what was trained here, then what ships; and which version of each is deployed.

A registry is one file beside a model's versions in the first place (book.py). It changes under a lock that a killed
process lets go, and is replaced whole, so that every reader sees one consistent state.
"""

from __future__ import annotations

import getpass
import logging
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import msgspec

from feature_repo import vocabulary
from feature_repo.settings import Settings
from onnx_models import book as books
from onnx_models import calibrations, registry
from onnx_models.book import Book, By, State
from onnx_models.calibrations import Calibration, Calibrations
from onnx_models.card import Metadata
from onnx_models.files import locked, replace
from onnx_models.proof import Proofs
from onnx_models.registry import HERE, Conflict, Damaged, ModelError, NoModel, NoVersion
from onnx_models.session import Model

PATIENCE_S = 5.0  # for a change of somebody else's
_NAME, _VERSION = re.compile(r"\w+"), re.compile(r"\d{14}")
Mark = tuple[tuple[str, int, int], ...]
_log = logging.getLogger(__name__)


class Library:
    """Models by name and version over several directories, of which the first is written to."""

    def __init__(self, *places: Path, feature_repo: str = "") -> None:
        """`feature_repo`: the directory of another domain, whose services state the inputs."""
        self.places, self._feature_repo = tuple(dict.fromkeys(places)), feature_repo
        self.proofs = Proofs(self.places[0] / ".proved")

    @classmethod
    def of(cls, settings: Settings) -> Library:
        """What was trained in this home, then `TELLTALE_MODELS` or what ships."""
        shipped = Path(settings.models) if settings.models else HERE
        return cls(settings.home / "onnx_models", shipped, feature_repo=settings.feature_repo)

    @cached_property
    def inputs(self) -> dict[str, tuple[str, ...]]:
        """What each service of the domain states. Raises VocabularyError."""
        return {service.name: service.features for service in vocabulary.load(self._feature_repo).services}

    # -- what there is

    def names(self) -> list[str]:
        """All models that have a version."""
        return sorted({name for place in self.places if place.is_dir() for name in registry.names(place)})

    def versions(self, name: str) -> list[str]:
        """All versions of a model, oldest first, unverified."""
        return sorted({version for place in self.places for version in registry.versions(_name(name), place)})

    def place(self, name: str, version: str) -> Path:
        """The version's directory. Raises NoModel, NoVersion."""
        if _VERSION.fullmatch(version):
            for place in self.places:
                if (place / _name(name) / version).is_dir():
                    return place / name / version
        raise self._missing(name, version)

    def _missing(self, name: str, version: str) -> ModelError:
        if found := self.versions(name):
            return NoVersion(f"{name}: expected a version among {', '.join(found)}, got {version[:100]!r}")
        return self.absent(name)

    def absent(self, name: str) -> NoModel:
        """That there is no such model, as an error."""
        where = " or ".join(str(place / name) for place in self.places)
        return NoModel(f"expected a version directory YYYYMMDDHHMMSS in {where}, found none")

    def book(self, name: str) -> Book:
        """What the registry says; an empty book where there is none. Raises Damaged."""
        file = self._folder(name) / books.FILE
        try:
            return books.decode(file.read_bytes())
        except FileNotFoundError:
            return Book()
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Damaged(f"{file}: expected a registry: {error}") from error

    def calibrations(self, name: str) -> Calibrations:
        """What was learned online of its versions. Raises Damaged."""
        return calibrations.read(self._folder(name))

    def calibrate(
        self, name: str, version: str, organisation: str, new: tuple[float, float] | None, who: str, why: str
    ) -> Calibration | None:
        """Two numbers (a, b) hold from now on, or, None, the version's own; None where that is so already.

        Raises ValueError outside the bounds, NoVersion, Conflict, Damaged.
        """
        self.place(name, version)
        return calibrations.change(self._folder(name), version, organisation, new, who, why)

    def states(self, name: str) -> dict[str, State | None]:
        """Every version's state, oldest first. None: newer than what is deployed, and not registered."""
        book, versions = self.book(name), self.versions(name)
        deployed = _deployed(book, versions)
        known: dict[str, State | None] = {v: "RETIRED" if deployed and v < deployed else None for v in versions}
        return dict(sorted((known | ({deployed: "DEPLOYED"} if deployed else {}) | book.states).items()))

    def current(self, name: str) -> str | None:
        """The version that is deployed, unverified."""
        return _deployed(self.book(name), self.versions(name))

    def ships(self, name: str, version: str) -> bool:
        """Whether it was there before anything was trained here; False for one that is being trained."""
        return any((place / _name(name) / version).is_dir() for place in self.places[1:])

    def files(self, name: str, version: str) -> registry.Files:
        """Raises NoModel, NoVersion, Damaged."""
        return registry.read(self.place(name, version))

    def told(self, name: str, version: str) -> Metadata | None:
        """What the version says of itself; None where it is damaged, or gone."""
        try:
            return self.files(name, version).metadata
        except ModelError:
            return None

    def mark(self, name: str) -> Mark:
        """What changes when a version or the registry does: quick to make, and to compare."""
        return tuple(entry for place in self.places for entry in _listed(place / name))

    # -- to score with

    def load(
        self,
        name: str,
        version: str,
        inputs: tuple[str, ...] | None = None,
        refused: tuple[str, ...] = (),
        *,
        wait: bool = True,
    ) -> Model:
        """One version, verified. `inputs`: what it must take, by default what its service states.

        Raises NoVersion, Damaged, Hostile, OtherInputs, OtherAnswers; Untried where it would have to `wait`.
        """
        files = self.files(name, version)
        self.proofs.prove(files, wait=wait)
        return registry.verified(files, inputs or self.inputs.get(files.metadata.service, ()), refused)

    def deployed(self, name: str, inputs: tuple[str, ...] | None = None) -> Model:
        """The deployed version, else the newest before it that can be trusted. Raises NoModel that names each."""
        refused: list[str] = []
        for version in self.candidates(name):
            try:
                return self.load(name, version, inputs, tuple(refused))
            except ModelError as error:
                _log.warning("%s", error)
                refused.append(str(error))
        raise NoModel("; ".join(refused)) if refused else self.absent(name)

    def candidates(self, name: str) -> list[str]:
        """The deployed version, then those before it which may stand in for it, newest first. Raises Damaged."""
        book, versions = self.book(name), self.versions(name)
        deployed = _deployed(book, versions)
        if deployed is None:
            return []
        older = [v for v in versions if v < deployed and (v in book.before or v not in book.states)]
        return [deployed, *reversed(older)]

    def shadow(self, name: str, inputs: tuple[str, ...] | None = None) -> Model | None:
        """The version that scores beside the deployed one, if there is one. Raises ModelError."""
        version = self.book(name).shadow
        return self.load(name, version, inputs) if version else None

    # -- changes

    def register(self, name: str, version: str, state: State, who: str, why: str) -> Book:
        """A version comes into a state, before its directory is there (TRAINING) or after. DEPLOYED: promotes it.

        Raises NoVersion, Conflict, and for SHADOW and DEPLOYED what is wrong with the version.
        """
        if state == "DEPLOYED":
            return self.promote(name, version, who, why)
        if state == "SHADOW":
            self.load(name, version)
        elif not _VERSION.fullmatch(version):
            raise NoVersion(f"{name}: expected a version YYYYMMDDHHMMSS, got {version[:100]!r}")
        return self._change(name, lambda book: books.registered(book, version, state, _by(who, why)))

    def promote(self, name: str, version: str, who: str, why: str, instead: str = "") -> Book:
        """Deploys a version, which is verified first. `instead`: only if this one is deployed now.

        Raises NoModel, NoVersion, Conflict, and what is wrong with the version.
        """
        self.load(name, version)

        def change(book: Book) -> Book:
            deployed = self._expected(name, book, instead)
            return books.promoted(book, version, deployed, _by(who, why))

        return self._change(name, change)

    def rollback(self, name: str, who: str, why: str, instead: str = "") -> Book:
        """Deploys the version that was deployed before and can be trusted. `instead`: only if this one is now.

        Raises NoModel, Conflict where there is none.
        """

        def change(book: Book) -> Book:
            deployed = self._expected(name, book, instead)
            version = self._earlier(name, book, deployed)
            return books.rolled_back(book, version, deployed, _by(who, why))

        return self._change(name, change)

    def retire(self, name: str, version: str, who: str, why: str) -> Book:
        """Raises NoVersion, Conflict for the deployed one."""
        return self.register(name, version, "RETIRED", who, why)

    def _expected(self, name: str, book: Book, instead: str) -> str | None:
        deployed = _deployed(book, self.versions(name))
        if instead and deployed != instead:
            raise Conflict(f"{name}: expected {instead} to be deployed, but it is {deployed}")
        return deployed

    def _earlier(self, name: str, book: Book, deployed: str | None) -> str:
        older = [v for v in self.versions(name) if v not in book.states and deployed and v < deployed]
        refused = []
        for version in [*reversed(book.before), *reversed(older)]:
            try:
                self.load(name, version)
            except ModelError as error:
                refused.append(str(error))
            else:
                return version
        raise Conflict("; ".join([f"{name}: expected an earlier version than {deployed} to go back to", *refused]))

    def _folder(self, name: str) -> Path:
        return self.places[0] / _name(name)

    def _change(self, name: str, change: Callable[[Book], Book]) -> Book:
        folder = self._folder(name)
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "registry.lock", PATIENCE_S):
            book = self.book(name)
            after = change(book)
            if after is not book:
                replace(folder / books.FILE, books.encode(after))
        return after


def _deployed(book: Book, versions: list[str]) -> str | None:
    return book.deployed or next((v for v in reversed(versions) if v not in book.states), None)


def _listed(folder: Path) -> list[tuple[str, int, int]]:
    try:
        with os.scandir(folder) as found:
            told = [(entry.name, entry.stat(follow_symlinks=False)) for entry in found]
    except FileNotFoundError:
        return []
    return sorted((name, stat.st_mtime_ns, stat.st_ino) for name, stat in told)


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise NoModel(f"expected a model's name (letters, digits, _), got {name[:100]!r}")
    return name


def _by(who: str, why: str) -> By:
    return By(who, why, datetime.now(UTC))


def me() -> str:
    """The user of the operating system, for `who`."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
