"""What a model's graph may be: an ONNX of few plain operators, whole in itself, whose trees are trees.

ONNX Runtime checks none of this: it reads external files, runs loops, and follows tree nodes wherever they point.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, TensorProto, helper

from onnx_models.session import INPUT

NODES = 1_000  # operators
ELEMENTS = 4 << 20  # of a constant
TARGETS = 64
ALLOWED = {
    "": {"Add", "Cast", "Clip", "Constant", "Div", "Exp", "Gemm", "Identity", "MatMul", "Mul"}
    | {"Neg", "ReduceSum", "Reshape", "Sigmoid", "Squeeze", "Sub", "Unsqueeze"},
    "ai.onnx.ml": {"TreeEnsembleRegressor"},
}
_KINDS = (AttributeProto.FLOAT, AttributeProto.FLOATS, AttributeProto.INT, AttributeProto.INTS)
_PLAIN = (*_KINDS, AttributeProto.STRING, AttributeProto.STRINGS)


class Unfit(ValueError):
    """A graph or booster that is not what we export."""


def check(content: bytes, inputs: int) -> None:
    """Raises Unfit that names what was expected."""
    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, RecursionError) as error:
        raise Unfit(f"expected an ONNX model: {error}") from error
    graph = model.graph
    sets = sorted({opset.domain for opset in model.opset_import} - set(ALLOWED))
    _expect(not sets, f"expected operators of ONNX alone, got those of {sets}")
    _expect(not model.functions and not model.training_info, "expected no functions and no training")
    _expect(len(graph.node) <= NODES, f"expected at most {NODES} operators, got {len(graph.node)}")
    _expect([i.name for i in graph.input] == [INPUT], f"expected one input called {INPUT}")
    _expect(len(graph.output) == 2, f"expected two outputs, got {len(graph.output)}")
    _expect(not graph.sparse_initializer, "expected no sparse constants")
    _constants(graph.initializer)
    for node in graph.node:
        _node(node, inputs)


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Unfit(otherwise)


def _constants(tensors: Iterable[Any]) -> None:
    for tensor in tensors:
        inside = tensor.data_location == TensorProto.DEFAULT and not tensor.external_data
        _expect(inside, f"expected all data in the model, but {tensor.name[:100]!r} is in another file")
        fits = all(0 <= dim <= ELEMENTS for dim in tensor.dims) and prod(tensor.dims) <= ELEMENTS
        _expect(fits, f"expected at most {ELEMENTS} elements, got {list(tensor.dims)[:8]} in {tensor.name[:100]!r}")


def _node(node: Any, inputs: int) -> None:
    allowed = node.op_type in ALLOWED.get(node.domain, ())
    _expect(allowed, f"expected operators that our exports use, got {node.domain[:50]}:{node.op_type[:50]}")
    for attribute in node.attribute:
        constant = attribute.type == AttributeProto.TENSOR
        plain = attribute.type in _PLAIN or constant
        _expect(plain, f"expected numbers and words as attributes, {attribute.name[:100]!r} is something else")
        _constants([attribute.t] if constant else [])
    if node.op_type == "TreeEnsembleRegressor":
        _trees({a.name: helper.get_attribute_value(a) for a in node.attribute}, inputs)


def _trees(given: dict[str, Any], inputs: int) -> None:
    """Every node is in a tree, below one other at most, and asks for an input that there is."""
    tensors = sorted(name for name in given if name.endswith("_as_tensor"))
    _expect(not tensors, f"expected trees in plain numbers, got {tensors}")
    parts = ("treeids", "nodeids", "truenodeids", "falsenodeids", "featureids", "modes", "values")
    columns = [list(given.get(f"nodes_{part}", [])) for part in parts]
    _expect(len({len(column) for column in columns}) == 1, "expected as many of each of a tree's columns")
    _leaves(given, set(zip(columns[0], columns[1], strict=True)))
    branches = [row[:5] for row in zip(*columns, strict=True) if row[5] != b"LEAF"]
    features = {row[4] for row in branches}
    _expect(not features or 0 <= min(features) <= max(features) < inputs, f"expected features 0-{inputs - 1} in trees")
    for tree in set(columns[0]):
        ids = [node for of, node in zip(columns[0], columns[1], strict=True) if of == tree]
        below = [child for row in branches if row[0] == tree for child in row[2:4]]
        is_tree(ids, below, f"tree {tree}")


def _leaves(given: dict[str, Any], nodes: set[tuple[int, int]]) -> None:
    parts = [list(given.get(f"target_{part}", [])) for part in ("treeids", "nodeids", "ids", "weights")]
    targets = given.get("n_targets", 1)
    _expect(len({len(part) for part in parts}) == 1, "expected as many of each of the leaves' columns")
    _expect(1 <= targets <= TARGETS, f"expected at most {TARGETS} targets, got {targets}")
    _expect(all(0 <= target < targets for target in parts[2]), f"expected targets below {targets}")
    _expect(set(zip(*parts[:2], strict=True)) <= nodes, "expected a node for each leaf's weight")


def is_tree(nodes: Sequence[int], below: Sequence[int], name: str) -> None:
    """The first node is below none, every other below one: no way leads round. Raises Unfit."""
    _expect(len(set(nodes)) == len(nodes), f"expected {name} to have each node once")
    times = Counter(below)
    _expect(set(times) <= set(nodes), f"expected {name} to lead to nodes of its own")
    once = all(count == 1 for count in times.values()) and len(times) == len(nodes) - 1
    _expect(once and nodes[0] not in times, f"expected {name} to be a tree, but its nodes lead to one another")
