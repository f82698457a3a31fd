"""A shop (REES46): who looks, who carts, who buys."""

from feature_repo.declare import Count, EventType, Feature, Node, Sum

ENTITY, JOIN_KEY, VIEW = "visitor", "visitor_id", "visitor_features"
BRANDS = ("samsung", "apple", "xiaomi")

EVENTS = (
    EventType(name="view", description="looked at a product", value="price", unit="USD", tag="brand", tags=BRANDS),
    EventType(name="cart", segment=("Product Added",), description="put it into the cart", value="price", unit="USD"),
    EventType(name="purchase", segment=("Order Completed",), description="bought it", value="price", unit="USD"),
)


def _feature(name: str, of: Node, unit: str = "events") -> Feature:
    return Feature(name=name, of=of, unit=unit, window="24 h", default=0.0, description=name)


FEATURES = (
    *(_feature(f"{event.name}_24h", Count(event.name, hours=24)) for event in EVENTS),
    *(_feature(f"{event.name}_2h", Count(event.name, hours=2)) for event in EVENTS),
    *(_feature(f"{event.name}_spent_24h", Sum(event.name, hours=24), "USD") for event in EVENTS),
    *(_feature(f"view_{brand}_24h", Count("view", hours=24, tag=brand)) for brand in BRANDS),
)
