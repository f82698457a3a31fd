"""Our feature doors answer as Feast's own server does, for the same request over the same store."""

from __future__ import annotations

import json
import random
import time
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from feature_repo.layout import double, entity_key, field, integer, read_value, timestamp_field, timestamp_us
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows.store import connect, embedded
from tests.feast_serve import feast_serve, room
from tests.live import KEY, ORGANISATION, Live, live

VOCABULARY = Vocabulary()
VIEWS = VOCABULARY.views
USERS, LEADS = [f"u{i}" for i in range(8)], [f"l{i}" for i in range(4)]
NULLS, PARTLY = "u6", "u7"  # a user with nulls, one of whom only half is there
STRANGE = ["nobody", "ünïcode", "with/slash", 'quo"te', "", 7, 2.5, True]
Results = dict[str, tuple[list[Any], list[str], list[str]]]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clone")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, clone: Path) -> Iterator[tuple[Live, Live, redis.Redis]]:
    """Ours and Feast's, over one store that holds some of each view."""
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    server = embedded(settings.home)
    try:
        with closing(connect(settings)) as client:
            _fill(client)
            copy = room(clone, settings)
            with live(settings, "serving.feature_server") as ours, feast_serve(copy, settings) as theirs:
                yield ours, theirs, client
    finally:
        server.stop()


