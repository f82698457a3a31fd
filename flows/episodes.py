"""When a score becomes an alert: once an episode, with a cool-down, never on thin evidence."""

from __future__ import annotations

from feature_repo.declare import Array, Service
from feature_repo.finish import DAY
from flows.alert import MIN_CONFIDENCE, Alert, SignalRecord, alert_id, priority
from flows.windows import Reading
from onnx_models.session import Model

CLOSES_AT = 0.8  # an episode ends once the score falls below this share of the threshold


def fires(score: Array, threshold: float, opened: Array, open_: Array, now: Array, cooldown_days: int) -> Array:
    """Which rows may open an episode, from columns (n,): calibrated score, when one last opened (ms, 0 = never),
    whether it is open (0/1), now (ms). A score that is NaN never fires."""
    rested = (opened == 0) | (now - opened >= cooldown_days * DAY)
    return (score >= threshold) & (open_ == 0) & rested


def closes(score: Array, threshold: float, open_: Array) -> Array:
    """Which open episodes end."""
    return (open_ != 0) & (score < threshold * CLOSES_AT)


def confidence(readings: list[Reading]) -> float:
    """Mean confidence of the signals, weighted by their strength; 0 without any signal."""
    total = sum(r.strength for r in readings)
    return sum(r.strength * r.confidence for r in readings) / total if total else 0.0


def confident(readings: list[Reading]) -> bool:
    return confidence(readings) >= MIN_CONFIDENCE


def alert(
    name: bytes,
    service: Service,
    model: Model,
    score: tuple[float, float],
    inputs: Array,
    readings: list[Reading],
    windows: dict[str, str],
    at: tuple[int, int],
) -> Alert:
    """The alert of one person: `score` (raw, calibrated), `inputs` as scored, `at` (event, log time) in ms."""
    organisation, _, user = name.decode().partition("/")
    sure = confidence(readings)
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
        signals=[
            SignalRecord(name=r.name, strength=r.strength, confidence=r.confidence, counts=r.counts, window=windows[r.name])
            for r in readings
            if r.strength > 0
        ],
        model=model.name,
        model_version=model.version,
        features=inputs.tolist(),
        event_at=at[0],
        scored_at=at[1],
    )


