"""MLServer, with a booster of ours: in an environment of its own, made when it is first needed."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from feature_repo.settings import Settings
from onnx_models.card import BOOSTER
from onnx_models.session import Model
from tests.bench.environments import Missing, environment
from tests.live import Live, free_port

PACKAGES = ("mlserver==1.7.1", "mlserver-xgboost==1.7.1", "xgboost==3.2.*")
PATIENCE = 60.0  # seconds; it takes some ten to start


@contextlib.contextmanager
def mlserver(place: Path, model: Model, settings: Settings) -> Iterator[Live]:
    """Serves the model's booster in one process, one thread, without workers; ended at the end."""
    programs, port = environment("mlserver", *PACKAGES), free_port()
    shutil.copy(model.directory / BOOSTER, place)
    of_server = {"host": "127.0.0.1", "http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    _write(place / "settings.json", of_server | {"parallel_workers": 0, "debug": False})
    parameters = {"uri": f"./{BOOSTER}", "version": model.version}
    implementation = "mlserver_xgboost.XGBoostModel"
    _write(
        place / "model-settings.json",
        {"name": model.name, "implementation": implementation, "parameters": parameters},
    )
    with (place / "log").open("wb") as out:
        environ = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen([programs / "mlserver", "start", place], env=environ, stdout=out, stderr=out)
    server = Live(msgspec.structs.replace(settings, port=port), process)
    try:
        _await(server, f"/v2/models/{model.name}/ready", place / "log")
        yield server
    finally:
        process.terminate()
        process.wait(30)


def _write(file: Path, content: object) -> None:
    file.write_bytes(msgspec.json.encode(content))


def _await(server: Live, path: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while server.process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if server.ask("GET", path).status == 200:
                return
        time.sleep(0.1)
    raise Missing(f"MLServer did not start: {log.read_text()[-1000:]}")
