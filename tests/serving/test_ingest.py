"""Events in over HTTP: what is stored, and what is refused and how."""

from __future__ import annotations

import base64
import contextlib
import gzip
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import xxhash

from feature_repo import keys
from feature_repo.vocabulary import SILENT, UNKNOWN, Vocabulary
from tests.live import KEY, Live
from tests.logged import Log
from tests.posted import iso

VOCABULARY = Vocabulary()
JSON_KIND = {"Content-Type": "application/json"}


def track(user: str, **more: Any) -> dict[str, Any]:
    return {"type": "track", "userId": user, "event": "Document Viewed", **more}


def post_raw(api: Live, path: str, body: bytes, **headers: str) -> Any:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return api.ask("POST", path, body, {**api.login, **JSON_KIND, **sent})


def test_a_call_that_was_answered_2xx_is_in_the_log(api: Live, log: Log) -> None:
    """One row in the person's partition: identity, code, time, and the JSON as sent."""
    sent = track("stored", messageId="m-1", properties={"title": "Lease"})
    assert api.post("/v1/track", sent).json == {"success": True}
    (event,) = log.events("stored")
    assert event.uid == xxhash.xxh3_64_intdigest(b"main/stored", log.store.seed)
    assert event.mid == xxhash.xxh3_64_intdigest(b"main\0m-1", log.store.seed)
    assert event.partition == event.uid % log.store.partitions
    assert event.code == VOCABULARY.code["document_access", None]
    assert abs(event.ts - time.time() * 1000) < 5000
    assert event.json == sent


def test_the_vocabulary_that_numbered_the_events_is_kept(api: Live, log: Log) -> None:
    """The fingerprint in an entry leads to its codebook."""
    assert log.client.hget(keys.VOCABULARIES, str(VOCABULARY.fingerprint)) == VOCABULARY.codebook


def test_missing_type_and_message_id_are_added(api: Live, log: Log) -> None:
    """The stored JSON tells the type, and an id under which duplicates can be found."""
    api.post("/v1/page", {"userId": "bare", "context": {"type": "x"}})
    (event,) = log.events("bare")
    assert event.json["type"] == "page"
    assert event.mid == xxhash.xxh3_64_intdigest(b"main\0" + event.json["messageId"].encode(), log.store.seed)


def test_a_wrong_clock_of_the_sender_is_corrected(api: Live, log: Log) -> None:
    """Received - (sent - original), as Segment does."""
    wrong = datetime(2011, 5, 1, tzinfo=UTC)
    sent = {"timestamp": wrong.isoformat(), "sentAt": (wrong + timedelta(minutes=2)).isoformat()}
    api.post("/v1/track", track("corrected", **sent))
    api.post("/v1/batch", {"batch": [track("corrected", timestamp=sent["timestamp"])], "sentAt": sent["sentAt"]})
    assert [abs(e.ts + 120_000 - time.time() * 1000) < 5000 for e in log.events("corrected")] == [True, True]


def test_a_time_without_a_zone_is_utc(api: Live, log: Log) -> None:
    api.post("/v1/track", track("naive", timestamp="2026-01-02T03:04:05.678"))
    (event,) = log.events("naive")
    assert event.ts == datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC).timestamp() * 1000


def test_a_measure_and_a_tag_become_columns(api: Live, log: Log) -> None:
    """Minutes in thousandths, the topic as a code of its own."""
    api.post("/v1/track", {"userId": "measured", "event": "Session Ended", "properties": {"minutes": 12.3456}})
    api.post("/v1/track", {"userId": "measured", "event": "email_open", "properties": {"topic": "Refinance "}})
    found = {(e.code, e.value) for e in log.events("measured")}
    assert found == {(VOCABULARY.code["session", None], 12346), (VOCABULARY.code["email_open", "refinance"], 0)}


def test_traits_are_kept_as_bits(api: Live, log: Log) -> None:
    """Numbers as doubles, dates in milliseconds, of texts a fingerprint; unknown traits and nulls are passed over."""
    traits = {
        "property_count": 3,
        "home_purchase_date": "2015-03-01",
        "address": " Elm St 1",
        "job_title": None,
        "x": 1,
    }
    api.post("/v1/identify", {"userId": "told", "traits": traits})
    (event,) = log.events("told")
    bits = {VOCABULARY.traits[i].name: value for i, value in event.traits.items()}
    date = datetime(2015, 3, 1, tzinfo=UTC).timestamp() * 1000
    assert bits == {
        "property_count": struct.unpack("<q", struct.pack("<d", 3.0))[0],
        "home_purchase_date": struct.unpack("<q", struct.pack("<d", date))[0],
        "address": xxhash.xxh3_64_intdigest(b"elm st 1") & (1 << 63) - 1,
    }


