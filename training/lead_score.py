"""Which leads become customers, and what to do about each."""

from onnx_models.card import Recommendation
from training import leads
from training.model import BOOSTED, FOREST, Gates, Label, Training

MODEL = Training(
    service="lead_score",
    entity="lead",
    label=Label(horizon_days=90, column="converted"),
    rule={
        "lead_crm:source_quality": 10.0,
        "lead_activity:messages_in": 1.0,
        "lead_activity:appointments": 3.0,
        "lead_activity:engagement_rate": 2.0,
        "lead_property:has_property": 1.0,
    },
    candidates=(BOOSTED, FOREST),
    gates=Gates(us_a_row=40.0),  # it is scored when asked, not in the stream, so a forest of 100 deep trees may win
    cases=True,
    rises=(
        "lead_crm:source_quality",
        "lead_activity:messages_in",
        "lead_activity:appointments",
        "lead_activity:engagement_rate",
    ),
    falls=("lead_activity:response_minutes",),
    recommendations=(
        Recommendation("HIGH_PRIORITY", 0.7, 0.8, "likely to buy, and we know enough to say so: call within the hour"),
        Recommendation("MEDIUM_PRIORITY", 0.5, 0.7, "more likely than not to buy: call today"),
        Recommendation("NURTURE", 0.3, 0.0, "may buy later, or too little is known: keep in touch by mail"),
        Recommendation("LOW_PRIORITY", 0.0, 0.0, "unlikely to buy: leave it to automatic mail"),
    ),
    simulated=leads.rows,
)
