"""Who will stay away for the next 30, 60 or 90 days, of those who came in as many days before."""

from functools import partial

from onnx_models.card import Recommendation
from training import leavers
from training.model import BOOSTED, Label, Training

VISITS = (
    "session",
    "document_access",
    "calculator_use",
    "property_value_check",
    "comparable_view",
    "market_report_view",
)
RETAIN = (
    Recommendation("CALL_IN_PERSON", 0.8, 0.0, "all but gone: only a person can still find out why", level="critical"),
    Recommendation(
        "MAKE_AN_OFFER", 0.6, 0.0, "more likely to leave than to stay: give a reason to return", level="high"
    ),
    Recommendation("SEND_A_REPORT", 0.3, 0.0, "comes less than before: show what is new on the market", level="medium"),
    Recommendation("LEAVE_ALONE", 0.0, 0.0, "comes as usual: more mail would only be in the way", level="low"),
)


def model(days: int) -> Training:
    """The model of one horizon."""
    return Training(
        service=f"churn_{days}d",
        label=Label(horizon_days=days, events=VISITS, absent=True, among_days=days),
        rule={"days_since_last_visit": 1.0, "mean_days_between_sessions": 0.3, "doc_access_decline_30d": 5.0},
        candidates=(BOOSTED,),
        telling=("days_since_last_visit", "hours_since_last_event"),  # staying away is what is foretold
        rises=(
            "days_since_last_visit",
            "hours_since_last_event",
            "mean_days_between_sessions",
            "user_satisfaction:tickets_90d",
            "user_satisfaction:resolution_hours",
        ),
        falls=(
            "session_count_30d",
            "visits_per_week",
            "active_days_30d",
            "event_type_diversity_30d",
            "user_satisfaction:rating",
        ),
        recommendations=RETAIN,
        simulated=partial(leavers.rows, days),
    )


MODELS = tuple(map(model, (30, 60, 90)))
