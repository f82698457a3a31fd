"""Moments as whole numbers since 1970, exactly (no step through a float), and back."""

from __future__ import annotations

from datetime import UTC, datetime

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(ms: float) -> datetime:
    """From milliseconds since 1970, in UTC. Raises ValueError or OverflowError for what lies after the year 9999."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def microseconds(moment: datetime) -> int:
    """Since 1970; without a zone it is UTC."""
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def milliseconds(moment: datetime) -> int:
    """Since 1970, rounded down; without a zone it is UTC."""
    return microseconds(moment) // 1000
