"""Who will buy to invest."""

from training.model import Training

MODEL = Training(
    service="investment_interest",
    budget=0.009,
    rule={
        "market_report_views_30d": 2.0,
        "comparable_views_30d": 1.0,
        "calculator_use_count_30d": 1.0,
        "property_count": 1.0,
    },
)
