"""Requests that are framed or made to hurt: each is answered, or refused, and nobody else waits for it."""

from __future__ import annotations

import socket
import time
from contextlib import closing

import msgspec
import pytest

from serving.front import Requests
from serving.shortcut import MAX_HEAD, Shortcuts
from tests.faults.crowds import LOGIN
from tests.faults.malformed import REFUSED, STATUS, sent
from tests.faults.wire_shapes import malformed, oversized
from tests.live import Live
from tests.logged import Log
from tests.serving.test_feast_read import FEATURES, PATH, answers, asking, raw


@pytest.mark.parametrize("path", ["/v1/track", PATH])
@pytest.mark.parametrize("upgrade", ["h2c", "websocket"])
def test_who_would_rather_upgrade_is_answered_all_the_same(api: Live, path: str, upgrade: str) -> None:
    """As Java's client asks; the body is read, and what follows on the connection is answered too."""
    event = {"userId": "java", "event": "Document Viewed"}
    body = msgspec.json.encode(asking("java") if path == PATH else event)
    asked = raw(api, body, "Connection: Upgrade, HTTP2-Settings", f"Upgrade: {upgrade}", "HTTP2-Settings: AAMAAABk")
    asked = asked.replace(PATH.encode(), path.encode(), 1)
    with closing(socket.create_connection(("127.0.0.1", api.port), timeout=10)) as line:
        line.sendall(asked + raw(api, msgspec.json.encode(asking("next"))))
        first, second = answers(line, 2)
    assert "status" not in first
    assert second["results"][0]["values"] == ["next"]


def test_a_body_is_not_taken_for_a_head(api: Live) -> None:
    """A line of it that reads like a header stays as it is."""
    body = b'{"features":["user_finances:home_value"],\nupgrade :0,"entities":{"user_id":["b"]}}'
    with closing(socket.create_connection(("127.0.0.1", api.port), timeout=10)) as line:
        line.sendall(raw(api, body))
        assert "byte 42" in answers(line, 1)[0]["detail"]


def test_a_head_of_blanks_takes_no_time() -> None:
    """Of any length that the shortcut looks at."""
    head = b"POST /p HTTP/1.1\r\na:"
    head += b" " * (MAX_HEAD - len(head) - 1) + b"\0"
    begun = time.perf_counter()
    assert Shortcuts({"/p": lambda *_: True}, Requests()).head(head) is None
    assert time.perf_counter() - begun < 0.1


def test_blanks_around_a_value_are_none_of_it() -> None:
    """Before and behind, blanks and tabs."""
    head = b"POST /p HTTP/1.1\r\nhost:x\r\nauthorization: \t a b \t\r\ncontent-length:\t3 "
    found = Shortcuts({"/p": lambda *_: True}, Requests()).head(head)
    assert found is not None
    assert (found.authorization, found.length) == (b"a b", 3)


def test_a_feature_asked_for_100000_times_is_refused_at_once(api: Live) -> None:
    """As when it is asked for twice."""
    begun = time.perf_counter()
    answer = api.post(PATH, asking("many", features=FEATURES[:1] * 100_000))
    assert (answer.status, answer.json["field"]) == (422, "features")
    assert time.perf_counter() - begun < 3.0


SHAPES = [*malformed(LOGIN), *oversized(LOGIN)]


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_framed_wrong_or_too_large_is_refused_and_not_counted(api: Live, log: Log, name: str) -> None:
    """A proxy before us may read some of these in another way; we read them in none."""
    before = log.accepted()
    framed = malformed(LOGIN)
    found = sent(api.port, [framed[name]] if name in framed else oversized(LOGIN)[name])
    assert STATUS.match(found), found[:200]
    assert int(found[9:12]) in REFUSED
    assert log.accepted() == before
