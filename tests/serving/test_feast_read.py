"""Features read as from Feast's feature server: what expires, what is refused, and whichever way a request comes in."""

from __future__ import annotations

import gzip
import itertools
import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_repo import keys
from feature_repo.layout import double, entity_key, field, timestamp, timestamp_field
from feature_repo.vocabulary import Vocabulary
from serving.log_clock import FRESH
from tests.live import Live
from tests.logged import Log
from tests.serving.test_ingest import JSON_KIND, basic

VOCABULARY = Vocabulary()
VIEW, FINANCES = VOCABULARY.views["user_features"], VOCABULARY.views["user_finances"]
DAY = 86_400_000
PATH = "/get-online-features"
FEATURES = [f"{VIEW.name}:{f.name}" for f in VIEW.fields]


def put(log: Log, user: str, at_ms: int, value: float = 1.5, view: Any = VIEW, organisation: str = "main") -> None:
    values = {field(view.name, f.name): double(value) for f in view.fields}
    key = entity_key("user_id", f"{organisation}/{user}".encode())
    log.client.hset(key, mapping={timestamp_field(view.name): timestamp(at_ms), **values})


def now() -> int:
    return time.time_ns() // 1_000_000


def asking(*users: Any, features: Any = FEATURES, **more: Any) -> dict[str, Any]:
    return {"features": features, "entities": {"user_id": list(users)}, **more}


def column(answer: Any, name: str) -> tuple[list[Any], list[str], list[str]]:
    one = answer["results"][answer["metadata"]["feature_names"].index(name)]
    return one["values"], one["statuses"], one["event_timestamps"]


def test_results_stand_as_asked_entities_first(api: Live, log: Log) -> None:
    """In the order of the request, also where it mixes views; a service's in its declared order."""
    put(log, "order", now())
    asked = [f"{FINANCES.name}:home_value", FEATURES[3], f"{FINANCES.name}:credit_enquiries_90d", FEATURES[0]]
    names = api.post(PATH, asking("order", features=asked)).json["metadata"]["feature_names"]
    assert names == ["user_id", *(reference.partition(":")[2] for reference in asked)]
    service = VOCABULARY.services[0]
    body = {"feature_service": service.name, "entities": {"user_id": ["order"]}}
    assert api.post(PATH, body).json["metadata"]["feature_names"] == ["user_id", *service.features]


def test_a_service_leaves_out_what_only_a_request_gives(api: Live, log: Log) -> None:
    """As Feast does, to which it is not registered."""
    put(log, "mailed", now())
    body = {"feature_service": "email_engagement", "entities": {"user_id": ["mailed"]}}
    service = next(s for s in VOCABULARY.services if s.name == "email_engagement")
    stored = [name.rpartition(":")[2] for name in service.features if not name.startswith("request:")]
    assert api.post(PATH, body).json["metadata"]["feature_names"] == ["user_id", *stored]


def test_an_expired_value_is_null_and_says_so(api: Live, log: Log) -> None:
    """With the time at which it held; a fresh one beside it is told."""
    put(log, "stale", now() - VIEW.ttl_days * DAY - 1000)
    put(log, "fresh", now() - VIEW.ttl_days * DAY + 60_000)
    values, statuses, stamps = column(api.post(PATH, asking("stale", "fresh", "never")).json, VIEW.fields[0].name)
    assert (values, statuses) == ([None, 1.5, None], ["OUTSIDE_MAX_AGE", "PRESENT", "NOT_FOUND"])
    assert stamps[0] > "2020"
    assert stamps[2] == "1970-01-01T00:00:00Z"


def test_each_view_has_its_own_age(api: Live, log: Log) -> None:
    """What the stream wrote has expired, what was pushed on the same day has not."""
    at = now() - (VIEW.ttl_days + 1) * DAY
    put(log, "two-ages", at)
    put(log, "two-ages", at, 7.0, FINANCES)
    answer = api.post(PATH, asking("two-ages", features=[FEATURES[0], f"{FINANCES.name}:home_value"])).json
    assert column(answer, VIEW.fields[0].name)[:2] == ([None], ["OUTSIDE_MAX_AGE"])
    assert column(answer, "home_value")[:2] == ([7.0], ["PRESENT"])


