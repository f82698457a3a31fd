"""The 45 features of a user, each stated once: what it is, in which unit, over which window.

To add one: one `Feature` below; then `make check`. A model uses it once its service (`services.py`) lists it.
"""

from feature_repo import finish
from feature_repo.declare import (
    ANY,
    ActiveDays,
    Count,
    Derived,
    Feature,
    FirstDay,
    Last,
    Moment,
    Node,
    Strength,
    Sum,
    TraitChanged,
    TraitValue,
)
from feature_repo.events import EVENTS
from feature_repo.signals import SIGNALS

VIEW = "user_features"
BEHAVIOURS = tuple(event.name for event in EVENTS if event.role == "behaviour" and event.by_person)
LONG_AGO = 365.0  # days: recency stops growing here, and stands here for "never"


def _feature(name: str, of: Node, unit: str, window: str, description: str, default: float = 0.0) -> Feature:
    return Feature(name=name, of=of, unit=unit, window=window, description=description, default=default)


def _life_event(name: str, tag: str, trait: str, description: str) -> Feature:
    moments = (Last(("profile_update",), tag), TraitChanged(trait))
    return _feature(name, Derived(finish.within_days(90), moments), "0 or 1", "90 d", description)


def _strength(signal: str) -> Feature:
    declared = next(s for s in SIGNALS if s.name == signal)
    return _feature(f"{signal}_strength", Strength(signal), "0-1", declared.window, declared.description)


def _family(family: str) -> Feature:
    strengths = tuple(Strength(s.name) for s in SIGNALS if s.family == family)
    return _feature(
        f"{family}_signal_count",
        Derived(finish.above(0.3), strengths),
        "signals",
        "as each signal",
        f"{family} signals above 0.3",
    )


FEATURES = (
    # documents
    _feature("doc_access_count_30d", Count("document_access", days=30), "events", "30 d", "documents opened"),
    _feature("doc_download_count_30d", Count("document_download", days=30), "events", "30 d", "documents downloaded"),
    _feature("doc_share_count_30d", Count("document_share", days=30), "events", "30 d", "documents shared"),
    _feature(
        "doc_access_per_week",
        Derived(finish.per_week(90), (Count("document_access", days=90),)),
        "events a week",
        "90 d",
        "documents opened a week",
    ),
    _feature(
        "days_since_doc_access",
        Derived(finish.days_since(LONG_AGO), (Last(("document_access",)),)),
        "days",
        "365 d",
        "days since a document was last opened; 365 = a year or never",
        LONG_AGO,
    ),
    # e-mail
    _feature(
        "email_open_rate_90d",
        Derived(finish.rate, (Count("email_open", days=90), Count("email_sent", days=90))),
        "0-1",
        "90 d",
        "opens by mails sent",
    ),
    _feature(
        "email_click_rate_90d",
        Derived(finish.rate, (Count("email_click", days=90), Count("email_sent", days=90))),
        "0-1",
        "90 d",
        "clicks by mails sent",
    ),
    _feature(
        "refinance_email_clicks_90d",
        Count("email_click", days=90, tag="refinance"),
        "events",
        "90 d",
        "clicks in mail about refinancing",
    ),
    _feature("market_report_views_30d", Count("market_report_view", days=30), "events", "30 d", "market reports read"),
    # platform
    _feature(
        "value_check_count_30d", Count("property_value_check", days=30), "events", "30 d", "home values looked up"
    ),
    _feature("calculator_use_count_30d", Count("calculator_use", days=30), "events", "30 d", "calculators used"),
    _feature("comparable_views_30d", Count("comparable_view", days=30), "events", "30 d", "comparables viewed"),
    _feature("session_count_30d", Count("session", days=30), "events", "30 d", "visits"),
    _feature(
        "avg_session_minutes_30d",
        Derived(finish.mean, (Sum("session", days=30), Count("session", days=30))),
        "minutes",
        "30 d",
        "mean length of a visit",
    ),
    # property
    _feature(
        "property_count",
        Derived(finish.known(0.0), (TraitValue("property_count"),)),
        "properties",
        "latest",
        "properties owned",
    ),
    _feature(
        "home_ownership_years",
        Derived(finish.years_since, (TraitValue("home_purchase_date"),)),
        "years",
        "latest",
        "years since the main home was bought; 0 = unknown",
    ),
    _feature(
        "estimated_equity",
        Derived(finish.equity, (TraitValue("property_value"), TraitValue("mortgage_balance"))),
        "USD",
        "latest",
        "value of the property less what is owed; 0 = unknown",
    ),
    _feature(
        "loan_to_value",
        Derived(finish.loan_to_value, (TraitValue("property_value"), TraitValue("mortgage_balance"))),
        "0-2",
        "latest",
        "what is owed by the value; 0 = unknown",
    ),
    # engagement
    _feature(
        "days_since_last_visit",
        Derived(finish.days_since(LONG_AGO), (Last(("session",)),)),
        "days",
        "365 d",
        "days since the last visit; 365 = a year or never",
        LONG_AGO,
    ),
    _feature(
        "visits_per_week",
        Derived(finish.per_week(90), (Count("session", days=90),)),
        "events a week",
        "90 d",
        "visits a week",
    ),
    # life events
    _life_event("address_change_recent", "address", "address", "the address changed"),
    _life_event("job_change_recent", "job", "job_title", "the job changed"),
    _life_event("marital_status_change_recent", "marital_status", "marital_status", "the marital status changed"),
    # signals
    *(_strength(signal.name) for signal in SIGNALS),
    _family("document"),
    _family("email"),
    _family("platform"),
    _feature(
        "total_signal_strength",
        Derived(finish.add, tuple(Strength(signal.name) for signal in SIGNALS)),
        "0-11",
        "as each signal",
        "sum of the 11 strengths",
    ),
    # trends
    _feature(
        "login_frequency_slope_30d",
        Derived(finish.slope(30), (Moment("session", days=30), Count("session", days=30))),
        "events a day a day",
        "30 d",
        "least-squares slope of daily visits",
    ),
    _feature(
        "doc_access_decline_30d",
        Derived(finish.decline, (Count("document_access", days=30), Count("document_access", days=60))),
        "-1 to 1",
        "30 d against the 30 d before",
        "drop in documents opened, against the month before",
    ),
    _feature(
        "email_engagement_momentum",
        Derived(
            finish.momentum,
            (
                Count(("email_open", "email_click"), days=30),
                Count("email_sent", days=30),
                Count(("email_open", "email_click"), days=90),
                Count("email_sent", days=90),
            ),
        ),
        "-1 to 1",
        "30 d against 90 d",
        "change in opens and clicks by mails sent, against usually",
    ),
    _feature("active_days_30d", ActiveDays(ANY, days=30), "days", "30 d", "days with any activity"),
    _feature(
        "mean_days_between_sessions",
        Derived(
            finish.mean_gap(90.0),
            (FirstDay("session", days=90), Last(("session",)), ActiveDays("session", days=90)),
        ),
        "days",
        "90 d",
        "mean gap between days with a visit; 90 = fewer than two",
        90.0,
    ),
    _feature(
        "event_type_diversity_30d",
        Derived(finish.diversity, tuple(Count(name, days=30) for name in BEHAVIOURS)),
        "event types",
        "30 d",
        "kinds of activity",
    ),
    _feature(
        "hours_since_last_event",
        Derived(finish.hours_since(LONG_AGO * 24), (Last(ANY),)),
        "hours",
        "365 d",
        "hours since any activity; 8,760 = a year or never",
        LONG_AGO * 24,
    ),
)
