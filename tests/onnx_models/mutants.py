"""Versions that are no model: cut, flipped and hostile ones, each with the right checksums: only a try tells."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_models import card, registry
from onnx_models.registry import digest

NAME = "likely_to_sell"
VERSION = "20990101000000"
Graph = Callable[[Any], None]


def original() -> Path:
    """A model of trees as it ships."""
    return registry.HERE / NAME / registry.versions(NAME)[-1]


def sealed(place: Path, **changes: object) -> Path:
    """The directory with metadata that fit its files, as whoever made it would write them."""
    file = place / card.METADATA
    told = card.decode(file.read_bytes())
    files = {name: digest((place / name).read_bytes()) for name in (card.ONNX, card.BOOSTER)}
    made = msgspec.structs.replace(told, name=NAME, version=VERSION, files=files)
    file.write_bytes(card.encode(msgspec.structs.replace(made, **changes)))
    return place


def copy(directory: Path, name: str) -> Path:
    """The original as a version of its own, under `directory`/`name`."""
    return sealed(Path(shutil.copytree(original(), directory / name / NAME / VERSION)))


def flipped(directory: Path, count: int, seed: int) -> Iterator[Path]:
    """One to four bytes of the graph or the booster are others."""
    dice = random.Random(seed)
    for i in range(count):
        place = copy(directory, f"flipped_{i}")
        file = place / (card.BOOSTER if i % 4 == 3 else card.ONNX)
        content = bytearray(file.read_bytes())
        for _ in range(dice.randint(1, 4)):
            content[dice.randrange(len(content))] ^= dice.randrange(1, 256)
        file.write_bytes(content)
        yield sealed(place)


def cut(directory: Path, count: int, seed: int) -> Iterator[Path]:
    """The graph or the booster ends somewhere, or lacks a piece."""
    dice = random.Random(seed)
    for i in range(count):
        place = copy(directory, f"cut_{i}")
        file = place / (card.BOOSTER if i % 4 == 3 else card.ONNX)
        content = file.read_bytes()
        low = dice.randrange(len(content) - 1)
        high = len(content) if i % 2 else min(low + dice.randint(1, 500), len(content))
        file.write_bytes(content[:low] + content[high:])
        yield sealed(place)


def hostile(directory: Path) -> Iterator[Path]:
    """Each of the graphs below, in a version of its own, and files that are not its own."""
    for name, change in GRAPHS.items():
        place = copy(directory, name)
        model = onnx.load_model_from_string((place / card.ONNX).read_bytes())
        change(model)
        (place / card.ONNX).write_bytes(model.SerializeToString())
        yield sealed(place)
    place = copy(directory, "nested")
    (place / card.ONNX).write_bytes(_nested())
    yield sealed(place)
    yield from _linked(directory)


def _linked(directory: Path) -> Iterator[Path]:
    for name, link in (("hard_link", os.link), ("symbolic_link", os.symlink)):
        place = copy(directory, name)
        (directory / f"{name}.onnx").write_bytes((place / card.ONNX).read_bytes())
        (place / card.ONNX).unlink()
        link(directory / f"{name}.onnx", place / card.ONNX)
        yield place
    place = copy(directory, "weights_beside")
    (directory / "secret").write_bytes(bytes(400))
    os.link(directory / "secret", place / "weights.bin")
    yield place


def _external(where: str) -> Graph:
    def change(model: Any) -> None:
        tensor = model.graph.initializer[1]
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": where, "offset": "0", "length": "4"}.items():
            tensor.external_data.add(key=key, value=value)

    return change


def _instead(*nodes: Any, constants: dict[str, Any] | None = None) -> Graph:
    """`calibrated` comes from these nodes."""

    def change(model: Any) -> None:
        del model.graph.node[-1]
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in (constants or {}).items())

    return change


def _loop(model: Any) -> None:
    """Ever the same condition, and no number of rounds."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [None]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [None]),
        ],
    )
    loop = helper.make_node("Loop", ["", "yes", "raw"], ["calibrated"], body=body)
    _instead(loop, constants={"yes": np.array(True)})(model)


def _if(model: Any) -> None:
    out = helper.make_tensor_value_info("z", TensorProto.FLOAT, [None])
    branch = helper.make_graph([helper.make_node("Identity", ["raw"], ["z"])], "branch", [], [out])
    node = helper.make_node("If", ["yes"], ["calibrated"], then_branch=branch, else_branch=branch)
    _instead(node, constants={"yes": np.array(True)})(model)


