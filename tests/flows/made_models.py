"""A real ONNX model, small enough to know what it answers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from feature_repo.declare import Service
from onnx_models import card
from onnx_models.registry import digest
from onnx_models.session import INPUT, Model

VERSION = "20260101000000"


def logistic(
    directory: Path,
    service: Service,
    feature: str,
    slope: float,
    middle: float,
    threshold: float,
    booster: bytes = b"",
    version: str = VERSION,
) -> Model:
    """A version on disk that answers sigmoid(slope x (feature - middle)), raw and calibrated alike.

    `booster` is what the alert drain explains with; nobody else reads it.
    """
    place = directory / service.name / version
    place.mkdir(parents=True)
    weights = np.zeros((len(service.features), 1), np.float32)
    weights[service.features.index(feature)] = slope
    (place / card.ONNX).write_bytes(_graph(weights, -slope * middle))
    (place / card.BOOSTER).write_bytes(booster)
    rows = [[0.0] * len(service.features), [1.0] * len(service.features)]
    answers = [1 / (1 + math.exp(slope * middle)), 1 / (1 + math.exp(slope * (middle - 1)))]
    metadata = card.Metadata(
        name=service.name,
        version=version,
        service=service.name,
        alert=service.alert,
        outcome=service.outcome or "",
        horizon_days=90,
        inputs=service.features,
        threshold=threshold,
        budget=0.1,
        files={name: digest((place / name).read_bytes()) for name in (card.ONNX, card.BOOSTER)},
        golden=card.Golden(rows, answers, answers),
        trained_on={},
        metrics={},
        vocabulary=0,
        packages={},
    )
    (place / card.METADATA).write_bytes(card.encode(metadata))
    return Model(metadata, place)


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
