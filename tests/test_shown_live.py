"""The commands and blocks of the READMEs, run in a directory of their own beside a `telltale run`."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from feature_repo.settings import Settings
from flows.store import connect
from serving import write_keys
from serving.client import Door
from serving.supervisor import environment
from tests.live import ROOT, free_port
from tests.running_up import TELLTALE, eventually
from tests.shown import LIVE, SMALL, STOPPED, Run, block

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="some commands are ended by timeout(1)")
PATIENCE_S = 120.0
START = datetime(2026, 1, 1, tzinfo=UTC)
EVENTS = ("Document Viewed", "Property Value Checked", "Session Ended", "Email Opened")


class Tour:
    """A directory, and what is there: `environ` names what the commands speak of."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.settings = Settings(
            home=place / ".telltale", port=free_port(), lake_seconds=1, lake_features=1.0, clock="log"
        )
        self.environ = environment(self.settings) | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "COLUMNS": "200",
            "SPARE": str(free_port()),
        }
        write_files(place)
        self._out = (place / "out").open("w")
        self.process = subprocess.Popen(
            [*TELLTALE, "run", "--people", "300", "--speed", "28800", "--until", "96"],
            cwd=place, env=self.environ, stdout=self._out, stderr=self._out,
        )  # fmt: skip

    def said(self) -> str:
        return (self.place / "out").read_text()

    def until_alert(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while "(the first alert, " not in self.said():
            assert self.process.poll() is None, self.said()[-500:]
            assert time.monotonic() < deadline, self.said()[-500:]
            time.sleep(0.1)

    def learn(self) -> None:
        """Names of what is there, for those who ask by name."""
        with closing(connect(self.settings)) as client:
            self.environ["KEY"] = write_keys.first(client)[0]
        with closing(self.door()) as door:
            alert = msgspec.json.decode(eventually(door, "/v1/alerts"))["alerts"][0]
            path = f"/v1/alerts/{alert['id']}/deliveries"
            while not (found := _done(door.json(path))):  # the app's is done by being planned
                time.sleep(0.1)
        versions = sorted(path.name for path in (ROOT / "onnx_models/refinance_opportunity").glob("2*"))
        self.environ |= {"ALERT": alert["id"], "PERSON": alert["user"], "DELIVERY": found}
        self.environ |= {"OLDER": versions[-2], "NEWEST": versions[-1]}

    def door(self) -> Door:
        return Door(self.settings, self.environ["KEY"])

    def run(self, run: Run) -> str:
        done = subprocess.run(
            ["sh", "-ec", run.line], cwd=self.place, env=self.environ, capture_output=True, text=True,
            timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert done.returncode in run.codes, f"{run.line}\n{done.stdout}{done.stderr}"
        said = done.stdout + done.stderr
        assert "Traceback" not in said, said
        assert re.search(run.says, said, re.MULTILINE), f"{run.line}\n{said}"
        return said

    def block(self, page: str, begins: str, says: str) -> str:
        """As it stands, but for the port and the alert."""
        text = block(page, begins).replace(":8400", f":{self.settings.port}")
        return self.run(Run(text.replace("al_...", self.environ["ALERT"]), says))

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(20)
        self._out.close()


def _done(answer: Any) -> str:
    return next((each["id"] for each in answer["deliveries"] if each["state"] == "DONE"), "")


def write_files(place: Path) -> None:
    """A history of some people, and labels of them."""
    dice = random.Random(1)
    people = [f"p{i}" for i in range(40)]
    calls = [
        {
            "type": "track",
            "userId": dice.choice(people),
            "event": dice.choice(EVENTS),
            "messageId": f"h{i}",
            "timestamp": (START + timedelta(days=dice.random() * 120)).isoformat(),
        }
        for i in range(1500)
    ]
    calls.sort(key=lambda call: call["timestamp"])
    (place / "history.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, calls)) + b"\n")
    rows = [
        f"{dice.choice(people)},{(START + timedelta(days=30 + i / 4)).isoformat()},{i % 3 // 2}\n" for i in range(300)
    ]
    (place / "labels.csv").write_text("user,as_of,label\n" + "".join(rows))


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tour]:
    found = Tour(tmp_path_factory.mktemp("tour"))
    try:
        found.until_alert()
        found.learn()
        yield found
    finally:
        found.end()


@pytest.mark.parametrize("run", LIVE, ids=lambda run: run.line)
def test_a_command_does_what_it_is_shown_for(tour: Tour, run: Run) -> None:
    """It ends well, and prints what it should."""
    tour.run(run)


def test_an_alert_is_moved_and_its_outcome_told(tour: Tour) -> None:
    """As the room of the API shows it."""
    said = tour.block("serving/README.md", 'curl -s -u "$KEY:" -X PATCH', '"ACKNOWLEDGED"')
    assert '"TRUE_POSITIVE"' in said


def test_a_score_is_asked_for(tour: Tour) -> None:
    """With what is given, and with reasons."""
    said = tour.block(
        "serving/README.md", 'curl -s -u "$KEY:" http://127.0.0.1:8400/v1/score/', '"model":"likely_to_sell"'
    )
    assert '"contributions"' in said


def test_somebody_is_told_of_urgent_alerts(tour: Tour) -> None:
    """A recipient, and a rule that names their id."""
    tour.block("flows/README.md", "ann=$(curl", '"through_quiet":true')


def test_a_training_set_is_made(tour: Tour) -> None:
    """Of the running home's lake, as soon as the log has reached it."""
    deadline = time.monotonic() + PATIENCE_S
    while not (tour.place / "rows.parquet").exists():
        with suppress(AssertionError):
            tour.block("training/README.md", "telltale backfill", "")
        assert time.monotonic() < deadline


@pytest.mark.parametrize("line", block("training/README.md", "telltale train").replace(*SMALL).splitlines())
def test_a_model_is_trained_or_it_is_said_what_it_lacks(tour: Tour, line: str) -> None:
    """Of a lake without a whole horizon, labels by chance, few people, no outcomes; tests/training has enough."""
    tour.run(Run(line, "likely_to_sell.*(expected|AUC)|the answer", (0, 2)))


@pytest.fixture(scope="module")
def stopped(tour: Tour) -> Tour:
    tour.end()
    assert tour.said().splitlines()[-1].startswith("stopped; nothing is lost")
    return tour


@pytest.mark.parametrize("run", STOPPED, ids=lambda run: run.line)
def test_a_command_works_when_nothing_runs(stopped: Tour, run: Run) -> None:
    """It ends well, and prints what it should."""
    stopped.run(run)
