"""Loan applications at a bank (the log of the BPI Challenge 2012): a person here is an application."""

from feature_repo.declare import ANY, ActiveDays, Count, EventType, Feature, Node, Sum

ENTITY, JOIN_KEY, VIEW = "application", "case_id", "application_features"

_STATES = (
    *("a_submitted", "a_partlysubmitted", "a_preaccepted", "a_accepted", "a_finalized", "a_approved", "a_registered"),
    *("a_activated", "a_declined", "a_cancelled", "o_selected", "o_created", "o_sent", "o_sent_back", "o_accepted"),
    *("o_cancelled", "o_declined"),
)
_WORK = (
    *("w_afhandelen_leads", "w_beoordelen_fraude", "w_completeren_aanvraag", "w_nabellen_incomplete_dossiers"),
    *("w_nabellen_offertes", "w_valideren_aanvraag"),
)
_NAMES = (
    *(f"{state}_complete" for state in _STATES),
    *(f"{work}_{step}" for work in _WORK for step in ("schedule", "start", "complete")),
    "w_wijzigen_contractgegevens_schedule",
)
EVENTS = tuple(EventType(name=name, description=name, value="amount", unit="EUR", scale=1) for name in _NAMES)


def _feature(name: str, of: Node, window: str) -> Feature:
    return Feature(name=name, of=of, unit="events", window=window, default=0.0, description=name)


FEATURES = (
    *(_feature(f"{name}_30d", Count(name, days=30), "30 d") for name in _NAMES),
    _feature("events_90d", Count(ANY, days=90), "90 d"),
    _feature("events_7d", Count(ANY, days=7), "7 d"),
    _feature("events_24h", Count(ANY, hours=24), "24 h"),
    _feature("active_days_90d", ActiveDays(ANY, days=90), "90 d"),
    _feature("amount_90d", Sum("a_submitted_complete", days=90), "90 d"),
)
