"""Purchases of a shop for music (CDNOW, 1997-98). Asked: who will not buy again."""

from feature_repo import finish
from feature_repo.declare import (
    ActiveDays,
    Count,
    Derived,
    Entity,
    EventType,
    Feature,
    FirstDay,
    Last,
    Node,
    Service,
    Sum,
)

VIEW = "customer_features"
ENTITIES = (Entity(name="customer", join_key="customer_id", description="somebody who bought at least once"),)
EVENTS = (
    EventType(
        name="purchase",
        segment=("Order Completed",),
        description="bought",
        value="dollars",
        unit="USD",
        scale=100,
    ),
)


def _feature(name: str, unit: str, window: str, default: float, of: Node) -> Feature:
    return Feature(name=name, unit=unit, window=window, default=default, description=name.replace("_", " "), of=of)


FEATURES = (
    _feature("purchases_30d", "events", "30 d", 0.0, Count("purchase", days=30)),
    _feature("purchases_60d", "events", "60 d", 0.0, Count("purchase", days=60)),
    _feature("purchases_90d", "events", "90 d", 0.0, Count("purchase", days=90)),
    _feature("dollars_90d", "USD", "90 d", 0.0, Sum("purchase", days=90)),
    _feature("purchase_days_90d", "days", "90 d", 0.0, ActiveDays("purchase", days=90)),
    _feature(
        "mean_days_between_purchases",
        "days",
        "90 d",
        90.0,
        Derived(
            finish.mean_gap(90.0),
            (FirstDay("purchase", days=90), Last(("purchase",)), ActiveDays("purchase", days=90)),
        ),
    ),
    _feature(
        "purchase_decline",
        "-1 to 1",
        "45 d against the 45 d before",
        0.0,
        Derived(finish.decline, (Count("purchase", days=45), Count("purchase", days=90))),
    ),
    _feature("days_since_purchase", "days", "365 d", 365.0, Derived(finish.days_since(365.0), (Last(("purchase",)),))),
)
SERVICES = (
    Service(
        name="no_more_purchases",
        features=tuple(f.name for f in FEATURES),
        description="will not buy within the horizon",
    ),
)
