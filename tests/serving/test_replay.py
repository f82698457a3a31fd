"""Replay: a file's calls, in the order of their own timestamps, each once."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from serving.client import Door
from serving.complaint import Complaint
from serving.replay import BATCH_EVENTS, batches, prepared, read_index, replay
from tests.live import KEY, Live, live

CALLS: list[dict[str, Any]] = [
    {"type": "track", "userId": "u2", "event": "Document Viewed", "timestamp": "2026-03-01T12:00:00Z"},
    {"type": "identify", "userId": "u1", "traits": {"property_count": 2}, "timestamp": "2026-01-01T12:00:00Z"},
    {"type": "track", "userId": "u1", "event": "Document Viewed", "originalTimestamp": "2026-02-01T12:00:00+01:00"},
]


def written(path: Path, calls: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(call) + "\n" for call in calls))
    return path


@pytest.fixture
def api(client: redis.Redis, settings: Settings) -> Iterator[Live]:
    with live(settings) as running:
        yield running


def test_calls_are_posted_in_time_order(
    api: Live, client: redis.Redis, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is not sorted is; ids of the log carry the events' own time."""
    replay(
        api.settings,
        KEY,
        written(tmp_path / "calls", [*CALLS, {**CALLS[0], "event": "", "messageId": "bad"}]),
        0,
        False,
    )
    said = capsys.readouterr().out
    assert said.startswith("4 calls in ")
    assert said.endswith(" 1 rejected\n")
    ids = [entry.partition(b"-")[0] for p in range(4) for entry, _ in client.xrange(keys.log(p))]
    assert max(int(i) for i in ids) == 1772366400000  # 2026-03-01T12:00:00Z
    assert sum(int(client.hget(keys.counts(p), "accepted") or 0) for p in range(4)) == 3


def test_a_door_that_refuses_all_ends_the_replay(api: Live, tmp_path: Path) -> None:
    """A wrong key is said at once, not tried for a minute."""
    with pytest.raises(Complaint, match="401"):
        replay(api.settings, "no-such-key", written(tmp_path / "calls", CALLS), 0, False)


def test_speed_spreads_the_calls_over_time(
    api: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At a speed of a million, 59 days take about five seconds: so the pauses add up to that."""
    pauses: list[float] = []
    monkeypatch.setattr("serving.replay.BATCH_EVENTS", 1)
    monkeypatch.setattr("time.sleep", pauses.append)
    replay(api.settings, KEY, written(tmp_path / "calls", CALLS), 1e6, True)
    assert max(pauses) == pytest.approx(59 * 86_400 / 1e6, abs=0.5)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"nonsense", "line 2: expected one JSON call"),
        (b'{"type": "track"}', "line 2: expected a `timestamp`"),
        (b'{"type": "track", "timestamp": "yesterday"}', "line 2: expected one JSON call"),
        (b'{"timestamp": "2026-01-01T00:00:00Z"}', "line 2: expected one JSON call"),
        (b'"\xff"', "line 2: expected one JSON call"),
        (b"[" * 100_000, "line 2: expected one JSON call"),
    ],
)
def test_a_line_that_is_no_call_is_named(line: bytes, said: str) -> None:
    """Nothing is posted from a file that cannot be read to its end."""
    good = msgspec.json.encode(CALLS[0])
    with pytest.raises(Complaint, match=said):
        read_index(io.BytesIO(good + b"\n" + line + b"\n"))


def test_an_absent_file_is_named(settings: Settings, tmp_path: Path) -> None:
    """The line has the path and why."""
    with pytest.raises(Complaint, match="nothing: No such file"):
        replay(settings, KEY, tmp_path / "nothing", 0, False)


def test_the_own_timestamp_stands_and_ids_stay_the_same() -> None:
    """`sentAt` would move the time; a messageId of our own makes a call that is sent again count once."""
    line = msgspec.json.encode({**CALLS[2], "sentAt": "2026-11-01T12:00:00Z"})
    call = json.loads(prepared(line, 7))
    assert "sentAt" not in call
    assert call["timestamp"] == CALLS[2]["originalTimestamp"]
    assert prepared(line, 7) == prepared(line, 7) != prepared(line, 8)
    assert json.loads(prepared(b'{"messageId": "m"}', 0))["messageId"] == "m"


def test_batches_keep_the_doors_limits() -> None:
    """Neither too many calls nor too many bytes stand in one batch, and none is lost."""
    small = msgspec.json.encode(CALLS[0]) + b"\n"
    large = msgspec.json.encode({**CALLS[0], "properties": {"text": "x" * 30_000}}) + b"\n"
    file = io.BytesIO(small * (BATCH_EVENTS + 1) + large * 30)
    sizes = [(len(calls), sum(map(len, calls))) for _, calls in batches(file, read_index(file))]
    assert sum(count for count, _ in sizes) == BATCH_EVENTS + 31
    assert all(count <= 2500 and weight < 500_000 for count, weight in sizes)


def test_a_door_that_is_not_there_says_how_to_start_it(settings: Settings, free_port: int) -> None:
    """The command line's client names the address and the command."""
    with pytest.raises(Complaint, match=rf"127.0.0.1:{free_port}.*telltale up"):
        Door(msgspec.structs.replace(settings, port=free_port), KEY).json("/v1/alerts")
