"""An alert's reasons, from the booster of the model version that scored it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from feature_repo.vocabulary import Vocabulary
from flows.alert import Alert
from flows.reasons import contributions, reasons
from flows.running import say
from onnx_models.library import Library
from onnx_models.registry import ModelError


class Explainer:
    """Keeps each booster that it met; without one, an alert's reasons are its signals."""

    def __init__(self, vocabulary: Vocabulary, library: Library) -> None:
        self.vocabulary, self.library = vocabulary, library
        self._services = {service.name: service.features for service in vocabulary.services}
        self._boosters: dict[tuple[str, str], Any] = {}

    def warm(self) -> None:
        """Loads the booster of each deployed model, so that the first alert need not wait for it."""
        for service in self._services:
            with suppress(ModelError):
                if version := self.library.current(service):
                    self.booster(service, version)

    def reasons(self, alert: Alert) -> list[str]:
        names = self._services.get(alert.model, ())
        booster = self.booster(alert.model, alert.model_version) if len(names) == len(alert.features) else None
        added = contributions(booster, alert.features) if booster else []
        return reasons(self.vocabulary, names, alert.features, added, alert.signals)

    def booster(self, model: str, version: str) -> Any:
        """The booster of a model version; None where it is not to be had."""
        key = (model, version)
        if key not in self._boosters:
            self._boosters[key] = self._load(model, version)
        return self._boosters[key]

    def _load(self, model: str, version: str) -> Any:
        try:
            files = self.library.files(model, version)
            self.library.proofs.prove(files)
        except ModelError as error:
            say(f"alerts of this version are explained by their signals alone: {error}")
            return None
        return load_booster(files.booster)


def load_booster(content: bytes) -> Any:
    """The booster of a version that was verified and proved; None where it has none.

    Only of such: XGBoost ends the whole process when it reads what is no booster.
    """
    if not content:
        return None
    import xgboost

    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(content))
    return booster
