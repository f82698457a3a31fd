"""How fast scores are answered by user over HTTP, beside MLServer on the same booster in the same run.

Servers (of one process each), store and load generator share the machine's cores. Ours is sent a user's id: it looks 45
features up, scores, calibrates and logs. MLServer is sent the 45 features by the Open Inference Protocol's JSON, and
answers what the booster says. Closed loop over 8 connections (`c32`: over 32); `p99_ms_at_1000`: 1,000 requests a
second, each timed from when it was due.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from onnx_models import registry
from onnx_models.library import Library
from onnx_models.session import Model
from tests.bench.lookup import USERS, Run, load, store_with_people
from tests.bench.mlserver import mlserver
from tests.bench.options import Options
from tests.bench.result import Figure, Result, figure
from tests.live import Live, live

MODEL = "likely_to_sell"
OURS, THEIRS = f"/v1/score/{MODEL}", f"/v2/models/{MODEL}/infer"
RATE = 1_000.0


def run(options: Options) -> Result:
    seconds = options.seconds or 6.0
    with store_with_people() as settings, tempfile.TemporaryDirectory(prefix="telltale-bench-") as place:
        model = Library.of(settings).deployed(MODEL)
        room = Path(place)
        (room / "mlserver").mkdir()
        ids, rows = _bodies(room, len(model.inputs))
        with live(settings) as ours, mlserver(room / "mlserver", model, settings) as theirs:
            _agree(ours, theirs, model)
            load(ours, 8, 1.0, 0, ids, OURS)
            load(theirs, 8, 1.0, 0, rows, THEIRS)
            rounds = [
                {
                    "c8": load(ours, 8, seconds, 0, ids, OURS),
                    "c32": load(ours, 32, seconds, 0, ids, OURS),
                    "paced": load(ours, 8, seconds, RATE, ids, OURS),
                    "their_c8": load(theirs, 8, seconds, 0, rows, THEIRS),
                }
                for _ in range(options.runs)
            ]
    return _result(rounds)


def _result(rounds: list[dict[str, Run]]) -> Result:
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
    ours["ratio_mlserver"] = figure([rate(r["c8"]) / rate(r["their_c8"]) for r in rounds], "x")
    return Result(ours, {"mlserver": figures("their_c8")})


def _bodies(room: Path, inputs: int) -> tuple[Path, Path]:
    """Requests to ours and to theirs, a line each."""
    rng, ids, rows = random.Random(5), room / "ids", room / "rows"
    ids.write_bytes(b"\n".join(msgspec.json.encode({"id": f"user-{rng.randrange(USERS)}"}) for _ in range(2_000)))
    rows.write_bytes(b"\n".join(_row([rng.random() * 90 for _ in range(inputs)]) for _ in range(2_000)))
    return ids, rows


def _row(values: list[float]) -> bytes:
    tensor = {"name": "features", "shape": [1, len(values)], "datatype": "FP32", "data": values}
    return msgspec.json.encode({"inputs": [tensor]})


def _agree(ours: Live, theirs: Live, model: Model) -> None:
    """Both serve the same model. Raises RuntimeError where they do not."""
    values = np.random.default_rng(1).integers(0, 9, len(model.inputs)).astype(float).tolist()
    mine = ours.post(OURS, {"features": dict(zip(model.inputs, values, strict=True))}).json["raw"]
    their = msgspec.json.decode(theirs.ask("POST", THEIRS, _row(values)).body)["outputs"][0]["data"][0]
    if abs(mine - their) > registry.TOLERANCE:
        raise RuntimeError(f"expected the same answer of both servers, got {mine} and {their}")
