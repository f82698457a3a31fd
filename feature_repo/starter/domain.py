"""A subscription shop that wants to know who is about to cancel. Make it yours: `telltale features check` helps."""

import numpy as np

from feature_repo import declare as d
from feature_repo import finish

VIEW = "subscriber_features"

EVENTS = (  # `segment`: the names under which they are sent
    d.EventType(name="visit", segment=("Session Started",), description="came to the shop"),
    d.EventType(
        name="order", segment=("Order Completed",), value="total", unit="EUR", scale=100, description="ordered"
    ),
    d.EventType(name="payment_failed", segment=("Payment Failed",), by_person=False, description="was not charged"),
    d.EventType(name="cancel_page", segment=("Cancellation Page Viewed",), description="looked at how to cancel"),
    d.EventType(name="cancelled", segment=("Subscription Cancelled",), role="outcome", description="cancelled"),
)

SIGNALS = (
    d.Signal(
        name="on_the_way_out",
        family="cancelling",
        window="30 d",
        description="looks at how to cancel, or could not be charged",
        says="looks at how to cancel",
        events=("cancel_page", "payment_failed"),
        evidence={"looked": d.Count("cancel_page", days=30), "failed": d.Count("payment_failed", days=30)},
        strength=lambda looked, failed: finish.saturate(2.0 * looked + failed, 1.0),
        confidence=lambda looked, failed: np.where(looked + failed > 0, 1.0, 0.0),
    ),
)


def _feature(name: str, unit: str, window: str, of: d.Node, description: str, default: float = 0.0) -> d.Feature:
    return d.Feature(name=name, unit=unit, window=window, default=default, description=description, of=of)


_DROP = d.Derived(finish.decline, (d.Count("visit", days=30), d.Count("visit", days=60)))
_BASKET = d.Derived(finish.mean, (d.Sum("order", days=90), d.Count("order", days=90)))
_IDLE = d.Derived(finish.days_since(365.0), (d.Last(d.ANY),))
FEATURES = (
    _feature("visits_7d", "events", "7 d", d.Count("visit", days=7), "visits"),
    _feature("visits_30d", "events", "30 d", d.Count("visit", days=30), "visits"),
    _feature("visit_decline_30d", "-1 to 1", "30 d against the 30 d before", _DROP, "drop in visits"),
    _feature("active_days_30d", "days", "30 d", d.ActiveDays(d.ANY, days=30), "days with any activity"),
    _feature("order_value_90d", "EUR", "90 d", _BASKET, "mean value of an order"),
    _feature("payments_failed_30d", "events", "30 d", d.Count("payment_failed", days=30), "failed payments"),
    _feature("cancel_page_30d", "events", "30 d", d.Count("cancel_page", days=30), "looks at how to cancel"),
    _feature("days_idle", "days", "365 d", _IDLE, "days since any activity", 365.0),
    _feature("on_the_way_out_strength", "0-1", "30 d", d.Strength("on_the_way_out"), "looks like leaving"),
)

SERVICES = (
    d.Service(
        name="likely_to_cancel",
        features=tuple(feature.name for feature in FEATURES),
        description="will cancel within 30 days",
        alert="LIKELY_TO_CANCEL",
        advice="Ask what is missing before they go.",
        outcome="cancelled",
        telling=("cancel_page_30d", "on_the_way_out_strength"),  # no leaks: who leaves looks at how to
    ),
)
