"""One alert: what the engine writes, the drain stores and the API shows."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

Priority = Literal["CRITICAL", "HIGH", "MEDIUM", "LOW"]
Judgement = Literal["TRUE_POSITIVE", "FALSE_POSITIVE", "TRUE_NEGATIVE", "FALSE_NEGATIVE"]
Status = Literal["PENDING", "DELIVERED", "ACKNOWLEDGED", "CONVERTED", "DISMISSED", "EXPIRED"]

MIN_CONFIDENCE = 0.5  # below this nothing fires
LEVELS: tuple[tuple[Priority, float, float], ...] = (  # priority, least score, least confidence
    ("CRITICAL", 0.80, 0.75),
    ("HIGH", 0.60, 0.60),
    ("MEDIUM", 0.40, MIN_CONFIDENCE),
)


class SignalRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One signal of a person as of a moment: strength and confidence 0-1, and the counts that made it."""

    name: str
    strength: float
    confidence: float
    counts: dict[str, float]
    window: str


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """What of an alert never changes once it is stored, its features apart. Times are milliseconds since 1970.

    `event_at` and `scored_at` are the log's time; `stored_at` is when the drain wrote it to SQL, by its own
    clock (0 until then). `reasons` are in words, strongest first, filled by the drain. `calibration`: the number of the
    recalibration that made `score` of the model's own (0: none did).
    """

    id: str
    organisation: str
    user: str
    type: str
    score: float
    raw_score: float
    confidence: float
    priority: Priority
    signals: list[SignalRecord]
    model: str
    model_version: str
    event_at: int
    scored_at: int
    stored_at: int = 0
    reasons: list[str] = []
    calibration: int = 0


class Opened(Scored, frozen=True, kw_only=True):
    """A score that opened an episode.

    `withheld`: kept from everybody, so that what becomes of such people can be compared. `status` and since when
    (`status_at`) move afterwards, in SQL alone.
    """

    withheld: bool = False
    status: Status = "PENDING"
    status_at: int = 0


class Alert(Opened, frozen=True, kw_only=True):
    """As it is written and stored: `features` are the values as scored, in the order of the model's service."""

    features: list[float]


def alert_id(organisation: str, user: str, kind: str, entry: str) -> str:
    """The same id whenever the same episode is opened again: 128 bits over what opened it.

    `kind` is the alert's type, `entry` the id of the log entry. Identities hold no control characters, so NUL
    parts them.
    """
    parts = f"{organisation}\0{user}\0{kind}\0{entry}".encode()
    return "al_" + hashlib.blake2b(parts, digest_size=16).hexdigest()


def withheld(alert: str, share: float) -> bool:
    """Whether an alert of that id is told to nobody; the same ones of a share are among those of a larger one."""
    return int(alert.removeprefix("al_")[:8], 16) < share * 2**32


def priority(score: float, confidence: float) -> Priority:
    """How soon somebody should look, from the calibrated score and the confidence (`LEVELS`)."""
    return next((name for name, s, c in LEVELS if score >= s and confidence >= c), "LOW")


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Alert).decode
