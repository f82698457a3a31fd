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
from serving.replay import BATCH_EVENTS, TOGETHER, Clock, Index, Pace, batches, prepared, read_index, replay
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


class Watch:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.seconds = 5.0
        self.clock = Clock(lambda: self.seconds, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def a_call_a_minute(count: int) -> tuple[io.BytesIO, Index]:
    made = [{**CALLS[0], "timestamp": f"2026-03-01T{n // 60:02}:{n % 60:02}:00Z"} for n in range(count)]
    file = io.BytesIO(b"".join(msgspec.json.encode(call) + b"\n" for call in made))
    return file, read_index(file)


def test_speed_spreads_the_calls_over_time(api: Live, tmp_path: Path) -> None:
    """At a speed of a million, 59 days take about five seconds: so long is waited in all."""
    watch = Watch()
    replay(api.settings, KEY, written(tmp_path / "calls", CALLS), 1e6, True, watch.clock)
    assert watch.seconds - 5 == pytest.approx(59 * 86_400 / 1e6)


def test_calls_go_steadily_at_their_time() -> None:
    """At an hour a second, no call is posted before its time, nor later than the calls that it may wait for."""
    watch = Watch()
    file, index = a_call_a_minute(600)
    pace = Pace(int(index.at[0]), 3600.0, watch.clock)
    posted = 0
    for at, calls in batches(file, index, pace):
        told = list(pace.wait(at))
        assert told == sorted(told)
        for n in range(posted, posted + len(calls)):
            assert n / 60 - 1e-6 <= watch.seconds - 5 <= n / 60 + TOGETHER + 1e-6
        posted += len(calls)
    assert posted == 600


def test_what_is_overdue_goes_in_one_batch() -> None:
    """A door that was away is not asked once for each tenth of a second that it missed."""
    watch = Watch()
    file, index = a_call_a_minute(600)
    sizes = []
    for _, calls in batches(file, index, Pace(int(index.at[0]), 3600.0, watch.clock)):
        sizes.append(len(calls))
        watch.seconds += 5
    assert sizes == [7, 294, 299]


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
    pace = Pace(0, 0.0, Clock())
    sizes = [(len(calls), sum(map(len, calls))) for _, calls in batches(file, read_index(file), pace)]
    assert sum(count for count, _ in sizes) == BATCH_EVENTS + 31
    assert all(count <= 2500 and weight < 500_000 for count, weight in sizes)


def test_a_door_that_is_not_there_says_how_to_start_it(settings: Settings, free_port: int) -> None:
    """The command line's client names the address and the command."""
    with pytest.raises(Complaint, match=rf"127.0.0.1:{free_port}.*telltale up"):
        Door(msgspec.structs.replace(settings, port=free_port), KEY).json("/v1/alerts")
