"""Who will refinance a loan."""

from training.model import Training

MODEL = Training(
    service="refinance_opportunity",
    budget=0.028,
    rule={
        "refinance_email_clicks_90d": 3.0,
        "calculator_use_count_30d": 1.0,
        "doc_access_count_30d": 0.5,
        "loan_to_value": 2.0,
    },
)
