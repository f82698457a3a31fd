"""What each input adds to a score, from the booster that was exported with the very version that scored."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from feature_repo.declare import Array
from flows.explain import load_booster
from flows.reasons import contributed
from onnx_models.session import Model

KEPT = 32  # boosters in memory, the latest asked for


class Boosters:
    """Called on any thread."""

    def __init__(self) -> None:
        self._known: OrderedDict[Path, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, model: Model, rows: Array) -> Array | None:
        """Log odds that each input of float32 (n, inputs) adds, (n, inputs + 1), the last the bias; None: not known."""
        with self._lock:  # a booster answers one thread at a time
            if model.directory not in self._known:
                self._known[model.directory] = load_booster(model.booster)
            self._known.move_to_end(model.directory)
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
            booster = self._known[model.directory]
            return contributed(booster, rows) if booster else None
