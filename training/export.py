"""From a fitted model to a version directory that the registry trusts."""

from __future__ import annotations

import time
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxmltools.convert import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType

from onnx_models import card
from onnx_models.registry import TOLERANCE, digest, load
from onnx_models.session import INPUT, score_graph
from training.fit import Fitted
from training.linear import Linear
from training.people import Array

OPSET = 15
GOLDEN = 16
PACKAGES = ("xgboost", "onnxmltools", "onnx", "onnxruntime", "scikit-learn", "numpy")


class Differs(RuntimeError):
    """The ONNX graph does not answer as the trainer does."""


def graph(fitted: Fitted, inputs: int) -> bytes:
    """ONNX of (n, inputs) float32 -> `raw` and `calibrated`, float32 (n,) each."""
    columns = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, inputs])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in ("raw", "calibrated")]
    made = helper.make_graph(
        [_trees(fitted.booster, inputs), *_sigmoids()],
        "trees_and_sigmoid",
        [columns],
        outputs,
        [
            numpy_helper.from_array(np.array([-1]), "flat"),
            numpy_helper.from_array(np.array(fitted.slope, np.float32), "slope"),
            numpy_helper.from_array(np.array(fitted.offset, np.float32), "offset"),
        ],
    )
    sets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 1)]
    model = helper.make_model(made, opset_imports=sets, ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _trees(booster: Any, inputs: int) -> Any:
    """The booster's trees as onnxmltools converts them, but giving the margin: a fifth quicker than two classes."""
    shape = [(INPUT, FloatTensorType([None, inputs]))]
    classifier = convert_xgboost(booster, initial_types=shape, target_opset=OPSET).graph.node[0]
    given = {a.name: helper.get_attribute_value(a) for a in classifier.attribute}
    nodes = {name: value for name, value in given.items() if name.startswith("nodes_")}
    leaves = {
        name.replace("class_", "target_"): given[name] for name in ("class_nodeids", "class_treeids", "class_weights")
    }
    return helper.make_node(
        "TreeEnsembleRegressor",
        [INPUT],
        ["margins"],
        domain="ai.onnx.ml",
        n_targets=1,
        target_ids=[0] * len(given["class_ids"]),
        **nodes,
        **leaves,
    )


def _sigmoids() -> list[Any]:
    """raw = sigmoid(margin), calibrated = sigmoid(slope * margin + offset)."""
    return [
        helper.make_node("Reshape", ["margins", "flat"], ["margin"]),
        helper.make_node("Sigmoid", ["margin"], ["raw"]),
        helper.make_node("Mul", ["margin", "slope"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["shifted"]),
        helper.make_node("Sigmoid", ["shifted"], ["calibrated"]),
    ]


def check(onnx_graph: bytes, fitted: Fitted | Linear, held_out: Array) -> float:
    """Greatest difference between ONNX and the trainer on held-out rows. Raises Differs above 1e-5."""
    raw, calibrated = score_graph(onnx_graph, held_out)
    apart = max(
        float(np.abs(raw - fitted.raw(held_out)).max()), float(np.abs(calibrated - fitted.calibrated(held_out)).max())
    )
    if not apart <= TOLERANCE:
        raise Differs(
            f"ONNX against the trainer on {len(held_out)} held-out rows: expected {TOLERANCE}, got {apart:.2g}"
        )
    return apart


def microseconds(onnx_graph: bytes, rows: Array, runs: int = 3) -> float:
    """Per row, scored in slices on one core: the quickest run of some."""
    took = []
    for _ in range(runs):
        started = time.perf_counter()
        score_graph(onnx_graph, rows)
        took.append(time.perf_counter() - started)
    return 1e6 * min(took) / max(len(rows), 1)


def write(directory: Path, fitted: Fitted | Linear, held_out: Array, metadata: card.Metadata) -> Path:
    """`directory`/<name>/<version>/, verified by loading it. Raises Differs, or what the registry finds wrong."""
    onnx_graph, booster = _exported(fitted, len(metadata.inputs))
    check(onnx_graph, fitted, held_out)
    place = directory / metadata.name / metadata.version
    place.mkdir(parents=True)
    golden = held_out[:: max(len(held_out) // GOLDEN, 1)][:GOLDEN]
    metadata = _sealed(metadata, {card.ONNX: onnx_graph, card.BOOSTER: booster}, fitted, golden)
    (place / card.ONNX).write_bytes(onnx_graph)
    (place / card.BOOSTER).write_bytes(booster)
    (place / card.METADATA).write_bytes(card.encode(metadata))
    load(metadata.name, metadata.version, directory, metadata.inputs)
    return place


def _exported(fitted: Fitted | Linear, inputs: int) -> tuple[bytes, bytes]:
    """The graph, and the trees that explain; none of a line."""
    if isinstance(fitted, Linear):
        return fitted.graph(), b""
    return graph(fitted, inputs), bytes(fitted.booster.save_raw("ubj"))


def _sealed(metadata: card.Metadata, files: dict[str, bytes], fitted: Fitted | Linear, golden: Array) -> card.Metadata:
    return msgspec.structs.replace(
        metadata,
        files={name: digest(content) for name, content in files.items()},
        golden=card.Golden(golden.tolist(), fitted.raw(golden).tolist(), fitted.calibrated(golden).tolist()),
        packages={name: installed(name) for name in PACKAGES},
    )