def _square(model: Any) -> None:
    """Every row times every row, and that twice."""
    nodes = []
    for i, name in enumerate(("raw", "p1", "p2")):
        nodes += [
            helper.make_node("Reshape", [name, "across"], [f"a{i}"]),
            helper.make_node("Reshape", [name, "down"], [f"d{i}"]),
            helper.make_node("Mul", [f"a{i}", f"d{i}"], [f"p{i + 1}"]),
        ]
    nodes.append(helper.make_node("Reshape", ["p3", "flat"], ["calibrated"]))
    _instead(*nodes, constants={"across": np.array([1, -1]), "down": np.array([-1, 1])})(model)


def _huge(model: Any) -> None:
    """A tensor that says it is large."""
    model.graph.initializer[1].dims[:] = [1 << 40, 1 << 20]


def _fill(model: Any) -> None:
    """A tensor made large when it runs."""
    fill = helper.make_node("ConstantOfShape", ["shape"], ["filled"])
    add = helper.make_node("Add", ["raw", "filled"], ["calibrated"])
    _instead(fill, add, constants={"shape": np.array([1 << 33])})(model)


def _trees(name: str, change: Callable[[list[int]], None]) -> Graph:
    def change_(model: Any) -> None:
        node = next(node for node in model.graph.node if node.op_type == "TreeEnsembleRegressor")
        attribute = next(a for a in node.attribute if a.name == name)
        values = list(attribute.ints)
        change(values)
        attribute.ints[:] = values

    return change_


def _set(at: int, value: int) -> Callable[[list[int]], None]:
    def change(values: list[int]) -> None:
        values[at] = value

    return change


def _targets(model: Any) -> None:
    node = next(node for node in model.graph.node if node.op_type == "TreeEnsembleRegressor")
    next(a for a in node.attribute if a.name == "n_targets").i = 1 << 40


def _foreign(model: Any) -> None:
    model.opset_import.add(domain="com.example", version=1)
    _instead(helper.make_node("Anything", ["raw"], ["calibrated"], domain="com.example"))(model)


def _function(model: Any) -> None:
    model.opset_import.add(domain="own", version=1)
    node = helper.make_node("Twice", ["raw"], ["calibrated"], domain="own")
    opset = [helper.make_opsetid("", 15)]
    model.functions.append(
        helper.make_function("own", "Twice", ["x"], ["y"], [helper.make_node("Sigmoid", ["x"], ["y"])], opset)
    )
    _instead(node)(model)


def _nested() -> bytes:
    """A graph in a graph in a graph..., deeper than a parser's stack."""
    content = b""
    for _ in range(2_000):
        for number in (6, 5, 1):  # an attribute's graph, a node's attribute, a graph's node
            content = _field(number, content)
    return _field(7, content)


def _field(number: int, content: bytes) -> bytes:
    """Length-delimited, as protobuf writes it."""
    length, size = b"", len(content)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def _answer(value: float) -> Graph:
    """All rows get the same."""
    constants = {"zero": np.array(0, np.float32), "value": np.array(value, np.float32)}
    multiply = helper.make_node("Mul", ["raw", "zero"], ["none"])
    return _instead(multiply, helper.make_node("Add", ["none", "value"], ["calibrated"]), constants=constants)


def _slow(model: Any) -> None:
    """Nothing forbidden, only much of it."""
    side = 2_000
    shapes = {"wide": (45, side), "again": (side, side), "one": (side, 1)}
    names = ["features", *(f"m{i}" for i in range(33)), "column"]
    nodes = [
        helper.make_node("MatMul", [before, weights], [after])
        for before, weights, after in zip(names[:-1], ["wide", *["again"] * 32, "one"], names[1:], strict=True)
    ]
    nodes.append(helper.make_node("Reshape", ["column", "flat"], ["nothing"]))
    model.graph.node[-1].output[0] = "true"
    model.graph.node.extend(nodes)
    model.graph.node.append(helper.make_node("Add", ["nothing", "true"], ["calibrated"]))
    zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in zeros.items())


GRAPHS: dict[str, Graph] = {
    "external_absolute": _external("/etc/hostname"),
    "external_above": _external("../../../../etc/hostname"),
    "external_beside": _external("metadata.json"),
    "endless_loop": _loop,
    "branching": _if,
    "squared": _square,
    "huge": _huge,
    "filled": _fill,
    "foreign": _foreign,
    "function": _function,
    "round_and_round": _trees("nodes_truenodeids", _set(0, 0)),
    "other_trees_node": _trees("nodes_falsenodeids", _set(0, 1 << 20)),
    "feature_beyond": _trees("nodes_featureids", _set(0, 1 << 30)),
    "feature_before": _trees("nodes_featureids", _set(0, -(1 << 20))),
    "leaf_nowhere": _trees("target_nodeids", _set(0, 1 << 20)),
    "targets": _targets,
    "slow": _slow,
    "not_a_number": _answer(float("nan")),
    "beyond_one": _answer(1.5),
}
