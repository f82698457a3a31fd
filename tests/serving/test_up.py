"""`telltale up` as its user runs it: real processes, kills, and what is left after Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from serving.client import Closed, Door, Turned
from tests.running_up import Up, door_of, eventually, start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
EVENT = {"type": "track", "userId": "u1", "event": "Document Viewed", "timestamp": "2026-03-01T12:00:00Z"}


def post(door: Door, message_id: str) -> None:
    """Until it is stored; a resend under the same id counts once."""
    body = msgspec.json.encode({"batch": [{**EVENT, "messageId": message_id}]})
    deadline = time.monotonic() + 20.0
    while True:
        with suppress(Closed, Turned):
            door.post("/v1/batch", body, {})
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def count(door: Door) -> Any:
    told = door.json("/v1/users/u1/features")["features"]
    return told["doc_access_count_30d"]["value"]


def eventually_counts(door: Door, expected: int) -> None:
    deadline = time.monotonic() + 20.0
    while time.monotonic() < deadline:
        with suppress(Closed, Turned):
            if count(door) == expected:
                return
        time.sleep(0.05)
    assert count(door) == expected


def all_of(up: Up) -> list[int]:
    """The store and the four others, once the last of them has been started."""
    deadline = time.monotonic() + 20.0
    while len(found := up.pids("")) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("victim", ["serving.app", "flows.alerting", "valkey-server"])
def test_what_is_killed_comes_back_and_nothing_is_lost(up: Up, victim: str) -> None:
    """Each event posted around a kill -9 is counted once in the features."""
    with closing(door_of(up)) as door:
        post(door, "before")
        os.kill(up.pids(victim)[0], signal.SIGKILL)
        post(door, "after")
        eventually_counts(door, 2)
        assert up.end() < 5.0


def test_the_next_start_goes_on_from_there(up: Up) -> None:
    """Ctrl-C ends all processes within five seconds; key, counts and features are there again."""
    with closing(door_of(up)) as door:
        post(door, "first")
        eventually_counts(door, 1)
        everybody = all_of(up)
        assert up.end() < 5.0
        assert not [pid for pid in everybody if Path(f"/proc/{pid}").exists()]
        with closing(start(up.settings)) as again:
            eventually(door, "/readyz")
            post(door, "second")
            eventually_counts(door, 2)
            assert again.end() < 5.0


def test_after_a_killed_supervisor_the_next_start_goes_on(up: Up) -> None:
    """kill -9 of `telltale up` takes its processes along; the next start finds all that was acknowledged."""
    with closing(door_of(up)) as door:
        post(door, "first")
        everybody = all_of(up)
        up.process.kill()
        up.process.wait()
        deadline = time.monotonic() + 20
        while alive := [pid for pid in everybody if Path(f"/proc/{pid}/exe").exists()]:
            assert time.monotonic() < deadline, alive  # or the old API could answer for the new
            time.sleep(0.02)
        with closing(start(up.settings)):
            eventually(door, "/readyz")
            post(door, "second")
            eventually_counts(door, 2)
