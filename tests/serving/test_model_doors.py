"""The registry over HTTP: what stands, changes with their reasons, training jobs; every process follows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from feature_repo import keys
from feature_repo.services import SERVICES
from feature_repo.settings import Settings
from flows.alert import decode
from flows.embedded import Embedded
from onnx_models import card
from onnx_models.library import Library
from onnx_models.making import making
from serving.command import main as telltale
from tests.flows.made_models import logistic
from tests.live import Live, environment, live, worker
from tests.logged import Log
from tests.serving.test_ingest import basic
from tests.serving.test_users import written

SERVICE = next(service for service in SERVICES if service.alert)
NAME = SERVICE.name
CHECKS = 6  # of a home's value, which make every version fire
A, B, C, D = (f"2026010{day}000000" for day in (1, 2, 3, 4))


@pytest.fixture(scope="module")
def ground(empty_valkey: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, Settings, Log]]:
    """An API whose home trained B, C and D of a model; A ships."""
    home = tmp_path_factory.mktemp("models")
    redis_url, shipped = f"unix://{empty_valkey.where.socket}", home / "shipped"
    for i, version in enumerate((A, B, C, D)):
        directory = shipped if version == A else home / "onnx_models"
        logistic(directory, SERVICE, "value_check_count_30d", i + 1.0, CHECKS - 2.0, 0.8, version=version)
    settings = Settings(home=home, redis_url=redis_url, partitions=4, clock="log", models=str(shipped))
    with live(settings) as api:
        yield api, settings, Log(settings)


@pytest.fixture
def api(ground: tuple[Live, Settings, Log]) -> Live:
    """With D deployed, as if nothing had been changed."""
    (ground[1].home / "onnx_models" / NAME / "registry.json").unlink(missing_ok=True)
    ground[0].post(f"/v1/models/{NAME}/reload", {})
    return ground[0]


@pytest.fixture
def log(ground: tuple[Live, Settings, Log]) -> Log:
    return ground[2]


@pytest.fixture
def library(ground: tuple[Live, Settings, Log]) -> Library:
    return Library.of(ground[1])


@pytest.mark.parametrize("what", ["promote", "rollback", "train"])
def test_models_are_an_administrators_business(api: Live, library: Library, log: Log, what: str) -> None:
    """They score for every organisation: a write key reads of them, and changes nothing."""
    log.client.hset(keys.KEYS, "plain", "acme")
    headers = {"Authorization": basic("plain"), "Content-Type": "application/json"}
    before = library.book(NAME)
    answer = api.ask("POST", f"/v1/models/{NAME}/{what}", b'{"version": "%s"}' % A.encode(), headers)
    assert answer.status == 403
    assert "telltale keys make NAME --admin" in answer.json["detail"]
    assert library.book(NAME) == before
    assert api.ask("GET", f"/v1/models/{NAME}/versions", None, headers).status == 200


def test_all_models_are_listed(api: Live) -> None:
    """Every service and its versions; one without a model says where it was looked for."""
    found = {model["name"]: model for model in api.ask("GET", "/v1/models").json["models"]}
    assert set(found) == {service.name for service in SERVICES}
    ours = found[NAME]
    assert (ours["deployed"], ours["scoring"], ours["shadow"], ours["refused"]) == (D, D, None, None)
    states = [(version["version"], version["state"], version["ships"]) for version in ours["versions"]]
    assert states == [(D, "DEPLOYED", False), (C, "RETIRED", False), (B, "RETIRED", False), (A, "RETIRED", True)]
    other = found["likely_to_buy"]
    assert (other["deployed"], other["scoring"], other["versions"]) == (None, None, [])
    assert "found none" in other["refused"]


def test_a_promotion_is_what_scores_at_once(api: Live, ground: tuple[Live, Settings, Log]) -> None:
    """The answer to a promotion comes when this process scores with the version; the history says who and why."""
    written(ground[2], "promoted")
    answer = api.post(f"/v1/models/{NAME}/promote", {"version": B, "why": "better in May"})
    assert (answer.status, answer.json["deployed"], answer.json["generation"]) == (200, B, 1)
    (score,) = api.ask("GET", "/v1/users/promoted/scores").json["scores"]
    assert (score["model"], score["version"]) == (NAME, B)
    (change,) = api.ask("GET", f"/v1/models/{NAME}/versions").json["history"]
    assert (change["who"], change["what"], change["version"], change["why"]) == ("main", "promote", B, "better in May")
    back = api.post(f"/v1/models/{NAME}/rollback", {})
    assert (back.status, back.json["deployed"]) == (200, D)


def test_a_change_by_the_command_is_followed(
    api: Live, ground: tuple[Live, Settings, Log], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`telltale models promote` in another process: the API scores with the version within a second."""
    for name, value in environment(ground[1]).items():
        monkeypatch.setenv(name, value)
    assert telltale(["models", "promote", NAME, C, "--why", "try"]) == 0
    within_a_second(lambda: scoring(api) == C)
    assert telltale(["models", "rollback", NAME]) == 0
    within_a_second(lambda: scoring(api) == D)
    assert telltale(["models", "promote", NAME, C, "--instead", A]) == 2
    assert f"expected {A} to be deployed, but it is {D}" in capsys.readouterr().err


