"""An alert's reasons, from the booster of the model version that scored it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx_models
from feature_repo.vocabulary import Vocabulary
from flows.alert import Alert
from flows.reasons import contributions, reasons
from flows.running import say

BOOSTER = "model.ubj"


class Explainer:
    """Keeps each booster that it met; without one, an alert's reasons are its signals."""

    def __init__(self, vocabulary: Vocabulary, directory: str = "") -> None:
        """`directory` of models; empty: the ones that ship."""
        self.vocabulary = vocabulary
        self.models = Path(directory) if directory else Path(onnx_models.__path__[0])
        self._services = {service.name: service.features for service in vocabulary.services}
        self._boosters: dict[tuple[str, str], Any] = {}

    def reasons(self, alert: Alert) -> list[str]:
        names = self._services.get(alert.model, ())
        booster = self._booster(alert.model, alert.model_version) if len(names) == len(alert.features) else None
        added = contributions(booster, alert.features) if booster else []
        return reasons(self.vocabulary, names, alert.features, added, alert.signals)

    def _booster(self, model: str, version: str) -> Any:
        key = (model, version)
        if key not in self._boosters:
            self._boosters[key] = _load(self.models / model / version / BOOSTER)
        return self._boosters[key]


def _load(path: Path) -> Any:
    import xgboost

    booster = xgboost.Booster({"nthread": 1})
    try:
        booster.load_model(path)
    except (xgboost.core.XGBoostError, OSError) as error:
        say(f"no contributions from {path}: {str(error).strip().splitlines()[-1]}")
        return None
    return booster