def test_identify_joins_the_anonymous_person_to_the_user(api: Live, log: Log) -> None:
    """The anonymous person's partition gets a row that names the user, and that row is not counted as an event."""
    api.post("/v1/track", {"anonymousId": "a-9", "event": "Document Viewed"})
    before = log.accepted()
    api.post("/v1/identify", {"userId": "joined", "anonymousId": "a-9"})
    assert log.accepted() == before + 1
    first, join = log.events("anon:a-9")
    (identify,) = log.events("joined")
    assert (join.mid, join.join, join.uid, join.code) == (0, "main/joined", first.uid, SILENT)
    assert identify.code == SILENT


def test_an_unknown_event_is_stored_and_the_nearest_known_one_named(api: Live, log: Log) -> None:
    answer = api.post("/v1/track", track("odd", event="Documnt Viewed"))
    assert answer.json["unknown"] == [{"event": "Documnt Viewed", "nearest": "document_access", "count": 1}]
    assert [e.code for e in log.events("odd")] == [UNKNOWN]
    assert log.client.hget(keys.UNKNOWN, "Documnt Viewed") == b"1"


@pytest.mark.parametrize("kind", ["page", "screen", "group", "alias"])
def test_other_calls_are_stored_and_touch_nothing(api: Live, log: Log, kind: str) -> None:
    assert api.post(f"/v1/{kind}", {"userId": f"silent-{kind}", "previousId": "x", "groupId": "g"}).status == 200
    assert [e.code for e in log.events(f"silent-{kind}")] == [SILENT]


def test_in_a_batch_the_good_are_stored_and_the_bad_reported(api: Live, log: Log) -> None:
    calls = [
        track("batch-1"),
        {"type": "track", "userId": "batch-2"},
        track("batch-3", messageId="m", timestamp="2199-01-01T00:00:00Z"),
        {"type": "dance", "userId": "batch-4"},
        {"type": "identify", "userId": "batch-5", "traits": {"property_count": "three"}},
        track("batch-6", event="Sesion Ended"),
        3,
    ]
    answer = api.post("/v1/batch", {"batch": calls})
    assert (answer.status, answer.json["accepted"], answer.json["success"]) == (200, 2, True)
    rejected = [(r["index"], r["messageId"], r["field"]) for r in answer.json["rejected"]]
    assert rejected == [
        (1, None, "event"),
        (2, "m", "timestamp"),
        (3, None, "type"),
        (4, None, "traits.property_count"),
        (6, None, "body"),
    ]
    assert answer.json["unknown"] == [{"event": "Sesion Ended", "nearest": "session", "count": 1}]
    assert sorted(e.name for e in log.events("batch-")) == ["main/batch-1", "main/batch-6"]


@pytest.mark.parametrize(
    "bad",
    [b'{"x": NaN}', b'{"x": %b}' % (b"[" * 9000 + b"]" * 9000), b'{"x": "\xff"}', b'{"x": 1 2}', b'{"x": "\\ud800"}'],
    ids=["NaN", "deep", "not UTF-8", "malformed", "half a surrogate"],
)
def test_one_unreadable_call_does_not_spoil_its_batch(api: Live, log: Log, bad: bytes) -> None:
    """Even where the body as a whole is no JSON."""
    user = f"salvaged-{xxhash.xxh32_hexdigest(bad)}"
    good = b'{"type":"track","userId":"%b","event":"Document Viewed"}' % user.encode()
    spoilt = b'{"type":"track","userId":"%b-bad","event":"Session Ended","properties":%b}' % (user.encode(), bad)
    answer = post_raw(api, "/v1/batch", b'{"sentAt":null,"batch": [%b, %b, %b]}' % (good, spoilt, good))
    stored = sorted(e.name for e in log.events(user))
    accepted = {2: [f"main/{user}"] * 2, 3: [f"main/{user}"] * 2 + [f"main/{user}-bad"]}
    assert answer.status == 200
    assert stored == accepted[answer.json["accepted"]]
    assert len(answer.json["rejected"]) + answer.json["accepted"] == 3
    if b"ud800" not in bad:  # valid JSON, in a property that nobody reads
        assert [r["index"] for r in answer.json["rejected"]] == [1]


