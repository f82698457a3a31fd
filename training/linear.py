"""A line that was learned online, as a model that can be exported: scales folded into its weights."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from flows.learners.challenger_linear import Line
from onnx_models.session import INPUT
from training.fit import sigmoid
from training.people import Array

OPSET, IR = 15, 8
_MOST = 500.0  # log odds: beyond, float64 has no exponential


class Linear(msgspec.Struct, frozen=True):
    """raw = sigmoid(margin), calibrated = sigmoid(margin - what weighing the outcomes added); in float64."""

    line: Line
    inputs: tuple[str, ...]

    def margin(self, features: Array) -> Array:
        """Log odds: float32 (n, inputs) -> float64 (n,)."""
        weights, intercept = self.line.folded(self.inputs)
        return (features.astype(np.float64) * weights).sum(axis=1) + intercept

    def raw(self, features: Array) -> Array:
        return sigmoid(np.clip(self.margin(features), -_MOST, _MOST))

    def calibrated(self, features: Array) -> Array:
        return sigmoid(np.clip(self.margin(features) - self.line.prior, -_MOST, _MOST))

    def importance(self) -> dict[str, float]:
        """Each input's share of the weights, each of a standard deviation; the largest first."""
        given = dict(zip(self.line.names, map(abs, self.line.weights), strict=True))
        total = sum(given.get(name, 0.0) for name in self.inputs) or 1.0
        found = {name: round(given.get(name, 0.0) / total, 6) for name in self.inputs}
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def graph(self) -> bytes:
        """ONNX of (n, inputs) float32 -> `raw` and `calibrated`, float32 (n,) each.

        Products and a sum a row, not a matrix product: that would give a row other bits among other rows.
        """
        weights, intercept = self.line.folded(self.inputs)
        constants = {"weights": weights, "intercept": np.array(intercept), "prior": np.array(-self.line.prior)}
        columns = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, len(self.inputs)])
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in ("raw", "calibrated")]
        initial = [numpy_helper.from_array(np.asarray(value, np.float64), name) for name, value in constants.items()]
        made = helper.make_graph(
            _nodes(), "line_and_sigmoid", [columns], outputs, [*initial, numpy_helper.from_array(np.array([1]), "row")]
        )
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString(deterministic=True))


def _nodes() -> list[Any]:
    return [
        helper.make_node("Cast", [INPUT], ["given"], to=TensorProto.DOUBLE),
        helper.make_node("Mul", ["given", "weights"], ["parts"]),
        helper.make_node("ReduceSum", ["parts", "row"], ["sum"], keepdims=0),
        helper.make_node("Add", ["sum", "intercept"], ["margin"]),
        helper.make_node("Add", ["margin", "prior"], ["shifted"]),
        helper.make_node("Sigmoid", ["margin"], ["surely"]),
        helper.make_node("Sigmoid", ["shifted"], ["likely"]),
        helper.make_node("Cast", ["surely"], ["raw"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["likely"], ["calibrated"], to=TensorProto.FLOAT),
    ]
