"""How fast scores are answered by user over HTTP, beside MLServer, and FastAPI with Feast, on one booster and store.

Servers (of one process each), store and load generator share the machine's cores. Ours is sent a user's id: it looks 45
features up, scores, calibrates and logs. FastAPI is sent the same: Feast's SDK looks them up, XGBoost scores, nothing
is logged. MLServer is sent the 45 features by the Open Inference Protocol's JSON, and answers what the booster says.
Closed loop over 8 connections (`c32`: over 32); `p99_ms_at_1000`: 1,000 requests a second, each timed from when it was
due.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import numpy as np

from feature_repo.settings import Settings
from onnx_models import registry
from onnx_models.library import Library
from onnx_models.session import Model
from tests.bench import fastapi_feast, mlserver
from tests.bench.environments import environment, versions
from tests.bench.lookup import USERS, Run, load, store_with_people
from tests.bench.options import Options
from tests.bench.result import Figure, Result, figure
from tests.live import Live, live

MODEL = "likely_to_sell"
OURS = f"/v1/score/{MODEL}"
RATE = 1_000.0


class Contender(msgspec.Struct):
    """A peer: how it is started in a directory of its own, of which packages, and how it is asked."""

    name: str
    serve: Callable[[Path, Model, Settings], AbstractContextManager[Live]]
    packages: tuple[str, ...]
    path: str
    takes_ids: bool

    def raw(self, server: Live, user: str, values: list[float]) -> float:
        """What it answers for a user, or for these features where it is sent those."""
        body = msgspec.json.encode({"id": user}) if self.takes_ids else _row(values)
        answer = server.ask("POST", self.path, body, {"Content-Type": "application/json"}).json
        return float(answer["raw"] if self.takes_ids else answer["outputs"][0]["data"][0])


PEERS = (
    Contender("mlserver", mlserver.mlserver, mlserver.PACKAGES, f"/v2/models/{MODEL}/infer", takes_ids=False),
    Contender("fastapi_feast", fastapi_feast.fastapi_feast, fastapi_feast.PACKAGES, "/score", takes_ids=True),
)


def run(options: Options) -> Result:
    seconds, skipped = options.seconds or 6.0, dict[str, str]()
    with store_with_people() as settings, tempfile.TemporaryDirectory(prefix="telltale-bench-") as place:
        model, room = Library.of(settings).deployed(MODEL), Path(place)
        ids, rows = _bodies(room, len(model.inputs))
        with live(settings) as ours, contextlib.ExitStack() as running:
            load(ours, 8, 1.0, 0, ids, OURS)
            theirs = _started(room, model, ours, running, skipped)
            for peer, server in theirs:
                load(server, 8, 1.0, 0, ids if peer.takes_ids else rows, peer.path)
            rounds = [
                {
                    "c8": load(ours, 8, seconds, 0, ids, OURS),
                    "c32": load(ours, 32, seconds, 0, ids, OURS),
                    "paced": load(ours, 8, seconds, RATE, ids, OURS),
                    **{
                        peer.name: load(server, 8, seconds, 0, ids if peer.takes_ids else rows, peer.path)
                        for peer, server in theirs
                    },
                }
                for _ in range(options.runs)
            ]
    return _result(rounds, [peer for peer, _ in theirs], skipped)


def _started(
    room: Path, model: Model, ours: Live, running: contextlib.ExitStack, skipped: dict[str, str]
) -> list[tuple[Contender, Live]]:
    """The peers that can be had, once they have answered as ours does."""
    found = []
    for peer in PEERS:
        try:
            server = running.enter_context(peer.serve(_made(room / peer.name), model, ours.settings))
        except RuntimeError as error:  # it cannot be had, or does not start here
            skipped[peer.name] = str(error)
        else:
            _agree(ours, server, model, peer)
            found.append((peer, server))
    return found


def _made(place: Path) -> Path:
    place.mkdir()
    return place


def _result(rounds: list[dict[str, Run]], peers: list[Contender], skipped: dict[str, str]) -> Result:
    def rate(found: Run) -> float:
        return found["requests"] / found["seconds"]

    def figures(run: str, prefix: str = "") -> dict[str, Figure]:
        return {
            f"requests_per_s{prefix}": figure([rate(r[run]) for r in rounds], "1/s"),
            f"p99_ms{prefix}": figure([r[run]["p99_ms"] for r in rounds], "ms"),
        }

    ours = figures("c8") | figures("c32", "_c32")
    ours["p99_ms_at_1000"] = figure([r["paced"]["p99_ms"] for r in rounds], "ms")
    ours["p50_ms_at_1000"] = figure([r["paced"]["p50_ms"] for r in rounds], "ms")
    for peer in peers:
        ours[f"ratio_{peer.name}"] = figure([rate(r["c8"]) / rate(r[peer.name]) for r in rounds], "x")
    return Result(
        ours,
        {peer.name: figures(peer.name) for peer in peers},
        {peer.name: versions(environment(peer.name, *peer.packages), *peer.packages) for peer in peers},
        skipped,
    )


def _bodies(room: Path, inputs: int) -> tuple[Path, Path]:
    """Requests to ours and to theirs, a line each."""
    rng, ids, rows = random.Random(5), room / "ids", room / "rows"
    ids.write_bytes(b"\n".join(msgspec.json.encode({"id": f"user-{rng.randrange(USERS)}"}) for _ in range(2_000)))
    rows.write_bytes(b"\n".join(_row([rng.random() * 90 for _ in range(inputs)]) for _ in range(2_000)))
    return ids, rows


def _row(values: list[float]) -> bytes:
    tensor = {"name": "features", "shape": [1, len(values)], "datatype": "FP32", "data": values}
    return msgspec.json.encode({"inputs": [tensor]})


def _agree(ours: Live, theirs: Live, model: Model, peer: Contender) -> None:
    """Both serve the same model, on the same features. Raises RuntimeError where they do not."""
    values = np.random.default_rng(1).integers(0, 9, len(model.inputs)).astype(float).tolist()
    asked = {"id": "user-7"} if peer.takes_ids else {"features": dict(zip(model.inputs, values, strict=True))}
    mine, their = ours.post(OURS, asked).json["raw"], peer.raw(theirs, "user-7", values)
    if abs(mine - their) > registry.TOLERANCE:
        raise RuntimeError(f"expected the same answer of ours and {peer.name}, got {mine} and {their}")
