"""When a score becomes an alert: once an episode, with a cool-down, never on thin evidence."""

from __future__ import annotations

import numpy as np

from feature_repo.declare import Array, Service
from feature_repo.finish import DAY
from flows.alert import Alert, SignalRecord, alert_id, priority
from flows.windows import Reading, Signals
from onnx_models.session import Model

CLOSES_AT = 0.8  # an episode ends once the score falls below this share of the threshold


def fires(score: Array, threshold: float, opened: Array, open_: Array, now: Array, cooldown_days: int) -> Array:
    """Which rows may open an episode, from columns (n,): calibrated score, when one last opened (ms, 0 = never),
    whether it is open (0/1), now (ms). A score that is NaN never fires.
    """
    rested = (opened == 0) | (now - opened >= cooldown_days * DAY)
    return (score >= threshold) & (open_ == 0) & rested


def closes(score: Array, threshold: float, open_: Array) -> Array:
    """Which open episodes end."""
    return (open_ != 0) & (score < threshold * CLOSES_AT)


def confidence(signals: Signals) -> Array:
    """Mean confidence of each person's signals, weighted by their strength: (n,); 0 where none shows.

    1 in a domain that declares no signal: there the score alone decides.
    """
    if not signals.names:
        return np.ones(signals.strength.shape[1])
    total = signals.strength.sum(axis=0)
    return (signals.strength * signals.confidence).sum(axis=0) / np.where(total > 0, total, 1.0)


def alert(
    name: bytes,
    service: Service,
    model: Model,
    score: tuple[float, float],
    inputs: Array,
    sure: float,
    readings: list[Reading],
    windows: dict[str, str],
    at: tuple[int, int],
) -> Alert:
    """The alert of one person: `score` (raw, calibrated), `inputs` as scored, `sure` its confidence, `at` (event,
    log time) in ms.
    """
    organisation, _, user = name.decode().partition("/")
    kind = service.alert or service.name
    return Alert(
        id=alert_id(organisation, user, kind, str(at[1])),
        organisation=organisation,
        user=user,
        type=kind,
        score=score[1],
        raw_score=score[0],
        confidence=sure,
        priority=priority(score[1], sure),
        signals=[_record(reading, windows) for reading in readings if reading.strength > 0],
        model=model.name,
        model_version=model.version,
        features=inputs.tolist(),
        event_at=at[0],
        scored_at=at[1],
    )


def _record(r: Reading, windows: dict[str, str]) -> SignalRecord:
    window = windows[r.name]
    return SignalRecord(name=r.name, strength=r.strength, confidence=r.confidence, counts=r.counts, window=window)
