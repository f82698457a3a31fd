"""A model that answers: ONNX Runtime on one thread, a slice of rows at a time."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from onnx_models.card import BOOSTER, ONNX, Metadata

if TYPE_CHECKING:
    from onnx_models.calibrations import Calibration

Array = np.ndarray[Any, Any]
INPUT = "features"  # the graph's only input
SLICE = 512  # rows at a time: 1.1 us a row of 60 trees, against 1.5 at 64; the answers are the same at any
_raised = vars(onnxruntime.capi.onnxruntime_pybind11_state).values()
ONNX_ERRORS: tuple[type[Exception], ...] = tuple(  # they share no base
    e for e in _raised if isinstance(e, type) and issubclass(e, Exception)
)


class Model:
    """One verified version. `refused` tells which newer versions were passed over, and why.

    `booster`: the same trees for XGBoost, which explain; empty where there are none. `calibrations`: what holds online
    of this version, by organisation; `scores` knows nothing of them.
    """

    def __init__(
        self,
        metadata: Metadata,
        directory: Path,
        refused: tuple[str, ...] = (),
        graph: bytes | None = None,
        booster: bytes | None = None,
    ) -> None:
        """`graph`, `booster`: the content of model.onnx and model.ubj, where it was read already."""
        self.metadata = metadata
        self.directory = directory
        self.refused = refused
        self.calibrations: Mapping[str, Calibration] = {}
        self.booster = (directory / BOOSTER).read_bytes() if booster is None else booster
        self._session = _session((directory / ONNX).read_bytes() if graph is None else graph)

    def __repr__(self) -> str:
        return f"<Model {self.name} {self.version}>"

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def version(self) -> str:
        return self.metadata.version

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.metadata.inputs

    @property
    def threshold(self) -> float:
        return self.metadata.threshold

    def with_(self, calibrations: Mapping[str, Calibration]) -> Model:
        """The same, with what holds online now; itself where nothing changed."""
        if calibrations == self.calibrations:
            return self
        other = copy.copy(self)
        other.calibrations = calibrations
        return other

    def score(self, matrix: Array) -> Array:
        """Calibrated probability of each row: (n, inputs) -> float32 (n,). NaN for a row that is not finite."""
        return self.scores(matrix)[1]

    def scores(self, matrix: Array) -> tuple[Array, Array]:
        """(raw, calibrated) probability of each row, float32 (n,) each. NaN for a row that is not finite."""
        return _scores(self._session, np.ascontiguousarray(matrix, np.float32))


def score_graph(graph: bytes, matrix: Array) -> tuple[Array, Array]:
    """(raw, calibrated) of a graph that is no version yet, as `Model.scores` would give them."""
    return _scores(_session(graph), np.ascontiguousarray(matrix, np.float32))


def _scores(session: onnxruntime.InferenceSession, matrix: Array) -> tuple[Array, Array]:
    out = np.empty((2, len(matrix)), np.float32)
    for low in range(0, len(matrix), SLICE):
        high = low + SLICE
        out[0, low:high], out[1, low:high] = session.run(None, {INPUT: matrix[low:high]})
    finite = np.isfinite(matrix)
    if not finite.all():  # which costs a tenth of looking at each row
        out[:, ~finite.all(axis=1)] = np.nan  # the trees would answer them, confidently
    return out[0], out[1]


def _session(graph: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
