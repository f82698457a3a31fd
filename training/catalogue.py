"""Every model that can be trained: add yours here."""

from training import (
    churn,
    email_engagement,
    investment_interest,
    lead_score,
    likely_to_buy,
    likely_to_sell,
    refinance_opportunity,
)
from training.model import Training

MODELS: dict[str, Training] = {
    model.service: model
    for model in (
        likely_to_sell.MODEL,
        likely_to_buy.MODEL,
        refinance_opportunity.MODEL,
        investment_interest.MODEL,
        lead_score.MODEL,
        email_engagement.MODEL,
        *churn.MODELS,
    )
}
