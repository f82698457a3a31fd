"""A scoring service of FastAPI, Feast's SDK and XGBoost over our store, in an environment made when first needed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from onnx_models.card import BOOSTER
from onnx_models.session import Model
from serving.feast_address import feast_address
from tests.bench.environments import environment
from tests.bench.result import ROOT
from tests.feast_serve import answering, room
from tests.live import ORGANISATION, Live, free_port

PACKAGES = ("fastapi==0.165.0", "uvicorn[standard]==0.54.0", "feast[duckdb,redis]==0.67.0", "xgboost==3.2.*")


@contextlib.contextmanager
def fastapi_feast(place: Path, model: Model, settings: Settings) -> Iterator[Live]:
    """Answers `POST /score` of `{"id": ...}` by the model's booster, in one process; ended at the end."""
    python, port = environment("fastapi_feast", *PACKAGES) / "python", free_port()
    repo, view = room(place, settings), Vocabulary().view
    inputs = ",".join(f"{view}:{name}" for name in model.inputs)
    file = ROOT / "tests" / "bench" / "contenders" / "in_fastapi.py"
    words = [str(port), str(repo), str(model.directory / BOOSTER), inputs, f"{ORGANISATION}/"]
    environ = {**os.environ, "TELLTALE_FEAST_REDIS": feast_address(settings), "FEAST_USAGE": "False"}
    with answering(
        "FastAPI", [python, file, *words], place, environ | {"OMP_NUM_THREADS": "1"}, settings, port
    ) as server:
        yield server
