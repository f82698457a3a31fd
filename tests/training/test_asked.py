"""A model's own label over a history: rows at the stream's instants, and what came within the horizon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from feature_repo.declare import Service
from feature_repo.vocabulary import Vocabulary
from tests.training.made_lake import T0, made_lake
from training import asked
from training.labels import AS_OF
from training.model import Label, Training
from training.past import NotReadable, past
from training.training_set import Wanted, service_of
from training.validate import NotTrainable

VOCABULARY = Vocabulary()
SELL: Service = service_of(VOCABULARY, "likely_to_sell")
MAIL: Service = service_of(VOCABULARY, "email_engagement")
DAY = 86_400_000


def call(user: str, event: str, day: float) -> dict[str, object]:
    moment = np.datetime64("2026-01-01T00:00:00") + np.timedelta64(int(day * 86_400), "s")
    return {"type": "track", "userId": user, "event": event, "timestamp": f"{moment}Z"}


def rows(tmp_path: Path, training: Training, service: Service, *calls: dict[str, object]) -> pa.Table:
    """The rows that the label asks about, by user and time, with the day of each."""
    history = tmp_path / "history.jsonl"
    history.write_bytes(b"\n".join(map(msgspec.json.encode, calls)))
    wanted = Wanted(history=history, vocabulary=VOCABULARY, service=service)
    found = asked.asked(past(history, VOCABULARY), wanted, training, service).table
    day = np.asarray(found[AS_OF].cast(pa.int64())) / 1000 - np.datetime64("2026-01-01", "ms").astype(int)
    return found.append_column("day", pa.array(day / DAY))


def label(found: pa.Table, user: str) -> list[tuple[float, int]]:
    return [(row["day"], row["label"]) for row in found.to_pylist() if row["user"] == user]


def test_the_outcome_within_the_horizon_is_the_label(tmp_path: Path) -> None:
    """Rows of daily ticks and events from when somebody is known until a horizon before the history's end."""
    training = Training(service="likely_to_sell", label=Label(horizon_days=10))
    found = rows(
        tmp_path,
        training,
        SELL,
        call("eve", "Session Ended", 0),
        call("ada", "Session Ended", 5.0),
        call("ada", "Home Listed", 20.0),
        call("eve", "Session Ended", 40),
    )
    ada = label(found, "ada")
    assert len(ada) > 20
    assert min(day for day, _ in ada) >= 5
    assert max(day for day, _ in ada) < 30
    for day, sold in ada:
        assert sold == (20 - 10 <= day < 20)
    assert not any(sold for _, sold in label(found, "eve"))


def test_absence_is_a_label(tmp_path: Path) -> None:
    """Who does nothing within the horizon has left."""
    training = Training(service="likely_to_sell", label=Label(horizon_days=10, events=("session",), absent=True))
    calls = [call("stays", "Session Ended", day) for day in range(0, 60, 5)]
    found = rows(tmp_path, training, SELL, *calls, call("leaves", "Session Ended", 1), call("stays", "Home Listed", 60))
    assert not any(gone for _, gone in label(found, "stays"))
    assert all(gone for _, gone in label(found, "leaves"))
    assert len(label(found, "leaves")) > 20


def test_a_label_may_be_asked_at_some_events_alone(tmp_path: Path) -> None:
    """Of each mail, when it is sent: is one opened within a week? With whatever topic it had."""
    training = Training(
        service="email_engagement", label=Label(horizon_days=7, events=("email_open",), at=("email_sent",))
    )
    opened = call("ada", "Email Opened", 22) | {"properties": {"topic": "refinance"}}
    sent = [call("ada", "Email Sent", day) for day in (20, 30, 55)]
    found = rows(
        tmp_path, training, MAIL, call("ada", "Session Ended", 0), *sent, opened, call("ada", "Email Sent", 60)
    )
    assert label(found, "ada") == [(20.0, 1), (30.0, 0)]


def test_a_history_shorter_than_the_horizon_is_refused(tmp_path: Path) -> None:
    """Nobody knows these labels yet."""
    calls = (call("ada", "Session Ended", 0), call("ada", "Session Started", 60))
    with pytest.raises(NotTrainable, match="expected a history of more than 91 days, the label's horizon, got 60 days"):
        rows(tmp_path, Training(service="likely_to_sell"), SELL, *calls)


def test_what_the_history_cannot_say_needs_a_file(tmp_path: Path) -> None:
    """What became of a lead is no event of a user."""
    lead = Training(service="lead_score", entity="lead")
    with pytest.raises(NotReadable, match="expected --labels FILE: the lake does not say what became of a lead"):
        rows(tmp_path, lead, service_of(VOCABULARY, "lead_score"), call("ada", "Session Ended", 0))


def test_the_lake_says_the_same(tmp_path: Path) -> None:
    """Its people are those of one organisation; who never said who they are is nobody's row."""
    training = Training(service="likely_to_sell", label=Label(horizon_days=10))
    did = [("ada", "session", 5), ("ada", "home_listed", 20), ("eve", "session", 7), ("eve", "session", 40)]
    spelled = {"session": "Session Ended", "home_listed": "Home Listed"}
    found = rows(tmp_path, training, SELL, *[call(user, spelled[event], day) for user, event, day in did])
    shift = int(np.datetime64("2026-01-01", "ms").astype(int)) - T0
    kept: list[dict[str, Any]] = [
        {"user": u, "name": f"main/{u}", "event": e, "at": shift + day * DAY} for u, e, day in did
    ]
    others = [{"organisation": "other", "user": "max", "name": "other/max", "event": "session", "at": shift + 6 * DAY}]
    strange = [{"user": "anon:x", "name": "main/anon:x", "event": "session", "at": shift + 6 * DAY}]
    lake = made_lake(tmp_path, *sorted([*kept, *others, *strange], key=lambda row: row["at"]))
    wanted = Wanted(history=lake, vocabulary=VOCABULARY, service=SELL)
    again = asked.asked(past(lake, VOCABULARY), wanted, training, SELL).table
    assert set(again["user"].to_pylist()) == {"ada", "eve"}
    mine, its = ([(r["user"], r["label"]) for r in table.to_pylist()] for table in (found, again))
    assert sorted(mine) == sorted(its)


def test_of_many_people_some_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a lake of a million people fits into memory: all their days, of fewer of them, the same by seed."""
    training = Training(service="likely_to_sell", label=Label(horizon_days=10))
    calls = [call(f"u{i}", "Session Ended", day) for day in (0, 60) for i in range(40)]
    monkeypatch.setattr(asked, "TICKS", 10 * 38)
    found, again = (rows(tmp_path, training, SELL, *calls) for _ in range(2))
    assert len(set(found["user"].to_pylist())) == 10
    assert found == again
