"""Fault: schemathesis asks of the whole API, by its own description, whatever fits it and whatever does not."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from feature_repo import keys
from feature_repo.settings import Settings
from flows.alert import alert_id
from flows.alert_store import open_alerts
from flows.store import connect
from serving.client import Door
from tests.bench.environments import environment
from tests.faults.found import Found
from tests.flows.made_alerts import alert
from tests.live import ROOT, free_port
from tests.running_up import door_of, start

CONFIG = Path(__file__).with_name("schemathesis.toml")  # which check does not hold where, and why
SCHEMATHESIS = "schemathesis==4.32.5"
WRITER, ADMIN = "key-of-a-writer", "key-of-an-administrator"
PEOPLE = 20


def run(budget: float, dice: random.Random, home: Path) -> Found:
    """All checks, once with a write key and once with an administrator's."""
    with _peopled(home) as settings:
        told = {who: _asked(settings, key, dice, budget / 2, home) for who, key in KEYS.items()}
    requests = {f"requests of a {who}": float(one["test_cases"]["generated"]) for who, one in told.items()}
    operations = float(min(one["operations"]["tested"] for one in told.values()))
    return Found(runs=int(sum(requests.values())), notes={"operations": operations, **requests})


KEYS = {"writer": WRITER, "administrator": ADMIN}


@contextmanager
def _peopled(home: Path) -> Iterator[Settings]:
    """Everything runs, and there are people and alerts to be asked about."""
    settings = Settings(home=home, port=free_port(), partitions=2, lake_seconds=1, withheld=0.0)
    with closing(start(settings)) as up, closing(door_of(up)) as door:
        with closing(connect(settings)) as client:
            client.hset(keys.KEYS, mapping=dict.fromkeys(KEYS.values(), "main"))
            client.sadd(keys.ADMINS, ADMIN)
        _tell(door)
        with closing(open_alerts(settings)) as store:
            store.insert([alert(n, organisation="main", id=_id(n)) for n in range(PEOPLE)])
        yield settings


def _id(n: int) -> str:
    return alert_id("main", f"u{n}", "LIKELY_TO_SELL", f"{n}-0")


def _tell(door: Door) -> None:
    calls = [{"type": "track", "userId": f"u{n}", "event": "Document Viewed"} for n in range(PEOPLE)]
    door.post("/v1/batch", json.dumps({"batch": calls}).encode(), {})


def _asked(settings: Settings, key: str, dice: random.Random, seconds: float, home: Path) -> dict[str, Any]:
    """What schemathesis reports. Raises AssertionError with what it found."""
    report = home / f"{key}.json"
    command = [
        *(str(environment("schemathesis", SCHEMATHESIS) / "python"), "-m", "schemathesis.cli"),
        *("--config-file", str(CONFIG)),
        *("run", f"http://127.0.0.1:{settings.port}/openapi.json", "--auth", f"{key}:"),
        *(
            "--max-time",
            str(max(1, int(seconds))),
            "--seed",
            str(dice.getrandbits(32)),
            "--generation-database",
            "none",
        ),
        *("--request-timeout", "30", "--warnings", "off", "--no-color"),
        *("--report", "json", "--report-json-path", str(report)),
    ]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    (home / f"{key}.txt").write_text(ended.stdout + ended.stderr)
    assert ended.returncode == 0, f"expected no failure of any check, got:\n{ended.stdout[-20_000:]}{ended.stderr}"
    told: dict[str, Any] = json.loads(report.read_text())
    return told
