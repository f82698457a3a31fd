"""Alerts to test with."""

from __future__ import annotations

import msgspec

from flows.alert import Alert, SignalRecord, alert_id

SIGNAL = SignalRecord(name="value_checks", strength=0.8, confidence=0.7, counts={"last_30d": 5.0}, window="30 d")


def alert(n: int, **changes: object) -> Alert:
    """The n-th alert of user un; what is not given is the same for all."""
    plain = Alert(
        id=alert_id("acme", f"u{n}", "LIKELY_TO_SELL", f"{n}-0"),
        organisation="acme",
        user=f"u{n}",
        type="LIKELY_TO_SELL",
        score=0.7,
        raw_score=0.6,
        confidence=0.8,
        priority="HIGH",
        signals=[SIGNAL],
        model="likely_to_sell",
        model_version="20260101000000",
        features=[1.0, 0.0, 0.1 + 0.2],
        event_at=1_000 + n,
        scored_at=1_001 + n,
    )
    return msgspec.structs.replace(plain, **changes)
