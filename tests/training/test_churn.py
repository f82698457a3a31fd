"""The churn models' own label over a history: who stays away, of those who came of late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest

from feature_repo.vocabulary import Vocabulary
from onnx_models.confidence import recommended
from training.asked import asked
from training.churn import MODELS
from training.past import past
from training.training_set import Wanted, service_of

START = datetime(2026, 1, 1, tzinfo=UTC)
VOCABULARY = Vocabulary()
(MODEL, *_) = MODELS  # 30 days
LIVES = {"stays": range(0, 200, 7), "left": [*range(0, 100, 7), 103], "rare": (0, 60, 150), "mailed": ()}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[float, int]]]:
    """(days since the start, label) of each person's rows, from a history of visits and mail."""
    path = tmp_path_factory.mktemp("lake") / "history.jsonl"
    calls = [(day, who, "Session Ended") for who, days in LIVES.items() for day in days]
    calls += [(day, who, "Email Opened") for who in LIVES for day in range(0, 200, 10)]
    path.write_bytes(b"\n".join(_call(*call) for call in sorted(calls)))
    service = service_of(VOCABULARY, MODEL.service)
    wanted = Wanted(history=path, vocabulary=VOCABULARY, service=service)
    found = asked(past(path, VOCABULARY), wanted, MODEL, service)
    days = (found.milliseconds - START.timestamp() * 1000) / 86_400_000
    table: dict[str, list[tuple[float, int]]] = {}
    for who, day, label in zip(found.users.to_pylist(), days, found.table["label"].to_pylist(), strict=True):
        table.setdefault(who, []).append((float(day), int(label)))
    return table


def _call(day: int, who: str, event: str) -> bytes:
    at = (START + timedelta(days=day)).isoformat()
    return msgspec.json.encode({"type": "track", "userId": who, "event": event, "timestamp": at})


def test_who_comes_on_stays(rows: dict[str, list[tuple[float, int]]]) -> None:
    """Somebody with a visit a week is never taken for gone."""
    assert {label for _, label in rows["stays"]} == {0}


def test_who_came_last_is_gone_from_then_on(rows: dict[str, list[tuple[float, int]]]) -> None:
    """Each row before the last visit says that they come again; those of the month after it, that they do not."""
    before, after = ([label for day, label in rows["left"] if (day >= 103) == late] for late in (False, True))
    assert set(before) == {0}
    assert set(after) == {1}


def test_only_those_who_came_within_the_horizon_are_asked_about(rows: dict[str, list[tuple[float, int]]]) -> None:
    """Who is gone for longer has left already; opening mail is no coming."""
    assert "mailed" not in rows
    assert max(day for day, _ in rows["left"]) <= 133
    assert all(any(0 <= day - visit <= 30 for visit in LIVES["rare"]) for day, _ in rows["rare"])


@pytest.mark.parametrize(
    ("probability", "level"), [(0.1, "low"), (0.3, "medium"), (0.6, "high"), (0.8, "critical"), (0.99, "critical")]
)
def test_a_risk_has_its_level_action_and_reason(probability: float, level: str) -> None:
    """At 0.3, 0.6 and 0.8."""
    for model in MODELS:
        found = recommended(model.recommendations, probability, np.nextafter(0, 1))
        assert found is not None
        assert (found.level, bool(found.action), bool(found.reason)) == (level, True, True)
