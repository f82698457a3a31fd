"""The whole of ours: the same lines into the log, and everything written to the store, each commit with an fsync.

`python -m tests.bench.contenders.stored LINES MODEL`. This process decodes the lines and appends them with their raw
JSON, as the API does; the engine is the very process of `telltale up`, over a domain of these events, features and
model: it writes state, features, message ids, positions and alerts. Engine and store run before the clock starts; it
stops when the last line's features stand in the store.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from feature_repo import keys
from feature_repo.declare import Service
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary, load
from flows.entry import Draft
from flows.resp import Connection, pack
from flows.state import identity
from flows.store import Store, dial
from flows.streams import append
from onnx_models import card
from onnx_models.registry import digest
from onnx_models.session import INPUT
from tests.bench.contenders.lines import TYPES
from tests.bench.contenders.model import Scorer
from tests.bench.contenders.ours import Call
from tests.bench.engine import running, said, store_for_bench, wait_for

DOMAIN = Path(__file__).parent / "counts"
VERSION = "20260101000000"
CHUNK = 1 << 20  # bytes of lines in one append
AHEAD = 2  # appends under way, as of the API
THRESHOLD = 0.95


def post(settings: Settings, store: Store, vocabulary: Vocabulary, lines: Path) -> int:
    """All lines into the log, an entry a partition and chunk; how many."""
    connection, total, waiting = dial(settings), 0, list[int]()
    for drafts in _drafts(lines, store, vocabulary):
        commands = [pack("MULTI")]
        for p, draft in drafts.items():
            entry, raw = draft.encode(vocabulary.fingerprint), draft.encode_raw()
            commands.append(append("log", p, max(draft.ts), "e", entry, "r", raw))
            commands.append(pack("HINCRBY", keys.counts(p), "accepted", len(draft)))
            total += len(draft)
        connection.send(b"".join([*commands, pack("EXEC")]))
        waiting.append(len(commands) + 1)
        if len(waiting) == AHEAD:
            _stored(connection, waiting.pop(0))
    for replies in waiting:
        _stored(connection, replies)
    connection.close()
    return total


def _drafts(lines: Path, store: Store, vocabulary: Vocabulary) -> Iterator[dict[int, Draft]]:
    """The events of each chunk of lines, by partition."""
    decoder, codes, line = msgspec.json.Decoder(Call), {name: vocabulary.code[name, None] for name in TYPES}, 0
    with lines.open("rb") as file:
        while chunk := file.readlines(CHUNK):
            drafts = {p: Draft() for p in range(store.partitions)}
            for raw, call in zip(chunk, decoder.decode_lines(b"".join(chunk)), strict=True):
                line += 1
                name = b"main/" + call.user.encode()
                uid = identity(store, name)
                drafts[uid % store.partitions].add(uid, name, line, call.ts, codes[call.event], 0, raw)
            yield {p: draft for p, draft in drafts.items() if len(draft)}


def _stored(connection: Connection, replies: int) -> None:
    """Raises RuntimeError where the store did not take it all."""
    for _ in range(replies - 1):
        connection.read()
    if wrong := [each for each in connection.read() if isinstance(each, Exception)]:
        raise RuntimeError(f"expected the store to take it: {wrong[0]}")


def write_version(directory: Path, service: Service, model: Path) -> None:
    """The contenders' model as a version that the engine trusts: the same trees, their margin through a sigmoid."""
    place = directory / service.name / VERSION
    place.mkdir(parents=True)
    (place / card.ONNX).write_bytes(_graph(onnx.load(model)))
    (place / card.BOOSTER).write_bytes(b"")
    rows = np.random.default_rng(1).poisson(3.0, (16, len(service.features))).astype(np.float32)
    answers = Scorer(model).scores(rows).tolist()
    metadata = card.Metadata(
        name=service.name,
        version=VERSION,
        service=service.name,
        alert=service.alert,
        outcome="",
        horizon_days=90,
        inputs=service.features,
        threshold=THRESHOLD,
        budget=0.1,
        files={name: digest((place / name).read_bytes()) for name in (card.ONNX, card.BOOSTER)},
        golden=card.Golden(rows.tolist(), answers, answers),
        trained_on={},
        metrics={},
        vocabulary=0,
        packages={},
    )
    (place / card.METADATA).write_bytes(card.encode(metadata))


def _graph(made: onnx.ModelProto) -> bytes:
    """A classifier's trees as a regressor's, which is what the registry lets in."""
    (classifier,) = (node for node in made.graph.node if node.op_type == "TreeEnsembleClassifier")
    given = {a.name: helper.get_attribute_value(a) for a in classifier.attribute}
    kept = {name: value for name, value in given.items() if name.startswith(("nodes_", "base_values"))}
    leaves = {f"target_{name}": given[f"class_{name}"] for name in ("nodeids", "treeids", "weights")}
    ids, sort = [0] * len(given["class_ids"]), "TreeEnsembleRegressor"
    trees = helper.make_node(
        sort, [INPUT], ["margins"], domain="ai.onnx.ml", n_targets=1, target_ids=ids, **kept, **leaves
    )
    nodes = [
        trees,
        helper.make_node("Reshape", ["margins", "flat"], ["margin"]),
        helper.make_node("Sigmoid", ["margin"], ["raw"]),
        helper.make_node("Identity", ["raw"], ["calibrated"]),
    ]
    columns = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, 2 * len(TYPES)])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in ("raw", "calibrated")]
    graph = helper.make_graph(nodes, "counts", [columns], outputs, [numpy_helper.from_array(np.array([-1]), "flat")])
    sets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 1)]
    return bytes(helper.make_model(graph, opset_imports=sets, ir_version=8).SerializeToString())


def main(lines: Path, model: Path) -> None:
    vocabulary = load(str(DOMAIN))
    with store_for_bench() as (plain, _, client, store):
        models = plain.home / "models"
        write_version(models, vocabulary.services[0], model)
        settings = msgspec.structs.replace(plain, feature_repo=str(DOMAIN), models=str(models))
        with running(settings, client):
            began = time.perf_counter()
            n = post(settings, store, vocabulary, lines)
            wait_for(client, store, n)
            seconds = time.perf_counter() - began
            written, alerts = said(client)["users_written"], client.xlen(keys.ALERTS)
    sys.stdout.write(f"{n} {seconds} {written} {alerts}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
