"""Whether a booster is the very model that the graph is: the same answers at every leaf, both sides of each split."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import xgboost

from onnx_models.graph_check import Unfit, is_tree
from onnx_models.registry import TOLERANCE
from onnx_models.session import Array, Model

LEAVES = 4_096  # asked at most


class Tree(msgspec.Struct):
    """As XGBoost writes it in JSON: node i goes left where its feature is below its condition; -1: a leaf."""

    left_children: list[int]
    right_children: list[int]
    parents: list[int]
    split_indices: list[int]
    split_conditions: list[float]
    split_type: list[int]


class _Trees(msgspec.Struct):
    trees: list[Tree]


class _Gradient(msgspec.Struct):
    name: str
    model: _Trees


class _Shape(msgspec.Struct):
    num_feature: str


class _Learner(msgspec.Struct):
    gradient_booster: _Gradient
    learner_model_param: _Shape


class _Saved(msgspec.Struct):
    learner: _Learner


def check(content: bytes, model: Model) -> None:
    """Raises Unfit."""
    booster = xgboost.Booster({"nthread": 1})
    try:
        booster.load_model(bytearray(content))
        learner = msgspec.json.decode(bytes(booster.save_raw("json")), type=_Saved).learner
    except (xgboost.core.XGBoostError, ValueError, UnicodeDecodeError) as error:
        raise Unfit(f"expected an XGBoost booster: {str(error).splitlines()[0]}") from error
    inputs = len(model.inputs)
    if (learner.gradient_booster.name, learner.learner_model_param.num_feature) != ("gbtree", str(inputs)):
        raise Unfit(f"expected a booster of trees over {inputs} inputs, got {learner.learner_model_param.num_feature}")
    trees = learner.gradient_booster.model.trees
    for i, tree in enumerate(trees):
        _shape(tree, inputs, f"tree {i} of the booster")
    _agree(booster, model, _rows(trees, np.array(model.metadata.golden.inputs[0], np.float32)))


def _shape(tree: Tree, inputs: int, name: str) -> None:
    nodes, branches = range(len(tree.left_children)), [i for i, left in enumerate(tree.left_children) if left != -1]
    is_tree(nodes, [child for i in branches for child in (tree.left_children[i], tree.right_children[i])], name)
    if any(tree.split_type) or not all(0 <= tree.split_indices[i] < inputs for i in branches):
        raise Unfit(f"expected {name} to split numbers of {inputs} inputs")


def _rows(trees: list[Tree], base: Array) -> Array:
    """Two rows a leaf that reach it, at both ends of what leads there: (n, inputs) float32."""
    leaves = [(tree, i) for tree in trees for i, left in enumerate(tree.left_children) if left == -1]
    ends = [end for tree, leaf in leaves[:: len(leaves) // LEAVES + 1] for end in _ends(tree, leaf, base)]
    return np.array([base, *ends], np.float32)


def _ends(tree: Tree, leaf: int, base: Array) -> list[Array]:
    low, high = _way(tree, leaf)
    first, last = base.copy(), base.copy()
    for feature in low.keys() | high.keys():
        least, most = (
            low.get(feature, -np.inf),
            np.nextafter(high.get(feature, np.float32(np.inf)), np.float32(-np.inf)),
        )
        first[feature] = least if np.isfinite(least) else most
        last[feature] = most if feature in high else least
    return [first, last]


def _way(tree: Tree, leaf: int) -> tuple[dict[int, Any], dict[int, Any]]:
    """By feature, from which value on (inclusive) and below which one leads to the leaf."""
    low: dict[int, Any] = {}
    high: dict[int, Any] = {}
    while leaf != 0:
        above = tree.parents[leaf]
        feature, condition = tree.split_indices[above], np.float32(tree.split_conditions[above])
        if tree.left_children[above] == leaf:
            high[feature] = min(condition, high.get(feature, condition))
        else:
            low[feature] = max(condition, low.get(feature, condition))
        leaf = above
    return low, high


def _agree(booster: Any, model: Model, rows: Array) -> None:
    rows = rows[np.isfinite(rows).all(axis=1)]
    margin = booster.predict(xgboost.DMatrix(rows, nthread=1), output_margin=True, validate_features=False)
    apart = np.abs(1 / (1 + np.exp(-margin.astype(np.float64))) - model.scores(rows)[0])
    if not (apart <= TOLERANCE).all():
        raise Unfit(f"expected the booster to answer as the graph does, got {np.nanmax(apart):.2g} apart")
