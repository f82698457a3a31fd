"""Alerts, predictions and what became of them, as the other processes write them; and a learner that can be watched."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import sqlalchemy as sa

from feature_repo.services import SERVICES
from flows import alert_outcomes, outcome_store
from flows.alert import Alert, alert_id, withheld
from flows.alert_store import AlertStore
from flows.learners.example import Calibration, Example, Kind, Place
from tests.flows.made_models import VERSION

SELL = SERVICES[0]
DAY = 86_400_000
START = 1_760_000_000_000 // DAY * DAY


def alert(n: int, at: int, score: float = 0.6, organisation: str = "org", calibration: int = 0) -> Alert:
    """The n-th, of the n-th user."""
    id_ = alert_id(organisation, f"u{n}", "LIKELY_TO_SELL", str(at))
    return Alert(
        id=id_,
        organisation=organisation,
        user=f"u{n}",
        type="LIKELY_TO_SELL",
        score=float(np.float32(score)),
        raw_score=score,
        confidence=0.9,
        priority="HIGH",
        signals=[],
        model=SELL.name,
        model_version=VERSION,
        features=[float(n % 7)] * len(SELL.features),
        event_at=at,
        scored_at=at,
        calibration=calibration,
        withheld=withheld(id_, 0.2),
    )


def judge(store: AlertStore, alert: str, at: int, *, came: bool, organisation: str = "org") -> None:
    told = alert_outcomes.Outcome(outcome="TRUE_POSITIVE" if came else "FALSE_POSITIVE")
    with store.engine.begin() as connection:
        alert_outcomes.record(connection, [alert], told, who="ann", at=at, organisation=organisation)


def tell(engine: sa.Engine, prediction: str, outcome: Any, predicted_at: int, at: int, **more: Any) -> None:
    told = {
        "prediction_id": prediction,
        "organisation": "main",
        "model": SELL.name,
        "predicted_at": predicted_at,
        "outcome": outcome,
        "value": None,
        "at": None,
        "notes": None,
        "recorded_at": at,
    }
    outcome_store.record(engine, outcome_store.Outcome(**told | more))


class Watched(msgspec.Struct):
    """All that it was asked and told, in order: any difference shows. It wants b to be its share of 1s."""

    place: Place
    told: list[tuple[str, int, int, int | None, float | None]] = []
    asked: list[tuple[str, int]] = []

    def predict(self, example: Example) -> float | None:
        return float(len(self.told))

    def learn(self, example: Example) -> None:
        self.told.append((example.id, example.revision, example.label, example.was, example.predicted))

    def state(self) -> bytes:
        return msgspec.json.encode(self.told)

    def restore(self, state: bytes) -> None:
        self.told = msgspec.json.decode(state, type=list[tuple[str, int, int, int | None, float | None]])

    def report(self) -> dict[str, object]:
        return {"learned": len(self.told)}

    def calibration(self) -> Calibration | None:
        if len(self.told) < 3:
            return None
        return Calibration(1.0, round(sum(told[2] for told in self.told) / len(self.told), 3), "as told")


WATCHED = (Kind("watched", "organisation", Watched), Kind("whole", "model", Watched))