def _fill(client: redis.Redis) -> None:
    rng, now = random.Random(5), time.time_ns() // 1000
    for i, user in enumerate(USERS):
        _write(
            client, "user_features", user, now - i * 1_000_003, lambda _: double(rng.choice([rng.random(), 0.0, 1e17]))
        )
    for i, user in enumerate(USERS[2:6]):
        _write(client, "user_finances", user, now // 1_000_000 * 1_000_000 - i, lambda kind: _external(rng, kind))
    for lead in LEADS:
        _write(client, "lead_crm", lead, now // 1000 * 1000, lambda kind: _external(rng, kind))
    key = _key("user_features", NULLS)
    client.hset(key, field("user_features", "session_count_30d"), b"")
    key = _key("user_features", PARTLY)
    client.hdel(key, *(field("user_features", f.name) for f in VIEWS["user_features"].fields[::2]))


def _external(rng: random.Random, kind: str) -> bytes:
    return (
        integer(rng.choice([0, 3, -7, 2**40])) if kind == "integer" else double(rng.choice([float("inf"), 410_000.0]))
    )


def _key(view: str, value: str) -> bytes:
    return entity_key(VOCABULARY.entity_of(VIEWS[view]).join_key, f"{ORGANISATION}/{value}".encode())


def _write(client: redis.Redis, view: str, value: str, at_us: int, make: Any) -> None:
    values = {field(view, f.name): make(f.kind) for f in VIEWS[view].fields}
    client.hset(_key(view, value), mapping={timestamp_field(view): timestamp_us(at_us), **values})


def requests(count: int) -> Iterator[dict[str, Any]]:
    """Requests of all kinds, seeded."""
    rng = random.Random(11)
    for _ in range(count):
        rows = rng.choice([1, 1, 2, 5])
        entities: dict[str, list[Any]] = {"user_id": rng.choices(USERS + STRANGE, k=rows)}
        views = rng.choice([["user_features"], ["user_features", "user_finances"], ["lead_crm", "user_features"]])
        if "lead_crm" in views or rng.random() < 0.2:
            entities[rng.choice(["lead_id", "lead_id", "lead"])] = rng.choices([*LEADS, "none"], k=rows)
        if rng.random() < 0.1:
            entities["something_else"] = [1] * rows
        request: dict[str, Any] = {"entities": dict(sorted(entities.items(), key=lambda _: rng.random()))}
        references = [f"{view}:{f.name}" for view in views for f in VIEWS[view].fields]
        if rng.random() < 0.15:
            request["feature_service"] = rng.choice([s.name for s in VOCABULARY.services if s.alert])
        else:
            request["features"] = rng.sample(references, rng.choice([1, 3, len(references)]))
        if "user_finances" in views or rng.random() < 0.3:
            request["full_feature_names"] = rng.random() < 0.7
        if rng.random() < 0.1:
            request["include_feature_view_version_metadata"] = True
        yield request


def as_stored(request: dict[str, Any]) -> dict[str, Any]:
    """The request with the organisation that the door adds."""
    ours = {"user_id", "lead_id", "lead"}
    entities = {k: [f"{ORGANISATION}/{v}" for v in vs] if k in ours else vs for k, vs in request["entities"].items()}
    return {**request, "entities": entities}


def results(answer: Any) -> Results:
    """By name."""
    names = answer["metadata"]["feature_names"]
    assert len(names) == len(set(names)) == len(answer["results"])
    return {
        name: (one["values"], one["statuses"], one["event_timestamps"])
        for name, one in zip(names, answer["results"], strict=True)
    }


def bettered(found: Results, request: dict[str, Any], client: redis.Redis) -> Results:
    """Feast's results as we tell them: without the organisation, and what is not stored is NOT_FOUND."""
    for values, _, _ in (found[entity.join_key] for entity in VOCABULARY.entities if entity.join_key in found):
        values[:] = [str(value).removeprefix(f"{ORGANISATION}/") for value in values]
    for reference in references(request):
        view, name = reference.split(":")
        _, statuses, _ = found[f"{view}__{name}" if request.get("full_feature_names") else name]
        for i, value in enumerate(found[VOCABULARY.entity_of(VIEWS[view]).join_key][0]):
            if client.hget(_key(view, value), field(view, name)) is None:
                assert statuses[i] == "PRESENT"
                statuses[i] = "NOT_FOUND"
    return found


def references(request: dict[str, Any]) -> list[str]:
    if "feature_service" not in request:
        return list(request["features"])
    (service,) = (s for s in VOCABULARY.services if s.name == request["feature_service"])
    return [f"{VOCABULARY.view}:{name}" for name in service.features]


@pytest.mark.parametrize("request_", list(requests(120)), ids=[f"request{i}" for i in range(120)])
def test_the_same_request_has_the_same_answer(
    servers: tuple[Live, Live, redis.Redis], request_: dict[str, Any]
) -> None:
    """Values and their types, statuses, timestamps, names; but what is not there is NOT_FOUND, not PRESENT."""
    ours, theirs, client = servers
    answer = ours.post("/get-online-features", request_)
    peer = theirs.post("/get-online-features", as_stored(request_))
    assert (answer.status, peer.status) == (200, 200), (request_, answer.body, peer.body)
    expected = bettered(results(peer.json), request_, client)
    assert json.dumps(results(answer.json), sort_keys=True) == json.dumps(expected, sort_keys=True)
    told = answer.json["metadata"].get("feature_view_metadata")
    assert ordered(told) == ordered(peer.json["metadata"].get("feature_view_metadata"))


def ordered(metadata: Any) -> Any:
    return metadata and sorted(metadata, key=str)


BAD: list[Any] = [
    {"entities": {}, "features": ["user_features:session_count_30d"]},
    {"entities": {"user_id": []}, "features": ["user_features:session_count_30d"]},
    {"entities": {"user_id": [None]}, "features": ["user_features:session_count_30d"]},
    {"entities": {"user_id": ["u1"], "lead_id": []}, "features": ["user_features:session_count_30d"]},
    {"entities": {"lead_id": ["l1"]}, "features": ["user_features:session_count_30d"]},
    {"entities": {"user_id": ["u1"]}, "features": []},
    {"entities": {"user_id": ["u1"]}, "features": ["user_features:nothing"]},
    {"entities": {"user_id": ["u1"]}, "features": ["nothing:at_all"]},
    {"entities": {"user_id": ["u1"]}, "features": ["user_features"]},
    {"entities": {"user_id": ["u1"]}, "features": ["user_features:session_count_30d"] * 2},
    {"entities": {"user_id": ["u1"]}, "feature_service": "nothing"},
    {"entities": {"user_id": "u1"}, "features": ["user_features:session_count_30d"]},
    {"features": ["user_features:session_count_30d"]},
    [],
]


@pytest.mark.parametrize("request_", BAD, ids=[f"bad{i}" for i in range(len(BAD))])
def test_what_feast_refuses_is_a_4xx_here(servers: tuple[Live, Live, redis.Redis], request_: Any) -> None:
    """It says 4xx or 500; where it says 4xx, so do we, and in both cases we name the field."""
    ours, theirs, _ = servers
    answer, peer = (server.post("/get-online-features", request_) for server in (ours, theirs))
    assert peer.status >= 400
    assert answer.status == (peer.status if peer.status < 500 else answer.status)
    assert 400 <= answer.status < 500
    assert answer.json["field"]


@pytest.fixture(scope="module")
def remote(servers: tuple[Live, Live, redis.Redis], clone: Path) -> Iterator[Any]:
    """Feast's SDK, pointed at our doors by nothing but its configuration."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Feast's own
        from feast import FeatureStore, RepoConfig

        path = f"http://{KEY}:@127.0.0.1:{servers[0].port}"
        config = RepoConfig(
            project="telltale",
            registry=str(clone / ".telltale" / "registry.db"),
            provider="local",
            online_store={"type": "remote", "path": path},
            entity_key_serialization_version=3,
        )
        yield FeatureStore(config=config)


@pytest.mark.filterwarnings("ignore")  # Feast's own
def test_the_sdk_reads_through_our_doors(servers: tuple[Live, Live, redis.Redis], remote: Any) -> None:
    """By names and by service; doubles come as floats, also whole ones, integers as integers, what is not as None."""
    rows = [{"user_id": user} for user in ("u3", "nobody")]
    features = [f"user_finances:{f.name}" for f in VIEWS["user_finances"].fields] + ["user_features:session_count_30d"]
    found = remote.get_online_features(features=features, entity_rows=rows, full_feature_names=True).to_dict()
    assert found["user_id"] == ["u3", "nobody"]
    stored = servers[2].hget(_key("user_finances", "u3"), field("user_finances", "credit_enquiries_90d"))
    assert found["user_finances__credit_enquiries_90d"] == [read_value(stored), None]
    assert type(found["user_finances__credit_enquiries_90d"][0]) is int
    service = remote.get_feature_service(VOCABULARY.services[0].name)
    whole = remote.get_online_features(features=service, entity_rows=rows[:1]).to_dict()
    for name in VOCABULARY.services[0].features:
        expected = read_value(servers[2].hget(_key("user_features", "u3"), field("user_features", name)))
        assert (type(whole[name][0]), whole[name][0]) == (float, expected)


@pytest.mark.filterwarnings("ignore")  # Feast's own
def test_the_sdk_says_what_was_wrong(remote: Any) -> None:
    """Our words reach its user."""
    with pytest.raises(RuntimeError, match=r"422.*user_finances is of a user: expected values of user_id"):
        remote.get_online_features(features=["user_finances:home_value"], entity_rows=[{"lead_id": "l1"}])