def test_a_batch_with_nothing_good_is_refused(api: Live) -> None:
    answer = api.post("/v1/batch", {"batch": [{"type": "track", "event": "x"}]})
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["rejected"][0]["field"] == "userId"


WRONG = {
    "no JSON": (b"{", "body"),
    "not an object": (b"[]", "body"),
    "no event": (b'{"userId":"u"}', "event"),
    "empty event": (b'{"userId":"u","event":""}', "event"),
    "event is a number": (b'{"userId":"u","event":3}', "event"),
    "nobody": (b'{"event":"x"}', "userId"),
    "control character": (b'{"userId":"a\\u0000b","event":"x"}', "userId"),
    "10 kB user": (b'{"userId":"%b","event":"x"}' % (b"u" * 10_000), "userId"),
    "user is a list": (b'{"userId":[],"event":"x"}', "userId"),
    "a number of 5,000 digits": (b'{"userId":%b,"event":"x"}' % (b"9" * 5000), "userId"),
    "posing as anonymous": (b'{"userId":"anon:1","event":"x"}', "userId"),
    "before 1970": (b'{"userId":"u","event":"x","timestamp":"1969-12-31T23:59:59Z"}', "timestamp"),
    "year 1": (b'{"userId":"u","event":"x","timestamp":"0001-01-01T00:00:00+14:00"}', "timestamp"),
    "far future": (b'{"userId":"u","event":"x","timestamp":"9999-12-31T23:59:59-14:00"}', "timestamp"),
    "sent before": (
        b'{"userId":"u","event":"x","timestamp":"2026-01-01T00:00:00Z","sentAt":"2020-01-01T00:00:00Z"}',
        "timestamp",
    ),
    "no time": (b'{"userId":"u","event":"x","timestamp":"tomorrow"}', "timestamp"),
    "NaN": (b'{"userId":"u","event":"Session Ended","properties":{"minutes":NaN}}', "body"),
    "infinite": (b'{"userId":"u","event":"Session Ended","properties":{"minutes":1e400}}', "properties"),
    "negative": (b'{"userId":"u","event":"Session Ended","properties":{"minutes":-1}}', "properties.minutes"),
    "huge": (b'{"userId":"u","event":"Session Ended","properties":{"minutes":1e18}}', "properties.minutes"),
    "minutes in words": (b'{"userId":"u","event":"Session Ended","properties":{"minutes":"5"}}', "properties.minutes"),
    "properties a list": (b'{"userId":"u","event":"Session Ended","properties":[1]}', "properties"),
    "too deep": (b'{"userId":"u","event":"x","properties":%b}' % (b"[" * 9000 + b"]" * 9000), "body"),
    "bad UTF-8": (b'{"userId":"u","event":"x","note":"\xff"}', "body"),
    "another type": (b'{"userId":"u","event":"x","type":"page"}', "type"),
    "empty": (b"", "body"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_stored_is_refused_and_the_field_named(api: Live, what: str) -> None:
    """A 4xx problem, whatever is wrong."""
    body, field = WRONG[what]
    answer = post_raw(api, "/v1/track", body)
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["field"] == field
    assert answer.json["detail"]


def test_sizes_are_limited_as_segment_limits_them(api: Live) -> None:
    """32 KB an event, 500 KB and 2,500 events a batch."""
    assert api.post("/v1/track", track("big", properties={"x": "y" * 33_000})).status == 413
    in_batch = api.post("/v1/batch", {"batch": [track("big", properties={"x": "y" * 33_000}), track("big")]})
    assert [r["field"] for r in in_batch.json["rejected"]] == ["body"]
    assert api.post("/v1/batch", {"batch": [track("big", properties={"x": "y" * 30_000})] * 18}).status == 413
    assert api.ask("POST", "/v1/batch", b" " * 5_000_000, api.login).status == 413
    assert api.post("/v1/batch", {"batch": [{}] * 2501}).status == 400
    assert api.post("/v1/batch", {"batch": []}).status == 400


def test_a_body_without_a_stated_length_is_limited_too(api: Live) -> None:
    """Chunked, and without end: answered, and the connection closed."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", api.port), 10)) as connection:
        head = f"POST /v1/batch HTTP/1.1\r\nhost: x\r\nauthorization: {api.login['Authorization']}\r\n"
        connection.sendall(head.encode() + b"transfer-encoding: chunked\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(40):
                connection.sendall(b"%x\r\n%b\r\n" % (1 << 20, b" " * (1 << 20)))
        answer = connection.recv(100)
    assert answer.startswith(b"HTTP/1.1 413")


def test_a_gzip_body_is_unpacked_within_the_same_limits(api: Live, log: Log) -> None:
    """A bomb is refused without being unpacked."""
    body = b'{"userId":"zipped","event":"Document Viewed"}'
    assert post_raw(api, "/v1/track", gzip.compress(body), Content_Encoding="gzip").status == 200
    assert len(log.events("zipped")) == 1
    bomb = gzip.compress(b" " * 20_000_000)
    assert post_raw(api, "/v1/track", bomb, Content_Encoding="gzip").status == 413
    for broken in (body, gzip.compress(body)[:-9], gzip.compress(body) * 2):
        answer = post_raw(api, "/v1/track", broken, Content_Encoding="gzip")
        assert (answer.status, answer.json["field"]) == (400, "Content-Encoding")
    assert post_raw(api, "/v1/track", body, Content_Encoding="br").status == 415


@pytest.mark.parametrize(("path", "kind"), [("/v1/t", "track"), ("/v1/i", "identify"), ("/v1/p", "page")])
def test_a_browser_posts_text_with_the_key_in_the_body(api: Live, log: Log, path: str, kind: str) -> None:
    """As analytics.js does, from another origin; the key is not kept in the stored JSON."""
    body = b'{"writeKey":"%b","type":"%b","userId":"browser-%b","event":"Document Viewed"}'
    headers = {"Content-Type": "text/plain", "Origin": "https://shop.example"}
    answer = api.ask("POST", path, body % (KEY.encode(), kind.encode(), kind.encode()), headers)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "*")
    (event,) = log.events(f"browser-{kind}")
    assert "writeKey" not in event.json
    batch = {"writeKey": KEY, "batch": [track(f"browser-batch-{kind}")]}
    assert api.ask("POST", "/v1/b", msgspec.json.encode(batch), headers).status == 200


def test_a_browser_may_ask_first(api: Live) -> None:
    answer = api.ask("OPTIONS", "/v1/batch", headers={"Origin": "https://x", "Access-Control-Request-Method": "POST"})
    assert answer.status == 204
    assert "authorization" in answer.headers["access-control-allow-headers"]


def basic(user: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:".encode()).decode()


@pytest.mark.parametrize("header", [None, "Basic !!!", "Bearer x", basic("wrong"), basic(""), "Basic /w=="])
def test_without_a_known_key_nothing_is_stored(api: Live, log: Log, header: str | None) -> None:
    """401 everywhere but at /healthz, and it says how to authenticate."""
    headers = {**JSON_KIND, **({"Authorization": header} if header else {})}
    refused = api.ask("POST", "/v1/track", b'{"userId":"nokey","event":"x"}', headers)
    assert refused.status == 401
    assert refused.headers["www-authenticate"].startswith("Basic")
    assert api.ask("POST", "/v1/batch", b"nonsense", headers).status == 401
    assert log.events("nokey") == []
    assert [api.ask("GET", path, headers=headers).status for path in ("/metrics", "/nowhere", "/docs")] == [401] * 3
    assert api.ask("GET", "/healthz", headers=headers).status == 200


def test_history_needs_a_store_on_event_time(api: Live, past_api: Live, past_log: Log) -> None:
    """Refused by a wall-clock store; elsewhere the entry carries the flag."""
    refused = api.post("/v1/track", track("h"), X_Telltale_History="1")
    assert (refused.status, refused.json["field"]) == (400, "X-Telltale-History")
    then = {"timestamp": "2025-01-01T00:00:00Z"}
    assert past_api.post("/v1/track", track("h-1", **then), X_Telltale_History="1").status == 200
    assert past_api.post("/v1/track", track("h-2", **then)).status == 200
    assert [past_log.events(user)[0].history for user in ("h-1", "h-2")] == [True, False]


def test_a_store_on_event_time_takes_its_ids_from_the_events(past_api: Live, past_log: Log) -> None:
    """The log's time is the event's own, and never goes back."""
    days = [3, 5, 4]
    for day in days:
        stamp = {"timestamp": f"2025-02-0{day}T00:00:00Z", "sentAt": "2026-01-01T00:00:00Z"}
        assert past_api.post("/v1/track", track("past-1", **stamp)).status == 200
    events = past_log.events("past-1")
    expected = [datetime(2025, 2, d, tzinfo=UTC).timestamp() * 1000 for d in days]
    assert [e.ts for e in events] == expected
    assert [e.ms for e in events] == [expected[0], expected[1], expected[1]]


def test_on_event_time_no_event_of_a_batch_is_logged_an_hour_late(past_api: Live, past_log: Log) -> None:
    """Days of history in one request: what was received later is unknown before."""
    newest = max((event.ms for event in past_log.events()), default=0)
    times = [newest + 86_400_000 + i * 20 * 60_000 for i in range(200)]
    call = {"type": "track", "userId": "sparse", "event": "Document Viewed"}
    batch = [{**call, "messageId": f"sparse-{at}", "timestamp": iso(at)} for at in times]
    assert past_api.post("/v1/batch", {"batch": batch}).status == 200
    found = past_log.events("sparse")
    assert sorted(event.ts for event in found) == times
    assert all(0 <= event.ms - event.ts < 3_600_000 for event in found)


def test_an_id_that_somebody_else_put_ahead_is_honoured(past_api: Live, past_log: Log) -> None:
    """The engine's ticks go into the same stream: the append follows them, and is counted once."""
    past_api.post("/v1/track", track("ahead", timestamp="2025-03-01T00:00:00Z"))
    (event,) = past_log.events("ahead")
    ahead = event.ms + 60_000
    entry = past_log.client.xrange(keys.log(event.partition), event.entry, event.entry)[0][1]
    past_log.client.xadd(keys.log(event.partition), entry, f"{ahead}-0")
    before = past_log.accepted()
    assert past_api.post("/v1/track", track("ahead", timestamp="2025-03-01T00:00:01Z")).status == 200
    assert past_log.events("ahead")[-1].ms == ahead
    assert past_log.accepted() == before + 1


def test_on_event_time_requests_may_come_in_any_order(past_api: Live, past_log: Log) -> None:
    """Together and shuffled: each is stored and counted once, and no entry is dated before its events."""
    before, minutes = past_log.accepted(), [i * 37 % 300 for i in range(300)]

    def send(minute: int) -> int:
        stamp = f"2025-04-01T{minute // 60:02}:{minute % 60:02}:00Z"
        return past_api.post("/v1/track", track(f"shuffled-{minute}", timestamp=stamp)).status

    with ThreadPoolExecutor(30) as pool:
        assert set(pool.map(send, minutes)) == {200}
    events = past_log.events("shuffled")
    assert sorted(e.name for e in events) == sorted(f"main/shuffled-{m}" for m in minutes)
    assert past_log.accepted() == before + 300
    assert all(e.ts <= e.ms for e in events)


def test_a_store_on_event_time_wants_the_time_told(past_api: Live) -> None:
    answer = past_api.post("/v1/track", track("untimed"))
    assert (answer.status, answer.json["field"]) == (400, "timestamp")


def test_requests_that_come_together_share_appends(api: Live, log: Log) -> None:
    """Far fewer transactions than requests, and each event stored and counted once."""
    calls, before = 400, log.accepted()
    done = log.client.info("commandstats")["cmdstat_exec"]["calls"]
    with ThreadPoolExecutor(40) as pool:
        answers = list(
            pool.map(lambda i: api.post("/v1/track", track("shared", messageId=f"s{i}")).status, range(calls))
        )
    appends = log.client.info("commandstats")["cmdstat_exec"]["calls"] - done
    assert answers == [200] * calls
    assert len({e.mid for e in log.events("shared")}) == calls
    assert log.accepted() == before + calls
    assert appends < calls


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nope", 404), ("POST", "/metrics", 405), ("GET", "/v1/t", 405)]
)
def test_a_wrong_path_or_method_is_a_problem_too(api: Live, method: str, path: str, status: int) -> None:
    answer = api.ask(method, path, b"" if method == "POST" else None)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json["status"] == status


def test_another_type_of_content_is_refused(api: Live) -> None:
    answer = post_raw(api, "/v1/track", b"<x/>", Content_Type="application/xml")
    assert (answer.status, answer.json["field"]) == (415, "Content-Type")
