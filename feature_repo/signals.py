"""The 11 signals: what in somebody's behaviour is telling, how strongly, and how sure we are.

Strength is relative to the person's own baseline where they have one; confidence grows with evidence.
To add one: a `Signal` below; its strength becomes a feature by one line in `users.py`; then `make check`.
"""

from __future__ import annotations

import numpy as np

from feature_repo.declare import ANY, Array, Count, Signal, Sum
from feature_repo.finish import Finish, saturate


def spike(day: Array, week: Array, quarter: Array) -> Array:
    """This week against the person's own usual week (of the 90 days before it), a burst within 24 h added."""
    usual = (quarter - week) * 7.0 / 83.0
    excess = np.maximum(week - usual, 0.0)
    return np.minimum(excess / (excess + 1.0 + usual) + 0.1 * saturate(day, 4.0), 1.0)


def risen(recent: Array, quarter: Array) -> Array:
    """Last 30 days against the person's own 30-day mean over 90 days."""
    usual = (quarter - recent) / 2.0
    return saturate(recent, 2.0 + usual / 2.0)


def plain(half: float) -> Finish:
    """Strength from one count that has no baseline."""

    def plain_(count: Array, *_: Array) -> Array:
        return saturate(count, half)

    return plain_


def reawakened(week: Array, five_weeks: Array, quarter: Array, documents: Array) -> Array:
    """Back this week after a silent month, having been here before; stronger with documents."""
    silent = (five_weeks - week == 0) & (quarter - five_weeks > 0) & (week > 0)
    return np.where(silent, saturate(week + documents, 2.0), 0.0)


def engaged(opens: Array, clicks: Array, sent: Array) -> Array:
    """Opens and clicks against what was sent; a click weighs twice an open, machine opens less."""
    share = (opens + 2.0 * clicks) / (np.maximum(sent, opens) * 3.0 + 2.0)
    return np.minimum(share, 1.0)


def refinancing(clicks: Array, opens: Array, calculator: Array) -> Array:
    return saturate(2.0 * clicks + 0.5 * opens + 0.5 * calculator, 3.0)


def researched(count: Array, minutes: Array) -> Array:
    return saturate(count + minutes / 120.0 * (count > 0), 5.0)


def evidence(half: float) -> Finish:
    """Confidence from how many events there are in all."""

    def evidence_(*counts: Array) -> Array:
        total = counts[0]
        for count in counts[1:]:
            total = total + count
        return saturate(total, half)

    return evidence_


SIGNALS = (
    Signal(
        name="document_access_spike",
        family="document",
        window="7 d against 90 d",
        description="opens documents more than this person usually does",
        says="has been opening documents far more than usual",
        events=("document_access",),
        evidence={
            "last_24h": Count("document_access", hours=24),
            "last_7d": Count("document_access", days=7),
            "last_90d": Count("document_access", days=90),
        },
        strength=spike,
        confidence=evidence(6.0),
    ),
    Signal(
        name="document_download_pattern",
        family="document",
        window="30 d against 90 d",
        description="downloads documents",
        says="is downloading documents",
        events=("document_download",),
        evidence={
            "last_30d": Count("document_download", days=30),
            "last_90d": Count("document_download", days=90),
        },
        strength=risen,
        confidence=evidence(4.0),
    ),
    Signal(
        name="document_sharing",
        family="document",
        window="30 d",
        description="shares documents with others",
        says="shares documents with others",
        events=("document_share",),
        evidence={"last_30d": Count("document_share", days=30)},
        strength=plain(2.0),
        confidence=evidence(2.0),
    ),
    Signal(
        name="dormant_reactivation",
        family="document",
        window="7 d after 30 silent days",
        description="is back after at least a silent month",
        says="is back after a long silence",
        events=ANY,
        evidence={
            "last_7d": Count(ANY, days=7),
            "last_37d": Count(ANY, days=37),
            "last_90d": Count(ANY, days=90),
            "documents_7d": Count("document_access", days=7),
        },
        strength=reawakened,
        confidence=evidence(6.0),
    ),
    Signal(
        name="high_email_engagement",
        family="email",
        window="30 d",
        description="opens and clicks much of the mail sent",
        says="opens and clicks most of the mail",
        events=("email_open", "email_click"),
        evidence={
            "opens_30d": Count("email_open", days=30),
            "clicks_30d": Count("email_click", days=30),
            "sent_30d": Count("email_sent", days=30),
        },
        strength=engaged,
        confidence=evidence(8.0),
    ),
    Signal(
        name="refinance_interest",
        family="email",
        window="90 d",
        description="clicks on refinance mail and reckons",
        says="follows refinance offers",
        events=("email_click", "email_open", "calculator_use"),
        evidence={
            "clicks_90d": Count("email_click", days=90, tag="refinance"),
            "opens_90d": Count("email_open", days=90, tag="refinance"),
            "calculator_90d": Count("calculator_use", days=90),
        },
        strength=refinancing,
        confidence=evidence(4.0),
    ),
    Signal(
        name="market_report_interest",
        family="email",
        window="30 d",
        description="reads market reports",
        says="reads market reports",
        events=("market_report_view",),
        evidence={"last_30d": Count("market_report_view", days=30)},
        strength=plain(3.0),
        confidence=evidence(3.0),
    ),
    Signal(
        name="value_checks",
        family="platform",
        window="30 d against 90 d",
        description="looks up what the home is worth",
        says="keeps checking what the home is worth",
        events=("property_value_check",),
        evidence={
            "last_30d": Count("property_value_check", days=30),
            "last_90d": Count("property_value_check", days=90),
        },
        strength=risen,
        confidence=evidence(4.0),
    ),
    Signal(
        name="calculator_use",
        family="platform",
        window="30 d against 90 d",
        description="uses the calculators",
        says="is working through the calculators",
        events=("calculator_use",),
        evidence={
            "last_30d": Count("calculator_use", days=30),
            "last_90d": Count("calculator_use", days=90),
        },
        strength=risen,
        confidence=evidence(3.0),
    ),
    Signal(
        name="comparable_research",
        family="platform",
        window="30 d",
        description="studies comparable sales",
        says="studies comparable sales",
        events=("comparable_view",),
        evidence={
            "last_30d": Count("comparable_view", days=30),
            "minutes_30d": Sum("session", days=30),
        },
        strength=researched,
        confidence=plain(4.0),
    ),
    Signal(
        name="profile_updates",
        family="platform",
        window="30 d",
        description="changes the profile",
        says="has been updating the profile",
        events=("profile_update",),
        evidence={"last_30d": Count("profile_update", days=30)},
        strength=plain(2.0),
        confidence=evidence(2.0),
    ),
)
