"""Visits of a shop (REES46): products viewed, put into the cart, bought."""

from feature_repo import finish
from feature_repo.declare import ANY, Count, Derived, Entity, EventType, Feature, Last, Node, Sum

VIEW = "shopper_features"
ENTITIES = (Entity(name="shopper", join_key="shopper_id", description="a visitor of the shop"),)
KINDS = {"view": "Product Viewed", "cart": "Product Added", "purchase": "Order Completed"}

EVENTS = tuple(
    EventType(
        name=name,
        segment=(spelled,),
        description=spelled,
        value="price",
        unit="USD",
        scale=100,
        tag="department",
        tags=("electronics", "appliances", "computers"),
    )
    for name, spelled in KINDS.items()
)


def _feature(name: str, of: Node, window: str, unit: str = "events") -> Feature:
    return Feature(name=name, of=of, unit=unit, window=window, default=0.0, description=name)


FEATURES = (
    *(_feature(f"{kind}_{h}h", Count(kind, hours=h), f"{h} h") for kind in KINDS for h in (1, 2, 24)),
    *(_feature(f"{kind}_price_24h", Sum(kind, hours=24), "24 h", "USD") for kind in KINDS),
    *(_feature(f"{kind}_electronics_1d", Count(kind, days=1, tag="electronics"), "1 d") for kind in KINDS),
    _feature("hours_since_last", Derived(finish.hours_since(8760.0), (Last(ANY),)), "365 d", "hours"),
)