def scoring(api: Live) -> str:
    models = api.ask("GET", "/v1/models").json["models"]
    return str(next(model["scoring"] for model in models if model["name"] == NAME))


def within_a_second(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 1.0
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_engine_follows(api: Live, ground: tuple[Live, Settings, Log], library: Library) -> None:
    """Who is alerted on a second after a promotion was scored by the version promoted."""
    settings, log = ground[1], ground[2]
    with worker(settings, "flows.alerting"):
        assert alerted(api, log, "before") == D
        library.promote(NAME, B, "ann", "try")
        time.sleep(1.0)
        assert alerted(api, log, "after") == B


def alerted(api: Live, log: Log, user: str) -> str:
    """The version by which somebody new is alerted on, who looks up what a home is worth."""
    at = (time.time_ns() // 1_000_000) - 60_000
    calls = [
        {"type": "track", "userId": user, "event": "Property Value Checked", "messageId": f"{user}{i}"}
        | {"timestamp": datetime.fromtimestamp((at + i) / 1000, UTC).isoformat()}
        for i in range(CHECKS)
    ]
    assert api.post("/v1/batch", {"batch": calls}).json["rejected"] == []
    deadline = time.monotonic() + 20
    while True:
        found = [decode(fields[b"a"]) for _, fields in cast(list[Any], log.client.xrange(keys.ALERTS))]
        versions = [alert.model_version for alert in found if alert.user == user]
        if versions:
            return versions[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_command_tells_and_verifies(
    api: Live, ground: tuple[Live, Settings, Log], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`list` and `show` say what stands; `verify` tries every version, and ends with 1 for a damaged one."""
    for name, value in environment(ground[1]).items():
        monkeypatch.setenv(name, value)
    assert telltale(["models", "list"]) == 0
    assert f"{NAME:24}{D}  DEPLOYED   trained here" in capsys.readouterr().out
    assert telltale(["models", "show", NAME, B]) == 0
    assert f"opens {SERVICE.alert} from a score of 0.800 on" in capsys.readouterr().out
    assert telltale(["models", "verify", NAME]) == 0
    graph = Library.of(ground[1]).place(NAME, C) / card.ONNX
    kept = graph.read_bytes()
    graph.write_bytes(kept[:-1])
    try:
        assert telltale(["models", "verify", NAME]) == 1
        said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("WRONG")]
        assert len(said) == 1
        assert "expected sha256" in said[0]
    finally:
        graph.write_bytes(kept)


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("/v1/models/absent", None, 404, "name"),
        ("/v1/models/..%2Fshipped/versions", None, 404, "path"),
        (f"/v1/models/{NAME}?version=20990101000000", None, 404, "version"),
        (f"/v1/models/{NAME}?versoin={A}", None, 400, "versoin"),
        ("/v1/models/absent/promote", {"version": A}, 404, "name"),
        (f"/v1/models/{NAME}/promote", {"version": "20990101000000"}, 404, "version"),
        (f"/v1/models/{NAME}/promote", {"version": "../../etc"}, 422, "version"),
        (f"/v1/models/{NAME}/promote", {}, 422, "version"),
        (f"/v1/models/{NAME}/promote", {"version": B, "instead": C}, 409, None),
        (f"/v1/models/{NAME}/rollback", {"instead": C}, 409, None),
        (f"/v1/models/{NAME}/rollback", {"wy": "x"}, 422, "body"),
        ("/v1/models/absent/rollback", {}, 409, None),
        ("/v1/models/absent/reload", {}, 404, "name"),
        ("/v1/models/absent/train", {}, 404, "name"),
        (f"/v1/models/{NAME}/train", {"labels": []}, 422, "labels"),
        (f"/v1/models/{NAME}/train", {"people": 10**9}, 422, "people"),
        (f"/v1/models/{NAME}/train", {"labels": [{"user": {}}]}, 422, "labels[0][...]"),
        (f"/v1/models/{NAME}/train/20260101000000-00000000", None, 404, "job"),
        (f"/v1/models/{NAME}/train/..%2F..", None, 404, "path"),
    ],
)
def test_what_cannot_be_done_is_said(api: Live, path: str, body: object, status: int, field: str | None) -> None:
    """As problem details that name the field, and nothing changes."""
    answer = api.ask("GET", path) if body is None else api.post(path, body)
    assert (answer.status, answer.json.get("field")) == (status, field)
    assert answer.headers["content-type"] == "application/problem+json"
    assert scoring(api) == D


def test_a_damaged_version_is_not_promoted(api: Live, library: Library) -> None:
    """409, what is wrong with it, and the old one scores on."""
    graph = library.place(NAME, B) / card.ONNX
    kept = graph.read_bytes()
    graph.write_bytes(kept[:-1])
    try:
        answer = api.post(f"/v1/models/{NAME}/promote", {"version": B})
        assert answer.status == 409
        assert "expected sha256" in answer.json["detail"]
        assert scoring(api) == D
    finally:
        graph.write_bytes(kept)


def test_what_a_gate_stopped_is_told(api: Live, library: Library) -> None:
    """The reason stands beside the version."""
    with making(library, NAME, C):
        library.register(NAME, C, "VALIDATING", "job", "made")
        library.register(NAME, C, "RETIRED", "job", "AUC 0.51 < 0.60")
    versions = api.ask("GET", f"/v1/models/{NAME}/versions").json["versions"]
    assert [(v["version"], v["stopped"]) for v in versions if v["stopped"]] == [(C, "AUC 0.51 < 0.60")]
    answer = api.post(f"/v1/models/{NAME}/promote", {"version": C})
    assert (answer.status, "AUC 0.51 < 0.60" in answer.json["detail"]) == (409, True)


def test_what_versions_say_of_themselves(api: Live) -> None:
    """Info, importance and performance, of the deployed version or another."""
    info = api.ask("GET", f"/v1/models/{NAME}").json
    assert (info["version"], info["state"], info["threshold"]) == (D, "DEPLOYED", 0.8)
    assert [one["name"] for one in info["inputs"]] == list(SERVICE.features)
    assert api.ask("GET", f"/v1/models/{NAME}?version={A}").json["version"] == A
    assert api.ask("GET", f"/v1/models/{NAME}/importance").json["importance"] == []
    told = api.ask("GET", f"/v1/models/{NAME}/performance").json["versions"]
    assert [one["version"] for one in told] == [D, C, B, A]


def ended(api: Live, path: str) -> dict[str, Any]:
    """What the job says when it no longer runs."""
    deadline = time.monotonic() + 90
    while (told := api.ask("GET", path).json)["state"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return dict(told)


def test_a_training_job(api: Live) -> None:
    """It runs beside, one at a time a model, and tells what became of the version."""
    path = "/v1/models/lead_score/train"
    began = api.post(path, {"simulated": True, "people": 1500, "trials": 1, "seconds": 1})
    assert (began.status, began.json["state"]) == (202, "running")
    again = api.post(path, {"simulated": True})
    assert (again.status, began.json["job"] in again.json["detail"]) == (409, True)
    told = ended(api, f"{path}/{began.json['job']}")
    assert told["state"] == "done", told
    (result,) = told["result"]
    versions = api.ask("GET", "/v1/models/lead_score/versions").json["versions"]
    assert [(v["version"], v["state"]) for v in versions] == [(result["version"], result["state"])]
    assert [job["job"] for job in api.ask("GET", path).json["jobs"]] == [began.json["job"]]


def test_a_training_job_that_cannot_be_done(api: Live) -> None:
    """Too few labels: failed, and why; nothing is deployed."""
    path = f"/v1/models/{NAME}/train"
    labels = [{"user": f"u{i}", "as_of": "2026-01-01T00:00:00Z", "label": i % 2} for i in range(4)]
    began = api.post(path, {"labels": labels})
    told = ended(api, f"{path}/{began.json['job']}")
    assert (told["state"], told["result"]) == ("failed", None)
    assert told["error"]
    assert scoring(api) == D
