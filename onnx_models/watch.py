"""The models to score with now: a thread looks for what the registry says, and replaces them between two batches."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from feature_repo.declare import Service
from onnx_models.library import Library, Mark
from onnx_models.making import bury
from onnx_models.proof import Untried
from onnx_models.registry import ModelError
from onnx_models.session import Model

T = TypeVar("T")

EVERY_S = 0.25
AGAIN_S = 5.0  # until what could not be loaded is tried once more
log = logging.getLogger(__name__)


class Watch:
    """`models`: each service's deployed model, as far as it can be trusted; `shadows`: what scores beside them.

    Both are replaced as a whole and never changed, so whoever took one for a batch keeps it to its end. `refused`
    says what could not be loaded: then the model before it scores on.
    """

    def __init__(
        self,
        library: Library,
        services: Iterable[Service],
        prepare: Callable[[Model], None] = lambda model: None,
        every: float = EVERY_S,
    ) -> None:
        """Loads what is deployed. `prepare`: what else a model needs before it is asked."""
        self.library, self.every = library, every
        self.models: dict[str, Model] = {}
        self.shadows: dict[str, Model] = {}
        self.refused: dict[str, str] = {}
        self._inputs = {service.name: service.features for service in services}
        self._prepare = prepare
        self._marks: dict[str, Mark] = {}
        self._made: set[str] = set()  # of which a version is being made
        self._again: dict[str, float] = {}  # when to try what was refused
        self._looking, self._stopping = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self.look()

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(5)

    def _run(self) -> None:
        while not self._stopping.wait(self.every):
            try:
                self.look(wait=False)
            except Exception:  # whatever it is, the models that are there go on scoring
                log.exception("looking for models")

    def look(self, *, again: bool = False, wait: bool = True) -> None:
        """Takes what changed since the last look. `again`: everything. `wait`: for what has to be tried first, too."""
        with self._looking:
            for name in self._inputs:
                mark = self.library.mark(name)
                due = mark != self._marks.get(name) or name in self._made
                if again or due or time.monotonic() > self._again.get(name, float("inf")):
                    self._take(name, wait=wait)
                    self._marks[name] = mark

    def _take(self, name: str, *, wait: bool) -> None:
        wrong: list[ModelError] = []
        self._look_at_makers(name)
        model, shadow = self._deployed(name, wrong, wait=wait), self._shadow(name, wrong, wait=wait)
        self.models = _with(self.models, name, model and self._calibrated(model, wrong))
        self.shadows = _with(self.shadows, name, shadow)
        why = "; ".join(map(str, wrong))
        if why and why != self.refused.get(name) and (model or self.library.versions(name)):
            log.warning("%s", why)
        self.refused = _with(self.refused, name, why or None)
        patience = 0.0 if any(isinstance(error, Untried) for error in wrong) else AGAIN_S
        self._again[name] = time.monotonic() + patience if wrong else float("inf")

    def _look_at_makers(self, name: str) -> None:
        """As long as a version is made: whoever makes it may be killed, which changes no file."""
        with contextlib.suppress(ModelError, OSError):  # a registry that cannot be read is told with the models
            (self._made.add if bury(self.library, name) else self._made.discard)(name)

    def _deployed(self, name: str, wrong: list[ModelError], *, wait: bool) -> Model | None:
        """The deployed version; where it cannot be trusted the one that scores now, or one before it."""
        held = self.models.get(name)
        try:
            candidates = self.library.candidates(name)
        except ModelError as error:
            wrong.append(error)
            return held
        for version in candidates[: 1 if held else None]:
            try:
                return self._loaded(name, version, held, tuple(map(str, wrong)), wait=wait)
            except ModelError as error:
                wrong.append(error)
        if not candidates:
            wrong.append(self.library.absent(name))
        return held

    def _calibrated(self, model: Model, wrong: list[ModelError]) -> Model:
        """With what holds online; while that cannot be read, the version's own calibration does."""
        try:
            return model.with_(self.library.calibrations(model.name).holding(model.version))
        except ModelError as error:
            wrong.append(error)
            return model.with_({})

    def _shadow(self, name: str, wrong: list[ModelError], *, wait: bool) -> Model | None:
        held = self.shadows.get(name)
        try:
            version = self.library.book(name).shadow
            return self._loaded(name, version, held, wait=wait) if version else None
        except ModelError as error:
            wrong.append(error)
            return None

    def _loaded(
        self, name: str, version: str, held: Model | None, refused: tuple[str, ...] = (), *, wait: bool
    ) -> Model:
        if held is not None and held.directory == self.library.place(name, version):
            return held
        model = self.library.load(name, version, self._inputs[name], refused, wait=wait)
        self._prepare(model)
        log.info("%s %s is loaded", name, version)
        return model


def _with(of: dict[str, T], name: str, value: T | None) -> dict[str, T]:
    """The same where nothing changes."""
    if of.get(name) is value or of.get(name) == value:
        return of
    rest = {key: kept for key, kept in of.items() if key != name}
    return rest if value is None else rest | {name: value}
