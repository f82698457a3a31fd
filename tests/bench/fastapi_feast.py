"""A scoring service of FastAPI, Feast's SDK and XGBoost over our store, in an environment made when first needed."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from onnx_models.card import BOOSTER
from onnx_models.session import Model
from serving.feast_address import feast_address
from tests.bench.environments import Missing, environment
from tests.bench.result import ROOT
from tests.feast_serve import room
from tests.live import ORGANISATION, Live, free_port

PACKAGES = ("fastapi==0.165.0", "uvicorn[standard]==0.54.0", "feast[duckdb,redis]==0.67.0", "xgboost==3.2.*")
PATIENCE = 60.0  # seconds; it takes some ten to start


@contextlib.contextmanager
def fastapi_feast(place: Path, model: Model, settings: Settings) -> Iterator[Live]:
    """Answers `POST /score` of `{"id": ...}` by the model's booster, in one process; ended at the end."""
    python, port = environment("fastapi_feast", *PACKAGES) / "python", free_port()
    repo, log = room(place, settings), place / "log"
    view = Vocabulary().view
    inputs = ",".join(f"{view}:{name}" for name in model.inputs)
    words = [str(port), str(repo), str(model.directory / BOOSTER), inputs, f"{ORGANISATION}/"]
    environ = {**os.environ, "TELLTALE_FEAST_REDIS": feast_address(settings), "FEAST_USAGE": "False"}
    environ["OMP_NUM_THREADS"] = "1"
    with log.open("wb") as out:
        file = ROOT / "tests" / "bench" / "contenders" / "in_fastapi.py"
        process = subprocess.Popen([python, file, *words], cwd=place, env=environ, stdout=out, stderr=out)
    server = Live(msgspec.structs.replace(settings, port=port), process)
    try:
        _await(server, log)
        yield server
    finally:
        process.terminate()
        process.wait(30)


def _await(server: Live, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while server.process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if server.ask("GET", "/health").status == 200:
                return
        time.sleep(0.1)
    raise Missing(f"FastAPI did not start: {log.read_text()[-1000:]}")
