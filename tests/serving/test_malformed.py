"""Whatever is posted, the answer is never a fault of ours, and the process lives on."""

from __future__ import annotations

import gzip
import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.salvage import split
from tests.live import Live
from tests.logged import Log

QUICK = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PATHS = st.sampled_from(["/v1/track", "/v1/identify", "/v1/page", "/v1/batch", "/v1/t", "/v1/b"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
FIELDS = (
    *("type", "event", "userId", "anonymousId", "messageId", "properties", "traits", "writeKey", "batch"),
    *("timestamp", "originalTimestamp", "sentAt"),
)
NEARLY = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(FIELDS, JSON),
        "type": st.sampled_from(["track", "identify", "page", "alias", "x"]) | JSON,
        "event": st.sampled_from(["Document Viewed", "Session Ended", "Email Opened", ""]) | JSON,
        "userId": st.text(min_size=1) | st.integers() | JSON,
        "timestamp": st.datetimes().map(lambda t: t.isoformat()) | st.just("2026-01-01T00:00:00Z") | JSON,
        "sentAt": st.datetimes().map(lambda t: t.isoformat() + "Z") | JSON,
        "properties": st.dictionaries(st.sampled_from(["minutes", "topic", "rating"]), JSON) | JSON,
        "traits": st.dictionaries(st.sampled_from(["property_count", "address", "home_purchase_date"]), JSON) | JSON,
    },
)


def dumped(value: Any) -> bytes:
    """JSON with all the liberties that senders take: NaN, lone surrogates."""
    return json.dumps(value, ensure_ascii=True).encode()


def answered(api: Live, path: str, body: bytes, **headers: str) -> int:
    kind = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
    answer = api.ask("POST", path, body, {**api.login, **kind})
    if answer.status != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["field"]
    return answer.status


@QUICK
@given(path=PATHS, body=st.binary(max_size=300) | JSON.map(dumped))
def test_noise_is_a_4xx(api: Live, path: str, body: bytes) -> None:
    assert answered(api, path, body) in (400, 413)


@QUICK
@given(path=PATHS, message=NEARLY)
def test_nearly_right_calls_are_stored_or_refused(api: Live, path: str, message: dict[str, Any]) -> None:
    assert answered(api, path, dumped(message)) in (200, 400)


@QUICK
@given(calls=st.lists(NEARLY | JSON, min_size=1, max_size=5))
def test_in_a_batch_each_call_is_accepted_or_rejected(api: Live, log: Log, calls: list[Any]) -> None:
    """Their numbers add up, and with what is counted as accepted."""
    before = log.accepted()
    answer = api.ask("POST", "/v1/batch", dumped({"batch": calls}), api.login)
    assert answer.status in (200, 400)
    accepted = answer.json.get("accepted", 0)
    assert accepted + len(answer.json["rejected"]) == len(calls)
    assert log.accepted() == before + accepted


@QUICK
@given(body=st.binary(max_size=200), cut=st.integers(0, 30))
def test_broken_gzip_is_a_4xx(api: Live, body: bytes, cut: int) -> None:
    packed = gzip.compress(body)
    assert answered(api, "/v1/track", packed[: len(packed) - cut], Content_Encoding="gzip") == 400


@QUICK
@given(header=st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=40))
def test_any_authorization_is_a_401(api: Live, header: str) -> None:
    refused = api.ask("POST", "/v1/track", b"{}", {"Authorization": header.strip() or "x"})
    assert refused.status in (400, 401)  # 400: no HTTP


@settings(max_examples=300, deadline=None, derandomize=True)
@given(calls=st.lists(JSON, max_size=6), before=JSON, after=JSON)
def test_salvage_takes_a_readable_batch_apart_as_a_parser_would(calls: list[Any], before: Any, after: Any) -> None:
    """Strings that look like brackets included."""
    parts = dumped(before), dumped(calls), dumped(after)
    found = split(b'{"a":%b,"batch" : %b,"z":%b}' % parts)
    assert found is not None
    assert [c.strip() for c in found[1]] == [dumped(c) for c in calls]
    assert found[0] == b'{"a":%b,"batch" : [],"z":%b}' % (parts[0], parts[2])


def test_salvage_gives_up_where_brackets_do_not_match() -> None:
    for body in (b"", b"[]", b'{"batch":[{}', b'{"x":[]}', b'{"x":{"batch":[1]}}', msgspec.json.encode({"batch": 1})):
        assert split(body) is None


@pytest.mark.parametrize("unit", [b'\\"', b'"', b",", b"[", b"{}", b'",'])
def test_hostile_bodies_cost_little(unit: bytes) -> None:
    """Time grows with the length, not with its square."""
    body = b'{"batch":["' + unit * (500_000 // len(unit))
    began = time.process_time()
    split(body)
    assert time.process_time() - began < 1
