"""An alert in words, for people: as a mail, a chat message and an SMS tell it."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import get_args
from zoneinfo import ZoneInfo

import msgspec

from feature_repo.vocabulary import Vocabulary
from flows.alert import Opened, Priority

LONGEST = 120  # characters of somebody's id that are shown
_ORDER = {name: rank for rank, name in enumerate(get_args(Priority))}
SOON: dict[str, str] = {  # what to do where the vocabulary has no advice for the type
    "CRITICAL": "Get in touch at once.",
    "HIGH": "Get in touch today.",
    "MEDIUM": "Get in touch this week.",
    "LOW": "Keep an eye on it.",
}
HANDLED = {"ACKNOWLEDGED", "CONVERTED", "DISMISSED", "EXPIRED"}
Advice = Mapping[str, str]  # alert type -> what to do


class Told(msgspec.Struct, frozen=True):
    """One alert in words. `link`: the page of the person."""

    user: str
    what: str
    priority: str
    score: str
    confidence: str
    reasons: list[str]
    advice: str
    when: str
    link: str

    @property
    def title(self) -> str:
        return f"{self.what}: {self.user} ({self.priority}, {self.score})"


def advice(vocabulary: Vocabulary) -> Advice:
    """What the vocabulary says to do, by alert type."""
    return {service.alert: service.advice for service in vocabulary.services if service.alert}


def tell(alert: Opened, advised: Advice, zone: ZoneInfo, link: str) -> Told:
    """`zone`: whose clock is shown."""
    return Told(
        user=one_line(alert.user),
        what=one_line(alert.type).lower().replace("_", " ") + _handled(alert),
        priority=alert.priority,
        score=f"{alert.score:.0%}",
        confidence=f"{alert.confidence:.0%}",
        reasons=[one_line(reason, 400) for reason in alert.reasons],
        advice=advised.get(alert.type) or SOON[alert.priority],
        when=f"{datetime.fromtimestamp(alert.scored_at / 1000, UTC).astimezone(zone):%Y-%m-%d %H:%M %Z}",
        link=link,
    )


def subject(told: Sequence[Told]) -> str:
    """Of one alert what it says; of several how many, by priority."""
    if len(told) == 1:
        return told[0].title
    if not told:
        return "No alerts: they were erased"
    counts = Counter(one.priority for one in told)
    return f"{len(told)} alerts: " + ", ".join(f"{counts[name]} {name}" for name in _ORDER if counts[name])


def _handled(alert: Opened) -> str:
    """Of an alert that waited for its digest, what came of it meanwhile."""
    return f" (already {alert.status.lower()})" if alert.status in HANDLED else ""


def most_urgent_first(alerts: Sequence[Opened]) -> list[Opened]:
    """What somebody has seen to already comes last."""
    return sorted(
        alerts,
        key=lambda alert: (alert.status in HANDLED, _ORDER[alert.priority], -alert.score, alert.scored_at, alert.id),
    )


def one_line(text: str, longest: int = LONGEST) -> str:
    """Without what would start a new line, turn the direction of writing or be seen by nobody."""
    clean = "".join(c if unicodedata.category(c)[0] not in "CZ" else " " for c in text)
    short = " ".join(clean.split())
    return short if len(short) <= longest else short[: longest - 1] + "…"
