"""Loan applications of a Dutch bank (BPI Challenge 2012): each step that an application goes through is an event."""

from feature_repo import finish
from feature_repo.declare import (
    ANY,
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

VIEW = "application_features"
ENTITIES = (Entity(name="application", join_key="case_id", description="a loan application"),)
OF_APPLICATION = (
    *("submitted", "partlysubmitted", "preaccepted", "accepted", "finalized", "approved", "activated"),
    *("registered", "cancelled", "declined"),
)
OF_OFFER = ("selected", "created", "sent", "sent_back", "accepted", "cancelled", "declined")
OF_WORK = (
    *("afhandelen_leads", "beoordelen_fraude", "completeren_aanvraag", "nabellen_incomplete_dossiers"),
    *("nabellen_offertes", "valideren_aanvraag"),
)
STEPS = (
    *(f"a_{name}_complete" for name in OF_APPLICATION),
    *(f"o_{name}_complete" for name in OF_OFFER),
    *(f"w_{name}_{part}" for name in OF_WORK for part in ("schedule", "start", "complete")),
)
SUBMITTED = "a_submitted_complete"

EVENTS = tuple(
    EventType(name=name, description=name, value="amount" if name == SUBMITTED else None, unit="EUR", scale=100)
    for name in STEPS
)


def _feature(name: str, of: Node, unit: str = "events") -> Feature:
    return Feature(name=name, of=of, unit=unit, window="90 d", default=0.0, description=name)


FEATURES = (
    *(_feature(f"{name}_90d", Count(name, days=90)) for name in STEPS),
    _feature("steps_7d", Count(ANY, days=7)),
    _feature("steps_24h", Count(ANY, hours=24)),
    _feature("active_days_90d", ActiveDays(ANY, days=90), "days"),
    _feature("first_day_90d", FirstDay(ANY, days=90), "days since 1970"),
    _feature("amount_90d", Sum(SUBMITTED, days=90), "EUR"),
    _feature("hours_open", Derived(finish.hours_since(2160.0), (Last((SUBMITTED,)),)), "hours"),
    _feature("days_since_last_step", Derived(finish.days_since(365.0), (Last(ANY),)), "days"),
)

# What is known of an application while it is open. Not `first_day_90d`, which says when it is, not what.
SERVICES = (
    Service(
        name="approval",
        features=tuple(f.name for f in FEATURES if f.name != "first_day_90d"),
        description="will be approved",
        alert="LIKELY_APPROVED",
        outcome="a_approved_complete",
    ),
)
