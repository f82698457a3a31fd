"""What outcomes taught reaches each door of scores, with its number; other organisations keep the version's own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from feature_repo import keys
from feature_repo.services import SERVICES
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows.embedded import Embedded
from flows.lake_read import LakeReader
from flows.store import connect, open_store
from onnx_models.calibrations import applied
from onnx_models.library import Library
from serving.command import main as telltale
from tests.flows.made_models import VERSION, logistic
from tests.live import Live, environment, live
from tests.logged import Log
from tests.serving.test_users import written

SELL = SERVICES[0]
OWN = 0.5  # what the version says of nobody, since it asks for 0 checks
A, B = 1.5, -1.0
MOVED = float(applied(np.array([OWN], np.float32), A, B)[0])
OTHER = {"Authorization": "Basic b3RoZXI6"}  # other:


@pytest.fixture(scope="module")
def ground(empty_valkey: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, Settings]]:
    """An API with one model; of the organisation `main` a calibration holds, the second."""
    home = tmp_path_factory.mktemp("recalibrated")
    logistic(home / "shipped", SELL, "value_check_count_30d", 1.0, 0.0, 0.8)
    settings = Settings(
        home=home, redis_url=f"unix://{empty_valkey.where.socket}", partitions=4, models=str(home / "shipped")
    )
    with closing(connect(settings)) as client:
        client.hset(keys.KEYS, "other", "another")
    library = Library.of(settings)
    library.calibrate(SELL.name, VERSION, "elsewhere", (1.0, 2.0), "learning", "others learn too")
    with live(settings) as api:
        library.calibrate(SELL.name, VERSION, "main", (A, B), "learning", "they buy less often")
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and asked(api).get("calibration") != 2:
            time.sleep(0.05)
        yield api, settings


def asked(api: Live, **headers: str) -> Any:
    body = b'{"features": {"value_check_count_30d": 0}}'
    return api.ask("POST", f"/v1/score/{SELL.name}", body, headers or None).json


def test_an_answer_is_recalibrated_and_says_by_which(ground: tuple[Live, Settings]) -> None:
    """Within a second of the change, without a restart; what the version says before calibration stays."""
    found = asked(ground[0])
    assert (found["probability"], found["raw"], found["calibration"]) == (MOVED, OWN, 2)


def test_others_keep_the_versions_own(ground: tuple[Live, Settings]) -> None:
    """An organisation of which nothing was learned."""
    found = asked(ground[0], **OTHER)
    assert (found["probability"], "calibration" in found) == (OWN, False)


def test_the_inference_protocol_tells_the_same(ground: tuple[Live, Settings]) -> None:
    """Triton's clients get what ours get."""
    tensor = {"name": "features", "datatype": "FP32", "shape": [1, 45], "data": [0.0] * 45}
    answer = ground[0].post(f"/v2/models/{SELL.name}/infer", {"inputs": [tensor]})
    data = {output["name"]: output["data"] for output in answer.json["outputs"]}
    assert data == {"probability": [MOVED], "raw": [OWN]}


def test_a_person_is_scored_so_too(ground: tuple[Live, Settings]) -> None:
    """By id, as the page shows them."""
    written(Log(ground[1]), "ida")
    (found,) = ground[0].ask("GET", "/v1/users/ida/scores").json["scores"]
    assert found["score"] == applied(np.array([found["raw"]], np.float32), A, B)[0]
    assert found["calibration"] == 2


def test_the_log_of_predictions_keeps_the_number(ground: tuple[Live, Settings]) -> None:
    """So that what the version said can be told later."""
    api, settings = ground
    made = {asked(api)["prediction_id"]: (2, MOVED), asked(api, **OTHER)["prediction_id"]: (0, OWN)}
    with closing(connect(settings)) as client:
        reader = LakeReader(settings.lake, Vocabulary(), open_store(client), client)
        deadline, found = time.monotonic() + 5, dict[str, Any]()
        while time.monotonic() < deadline and not made.keys() <= found.keys():
            rows = reader.predictions().to_pylist()
            found = {row["prediction_id"]: (row["calibration"], row["probability"]) for row in rows}
    assert {id_: found[id_] for id_ in made} == made


def test_the_model_tells_its_own_organisations_history(ground: tuple[Live, Settings]) -> None:
    """What others learned is theirs."""
    found = ground[0].ask("GET", f"/v1/models/{SELL.name}").json["calibrations"]
    told = [(c["number"], c["organisation"], c["a"], c["b"], c["why"], c["holds"]) for c in found]
    assert told == [(2, "main", A, B, "they buy less often", True)]


def test_the_terminal_tells_everybodys(
    ground: tuple[Live, Settings], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator sees all."""
    for name, value in environment(ground[1]).items():
        if name.startswith("TELLTALE_"):
            monkeypatch.setenv(name, value)
    assert telltale(["models", "show", SELL.name]) == 0
    said = capsys.readouterr().out
    assert "calibration 2 of main: a 1.500, b -1.000, holds;" in said
    assert "calibration 1 of elsewhere: a 1.000, b +2.000, holds;" in said
