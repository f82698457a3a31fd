"""The domain that ships, and the same with an event type and features more: what an upgrade may bring along."""

from __future__ import annotations

from pathlib import Path

from feature_repo.vocabulary import Vocabulary, load
from tests.flows.oracle import DAY_MS, Person

SAME = """
from feature_repo.domain import ENTITIES, EVENTS, FEATURES, INPUTS, SERVICES, SIGNALS, TRAITS, VIEW, VIEWS
"""
MORE = """
from feature_repo import finish
from feature_repo.declare import Count, Derived, EventType, Feature, Last

def _feature(name, of):
    return Feature(name=name, of=of, unit="", window="", default=0.0, description=name)

EVENTS = (*EVENTS, EventType(name="hat_worn", description="wore a hat", segment=("Hat Worn",), role="interaction"))
FEATURES = (
    *FEATURES,
    _feature("hats_30d", Count("hat_worn", days=30)),
    _feature("comparable_views_24h", Count("comparable_view", hours=24)),
    _feature("days_since_share", Derived(finish.days_since(365.0), (Last(("document_share",)),))),
)
"""
NEW_EVENT = "hats_30d"  # the feature of the event type that is new


def domains(place: Path) -> tuple[str, str]:
    """Directories of the domain as it ships, and of the one with more."""
    for name, text in (("same", SAME), ("more", SAME + MORE)):
        (place / name).mkdir()
        (place / name / "domain.py").write_text(text)
    return str(place / "same"), str(place / "more")


def vocabulary(domain: str) -> Vocabulary:
    return load(domain)


def gained(person: Person) -> dict[str, float]:
    """What the features that are new must be, once nothing is lacking."""
    shared = person.last(["document_share"])
    return {
        NEW_EVENT: person.count("hat_worn", 30),
        "comparable_views_24h": person.count("comparable_view", hours=24),
        "days_since_share": min(max(person.now - shared, 0) / DAY_MS, 365.0) if shared else 365.0,
    }
