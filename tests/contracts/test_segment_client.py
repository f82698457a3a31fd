"""Segment's own Python client posts to our door, and the log holds what it sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from segment.analytics.client import Client

from feature_repo.vocabulary import SILENT, UNKNOWN, Vocabulary
from tests.live import KEY, Live
from tests.logged import Log

VOCABULARY = Vocabulary()


def send(api: Live, calls: list[tuple[str, dict[str, Any]]], key: str = KEY, **options: Any) -> list[Exception]:
    """Has the client send these calls, and returns the errors that it reports."""
    errors: list[Exception] = []
    client = Client(key, host=api.url, on_error=lambda error, _: errors.append(error), max_retries=1, **options)
    for method, arguments in calls:
        getattr(client, method)(**arguments)
    client.flush()
    client.join()
    return errors


@pytest.mark.parametrize("gzip", [False, True])
def test_what_the_client_sends_is_in_the_log(api: Live, log: Log, gzip: bool) -> None:
    """Every kind of call, with the client's own ids and times."""
    user, then = f"segment-{gzip}", datetime.now(UTC) - timedelta(days=3)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("track", {"user_id": user, "event": "Document Viewed", "timestamp": then, "message_id": f"{gzip}-1"}),
        ("track", {"user_id": user, "event": "Session Ended", "properties": {"minutes": 7.5}}),
        ("track", {"user_id": user, "event": "Something Else"}),
        ("identify", {"user_id": user, "anonymous_id": f"{user}-anon", "traits": {"property_count": 2}}),
        ("page", {"user_id": user, "name": "Home"}),
        ("screen", {"user_id": user, "name": "Main"}),
        ("group", {"user_id": user, "group_id": "g1"}),
        ("alias", {"user_id": user, "previous_id": "before"}),
    ]
    assert send(api, calls, gzip=gzip) == []
    events = log.events(user)
    assert sorted(e.json["type"] for e in events) == sorted(method for method, _ in calls)
    codes = {e.json.get("event") or e.json["type"]: (e.code, e.value) for e in events}
    assert codes["Document Viewed"] == (VOCABULARY.code["document_access", None], 0)
    assert codes["Session Ended"] == (VOCABULARY.code["session", None], 7500)
    assert codes["Something Else"] == (UNKNOWN, 0)
    assert codes["identify"] == (SILENT, 0)
    first = next(e for e in events if e.json["messageId"] == f"{gzip}-1")
    assert abs(first.ts - then.timestamp() * 1000) < 5000
    (join,) = log.events(f"anon:{user}-anon")
    assert join.join == f"main/{user}"


def test_two_thousand_events_arrive_each_once(api: Live, log: Log) -> None:
    calls = [("track", {"user_id": f"many-{i % 97}", "event": "Comparable Viewed"}) for i in range(2000)]
    before = log.accepted()
    assert send(api, calls, upload_size=300) == []
    assert len({e.mid for e in log.events("many-")}) == 2000
    assert log.accepted() == before + 2000


def test_a_wrong_key_is_told_to_the_client(api: Live, log: Log) -> None:
    errors = send(api, [("track", {"user_id": "segment-wrong", "event": "Document Viewed"})], key="wrong")
    assert [getattr(error, "status", None) for error in errors] == [401]
    assert log.events("segment-wrong") == []
