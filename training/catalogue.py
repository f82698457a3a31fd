"""Every model that can be trained: add yours here."""

from training import investment_interest, likely_to_buy, likely_to_sell, refinance_opportunity
from training.model import Training

MODELS: dict[str, Training] = {
    module.MODEL.service: module.MODEL
    for module in (likely_to_sell, likely_to_buy, refinance_opportunity, investment_interest)
}