def test_in_a_log_clock_store_now_is_the_logs(past_api: Live, past_log: Log) -> None:
    """A value of long ago is fresh as long as the log is of then, and expires when the log goes on."""
    at = 1_600_000_000_000
    put(past_log, "then", at)
    newest = went_on(past_api, past_log, at + 1000)
    put(past_log, "then", newest - 1000)
    time.sleep(2 * FRESH)
    assert column(past_api.post(PATH, asking("then")).json, VIEW.fields[0].name)[1] == ["PRESENT"]
    went_on(past_api, past_log, newest + VIEW.ttl_days * DAY)
    time.sleep(2 * FRESH)
    assert column(past_api.post(PATH, asking("then")).json, VIEW.fields[0].name)[1] == ["OUTSIDE_MAX_AGE"]


def went_on(api: Live, log: Log, at: int) -> int:
    """Something happens at `at` (ms), or later where the log is later already; when the log stands then."""
    stamp = datetime.fromtimestamp(at / 1000, UTC).isoformat()
    assert api.post("/v1/track", {"userId": "clock", "event": "Document Viewed", "timestamp": stamp}).status == 200
    return max(event.ms for event in log.events("clock"))


def test_each_organisation_sees_its_own(api: Live, log: Log) -> None:
    """The same name means another person under another key."""
    put(log, "same", now(), 1.0)
    put(log, "same", now(), 2.0, organisation="others")
    log.client.hset(keys.KEYS, "key-of-others", "others")
    body = msgspec.json.encode(asking("same"))
    for login, value in ((api.login["Authorization"], 1.0), (basic("key-of-others"), 2.0)):
        for _ in range(2):  # the first has its key looked up, the second takes the shortcut
            answer = api.ask("POST", PATH, body, {**JSON_KIND, "Authorization": login})
            assert column(answer.json, VIEW.fields[0].name)[0] == [value]


BAD = [
    (b"", 422, "body"),
    (b"[]", 422, "body"),
    (b'{"entities": {"user_id": ["a"]}', 422, "body"),
    (b'{"features": ["user_features:session_count_30d"]}', 422, "entities"),
    (b'\xff{"entities"', 422, "body"),
    (b"[" * 100_000, 422, "body"),
    (asking("a", features=[]), 422, "features"),
    (asking("a", features="session_count_30d"), 422, "features"),
    (asking("a", features=[7]), 422, "features"),
    (asking("a", features=["session_count_30d"]), 422, "features"),
    (asking("a", features=["user_features:nothing"]), 404, "features"),
    (asking("a", features=["nothing:session_count_30d"]), 404, "features"),
    (asking("a", features=["user_features@v9:session_count_30d"]), 404, "features"),
    (asking("a", features=FEATURES[:1] * 2), 422, "features"),
    (asking("a", feature_service="nothing"), 404, "feature_service"),
    (asking("a", full_feature_names="perhaps"), 422, "full_feature_names"),
    (asking(None), 422, "entities.user_id[0]"),
    (asking("a", ["a"]), 422, "entities.user_id[1]"),
    ({"features": FEATURES, "entities": {"user_id": "a"}}, 422, "entities.user_id"),
    (asking(), 422, "entities"),
    ({"features": FEATURES, "entities": {}}, 422, "entities"),
    ({"features": FEATURES, "entities": {"lead_id": ["a"]}}, 422, "entities"),
    ({"features": FEATURES, "entities": {"user_id": ["a"], "lead_id": ["a", "b"]}}, 422, "entities"),
    (b'{"entities":{"user_id":[[]]},"entities":true}', 422, "entities"),
    (asking(*(["a"] * 20_000)), 413, "entities"),
]


@pytest.mark.parametrize(("body", "status", "named"), BAD, ids=[str(case[2]) + str(i) for i, case in enumerate(BAD)])
def test_what_cannot_be_answered_is_a_4xx_that_names_the_field(api: Live, body: Any, status: int, named: str) -> None:
    """As problem details, whichever way the request takes."""
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    for _ in range(2):
        answer = api.ask("POST", PATH, raw, {**JSON_KIND, **api.login})
        assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), answer.body
        assert answer.json["field"].startswith(named)
        assert answer.json["status"] == status


def test_a_key_is_needed_but_for_health(api: Live) -> None:
    """`/health` is open and empty, as Feast's."""
    assert api.ask("POST", PATH, msgspec.json.encode(asking("a")), JSON_KIND).status == 401
    wrong = api.ask("POST", PATH, msgspec.json.encode(asking("a")), {**JSON_KIND, "Authorization": basic("wrong")})
    assert wrong.status == 401
    assert (api.ask("GET", "/health", headers={}).status, api.ask("GET", "/health", headers={}).body) == (200, b"")
    assert api.ask("GET", PATH).status == 405


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "entities": st.dictionaries(st.sampled_from(["user_id", "user", "lead_id", "x"]), st.lists(JSON)) | JSON,
        "features": st.lists(st.sampled_from([*FEATURES[:3], "user_features:x", ":", "a:b:c"]) | JSON) | JSON,
        "feature_service": st.sampled_from([VOCABULARY.services[0].name, ""]) | JSON,
        "full_feature_names": st.booleans() | JSON,
        "include_feature_view_version_metadata": st.booleans() | JSON,
    },
)


@settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=NEARLY.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=200))
def test_nothing_that_is_posted_is_a_fault_of_ours(api: Live, body: bytes) -> None:
    """An answer or a 4xx that names a field."""
    answer = api.ask("POST", PATH, body, {**JSON_KIND, **api.login})
    assert answer.status in {200, 404, 413, 422}, answer.body
    assert answer.status == 200 or answer.json["field"]


def raw(api: Live, body: bytes, *headers: str, length: bool = True) -> bytes:
    lines = [f"POST {PATH} HTTP/1.1", "Host: x", f"Authorization: {api.login['Authorization']}", *headers]
    lines += [f"Content-Length: {len(body)}"] if length else []
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


@pytest.fixture
def line(api: Live) -> Iterator[socket.socket]:
    """A connection that has asked once before, so that the shortcut knows the key."""
    with closing(socket.create_connection(("127.0.0.1", api.port), timeout=10)) as connection:
        connection.sendall(raw(api, msgspec.json.encode(asking("line", features=FEATURES[:1]))))
        assert len(answers(connection, 1)) == 1
        yield connection


def answers(connection: socket.socket, count: int) -> list[Any]:
    """The bodies of so many responses, as JSON."""
    data, found = b"", list[Any]()
    while len(found) < count:
        data += connection.recv(1 << 16)
        while b"\r\n\r\n" in data:
            head, _, rest = data.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            if len(rest) < length:
                break
            found.append(json.loads(rest[:length]))
            data = rest[length:]
    return found


def test_pipelined_requests_are_answered_in_order(api: Live, line: socket.socket) -> None:
    """Quick ones, ordinary ones and bad ones, sent in one piece and in bits."""
    bodies = [asking(f"p{i}", features=FEATURES[: 1 + i]) if i % 4 else {"entities": i} for i in range(12)]
    sent = [raw(api, msgspec.json.encode(body)) for body in bodies]
    sent[5] = sent[5].replace(b"Host: x", b"Host: x\r\nExpect:")  # odd: takes the ordinary way
    stream = b"".join(sent)
    cuts = [0, len(sent[0]), len(sent[0]) + 30, sum(map(len, sent[:3])), sum(map(len, sent[:6])) + 7, len(stream)]
    for start, end in itertools.pairwise(cuts):
        line.sendall(stream[start:end])
        time.sleep(0.002)
    for i, found in enumerate(answers(line, len(bodies))):
        told = [result["values"][0] for result in found["results"][:1]] if i % 4 else found["status"]
        assert told == ([f"p{i}"] if i % 4 else 422)


@pytest.mark.parametrize("way", ["whole", "byte by byte", "gzip", "chunked", "close", "no type"])
def test_every_way_to_send_it_has_the_same_answer(api: Live, log: Log, line: socket.socket, way: str) -> None:
    """The shortcut is only faster."""
    put(log, "ways", 1_600_000_000_000)
    body = msgspec.json.encode(asking("ways"))
    kind = "Content-Type: application/json"
    if way == "byte by byte":
        for byte in raw(api, body, kind)[:-1200]:
            line.send(bytes([byte]))
        line.sendall(raw(api, body, kind)[-1200:])
    elif way == "gzip":
        line.sendall(raw(api, gzip.compress(body), kind, "Content-Encoding: gzip"))
    elif way == "chunked":
        line.sendall(raw(api, b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body), "Transfer-Encoding: chunked", length=False))
    else:
        more = {"close": ("Connection: close",), "no type": ()}.get(way, (kind,))
        line.sendall(raw(api, body, *more))
    (found,) = answers(line, 1)
    assert found == api.post(PATH, asking("ways")).json
    assert column(found, VIEW.fields[0].name)[1] == ["OUTSIDE_MAX_AGE"]


def test_requests_of_the_shortcut_are_counted(api: Live, line: socket.socket) -> None:
    """On /metrics, by route and status."""
    body = raw(api, msgspec.json.encode(asking("counted", features=FEATURES[:1])))

    def count() -> float:
        lines = api.ask("GET", "/metrics").body.decode().splitlines()
        return sum(float(one.rpartition(" ")[2]) for one in lines if f'"{PATH}"' in one and 'status="200"' in one)

    before = count()
    for _ in range(3):
        line.sendall(body)
        answers(line, 1)
    assert count() == before + 3
