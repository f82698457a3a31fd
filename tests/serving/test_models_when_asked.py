"""The models of churn and e-mail that ship, asked over HTTP: what a past and a request make of the answer."""

from __future__ import annotations

import time
from typing import Any

import pytest

from feature_repo.layout import double, entity_key, field, timestamp, timestamp_field
from feature_repo.vocabulary import Vocabulary
from tests.live import Live
from tests.logged import Log

VOCABULARY = Vocabulary()
GONE = {"days_since_last_visit": 85.0, "hours_since_last_event": 2000.0, "mean_days_between_sessions": 3.0}
KEEN = {
    "days_since_last_visit": 0.5,
    "hours_since_last_event": 12.0,
    "session_count_30d": 12.0,
    "active_days_30d": 11.0,
    "visits_per_week": 3.0,
    "avg_session_minutes_30d": 12.0,
    "event_type_diversity_30d": 6.0,
    "mean_days_between_sessions": 2.5,
    "doc_access_per_week": 1.0,
    "email_open_rate_90d": 0.9,
}


def lived(log: Log, user: str, values: dict[str, float]) -> None:
    """As the engine writes it: what is not named stands at its default."""
    key = entity_key(VOCABULARY.join_key, f"main/{user}".encode())
    whole = {feature.name: feature.default for feature in VOCABULARY.features} | values
    cells = {field(VOCABULARY.view, name): double(value) for name, value in whole.items()}
    log.client.hset(key, mapping={**cells, timestamp_field(VOCABULARY.view): timestamp(time.time_ns() // 1_000_000)})


def asked(api: Live, model: str, user: str, **given: float) -> Any:
    answer = api.post(f"/v1/score/{model}", {"id": user, "features": given})
    assert answer.status == 200, answer.body
    return answer.json


@pytest.mark.parametrize("days", [30, 60, 90])
def test_who_was_away_for_long_is_likelier_to_stay_away(api: Live, log: Log, days: int) -> None:
    """Of two people the one who came yesterday, and often, has the lower risk, and is left alone."""
    lived(log, "gone", GONE)
    lived(log, "keen", KEEN)
    gone, keen = (asked(api, f"churn_{days}d", user) for user in ("gone", "keen"))
    assert gone["probability"] > 0.5 > keen["probability"]
    assert gone["recommendation"]["level"] in {"medium", "high", "critical"}
    assert (keen["recommendation"]["level"], keen["recommendation"]["action"]) == ("low", "LEAVE_ALONE")


def test_what_the_mail_is_like_moves_its_chance(api: Live, log: Log) -> None:
    """The same reader opens a short letter of one's own rather than a long, urging campaign."""
    lived(log, "reader", KEEN)
    letter = {"mail_words": 80, "mail_links": 1, "subject_hotness": 0.1, "is_campaign": 0}
    campaign = {"mail_words": 900, "mail_links": 12, "subject_hotness": 4.5, "is_campaign": 1}
    short, long = (asked(api, "email_engagement", "reader", **mail) for mail in (letter, campaign))
    assert short["probability"] > long["probability"]
    assert "request:mail_words" not in short["defaulted"]
    assert "request:send_hour" in short["defaulted"]
