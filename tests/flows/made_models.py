"""A real ONNX model, small enough to know what it answers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import xgboost
from onnx import TensorProto, helper, numpy_helper

from feature_repo.declare import Service
from onnx_models import card
from onnx_models.registry import digest
from onnx_models.session import INPUT, Model
from training import export
from training.fit import Fitted

VERSION = "20260101000000"


def logistic(
    directory: Path,
    service: Service,
    feature: str,
    slope: float,
    middle: float,
    threshold: float,
    version: str = VERSION,
) -> Model:
    """A version on disk that answers sigmoid(slope x (feature - middle)), raw and calibrated alike, without booster."""
    place = directory / service.name / version
    place.mkdir(parents=True)
    weights = np.zeros((len(service.features), 1), np.float32)
    weights[service.features.index(feature)] = slope
    (place / card.ONNX).write_bytes(_graph(weights, -slope * middle))
    (place / card.BOOSTER).write_bytes(b"")
    rows = [[0.0] * len(service.features), [1.0] * len(service.features)]
    answers = [1 / (1 + math.exp(slope * middle)), 1 / (1 + math.exp(slope * (middle - 1)))]
    files = {name: digest((place / name).read_bytes()) for name in (card.ONNX, card.BOOSTER)}
    metadata = _metadata(service, version, threshold)
    metadata = msgspec.structs.replace(metadata, files=files, golden=card.Golden(rows, answers, answers))
    (place / card.METADATA).write_bytes(card.encode(metadata))
    return Model(metadata, place)


def trees(directory: Path, service: Service, feature: str, above: float, threshold: float, version: str) -> Path:
    """A version on disk of trees that answer high where the feature, 0-10, is above that, with their booster."""
    rows = np.random.default_rng(1).random((400, len(service.features)), np.float32) * 10
    labels = (rows[:, service.features.index(feature)] > above).astype(np.float32)
    booster = xgboost.train(
        {"objective": "binary:logistic", "base_score": 0.5, "nthread": 1}, xgboost.DMatrix(rows, labels), 10
    )
    return export.write(directory, Fitted(booster, 1.0, 0.0), rows, _metadata(service, version, threshold))


def _metadata(service: Service, version: str, threshold: float) -> card.Metadata:
    return card.Metadata(
        name=service.name,
        version=version,
        service=service.name,
        alert=service.alert,
        outcome=service.outcome or "",
        horizon_days=90,
        inputs=service.features,
        threshold=threshold,
        budget=0.1,
        files={},
        golden=card.Golden([], [], []),
        trained_on={},
        metrics={},
        vocabulary=0,
        packages={},
    )


def _graph(weights: np.ndarray[Any, Any], bias: float) -> bytes:
    constants: dict[str, np.ndarray[Any, Any]] = {
        "w": weights,
        "b": np.array([bias], np.float32),
        "flat": np.array([-1], np.int64),
    }
    nodes = [
        helper.make_node("MatMul", [INPUT, "w"], ["weighed"]),
        helper.make_node("Add", ["weighed", "b"], ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["column"]),
        helper.make_node("Reshape", ["column", "flat"], ["raw"]),
        helper.make_node("Identity", ["raw"], ["calibrated"]),
    ]
    graph = helper.make_graph(
        nodes,
        "logistic",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, len(weights)])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in ("raw", "calibrated")],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
