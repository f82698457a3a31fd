"""Promotions and rollbacks at once, and kill -9 in the midst of them: one version everywhere, within a second.

`KILLS=200 make faults` goes on for longer.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import msgspec
import pytest

from feature_repo.services import SERVICES
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from onnx_models.book import Book
from onnx_models.library import Library
from serving.client import Door
from tests.faults.rounds import KILLS
from tests.faults.test_kills import alerts
from tests.flows.made_models import logistic
from tests.running_up import Up, door_of, eventually, start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
ROUNDS = max(KILLS // 2, 3)
SELL = next(service for service in SERVICES if service.name == "likely_to_sell")
CHECKED = Vocabulary().event["property_value_check"].segment[0]
VERSIONS = tuple(f"2026010{day}000000" for day in (1, 2, 3, 4))
CHECKS = 6  # that make every version fire
NOON = 1_772_366_400_000  # 2026-03-01T12:00:00Z
CHANGER = """
import random, sys
from pathlib import Path
from onnx_models.library import Library
from onnx_models.registry import Conflict
home, shipped, name, seed, *versions = sys.argv[1:]
library, dice = Library(Path(home), Path(shipped)), random.Random(seed)
print("ready", flush=True)
while True:
    try:
        if dice.random() < 0.5:
            library.promote(name, dice.choice(versions), "p", "race")
        else:
            library.rollback(name, "p", "race")
    except Conflict as error:
        assert "expected an earlier version" in str(error)
"""


@pytest.fixture
def up(tmp_path: Path, free_port: int) -> Iterator[Up]:
    """A whole Telltale with four versions of one model; the first ships."""
    for version in VERSIONS:
        directory = tmp_path / ("shipped" if version == VERSIONS[0] else "onnx_models")
        logistic(directory, SELL, "value_check_count_30d", 1.0, CHECKS - 1.0, 0.7, version=version)
    settings = Settings(home=tmp_path, port=free_port, clock="log", partitions=2, models=str(tmp_path / "shipped"))
    with closing(start(settings)) as running:
        yield running


def test_one_version_everywhere(up: Up) -> None:
    """Whoever changes the registry is killed at any moment, and so are API and engine: all score with what it says."""
    library, dice = Library.of(up.settings), random.Random(5)
    for version in VERSIONS:
        library.load(SELL.name, version)  # proved, as by whoever registers it
    with closing(door_of(up)) as door:
        for number in range(ROUNDS):
            race(library, dice, number)
            if number % 3 == 2:
                kill(up, dice.choice(["serving.app", "flows.alerting"]))
                door_of(up).close()
            done = time.monotonic()
            book = library.book(SELL.name)
            whole(book)
            time.sleep(max(done + 1.0 - time.monotonic(), 0.0))
            assert scoring(door) == book.deployed
            assert alerted(door, f"u{number}", number) == book.deployed


def race(library: Library, dice: random.Random, number: int) -> None:
    """Three processes change the registry until they are killed."""
    words = [sys.executable, "-c", CHANGER, *map(str, library.places), SELL.name]
    with ExitStack() as stack:
        racing = [
            stack.enter_context(subprocess.Popen([*words, f"{number}-{i}", *VERSIONS], stdout=subprocess.PIPE))
            for i in range(3)
        ]
        for process in racing:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for process in racing:
            time.sleep(dice.uniform(0.05, 0.3))
            assert process.poll() is None  # or a change failed
            process.kill()


def kill(up: Up, what: str) -> None:
    for pid in up.pids(what):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def whole(book: Book) -> None:
    """No change was lost or half made."""
    assert [version for version, state in book.states.items() if state == "DEPLOYED"] == [book.deployed]
    assert book.history[-1].version == book.deployed
    generations = [change.generation for change in book.history]
    assert generations == list(range(generations[0], book.generation + 1))


def scoring(door: Door) -> str:
    models = json.loads(eventually(door, "/v1/models"))["models"]
    return str(next(model["scoring"] for model in models if model["name"] == SELL.name))


def alerted(door: Door, user: str, number: int) -> str:
    """The version by which somebody new is alerted on."""
    at = NOON + number * 3_600_000
    calls = [
        {"type": "track", "userId": user, "event": CHECKED, "messageId": f"{user}-{i}", "timestamp": moment(at + i)}
        for i in range(CHECKS)
    ]
    door.post("/v1/batch", msgspec.json.encode({"batch": calls}), {})
    deadline = time.monotonic() + 10
    while not (found := [alert for alert in alerts(door) if alert["user"] == user]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return str(found[0]["model_version"])


def moment(ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms / 1000)) + f".{ms % 1000:03}Z"
