"""The models' input lists, in order: the one place they are stated.

To add one: a `Service` below, and its model in `training/`.
"""

from feature_repo.declare import Service
from feature_repo.users import FEATURES

_ALL = tuple(feature.name for feature in FEATURES)

SERVICES = (
    Service(
        name="likely_to_sell",
        features=_ALL,
        description="will list a home within 90 days",
        alert="LIKELY_TO_SELL",
        outcome="home_listed",
    ),
    Service(
        name="likely_to_buy",
        features=_ALL,
        description="will buy a home within 90 days",
        alert="LIKELY_TO_BUY",
        outcome="home_bought",
    ),
    Service(
        name="refinance_opportunity",
        features=_ALL,
        description="will refinance within 90 days",
        alert="REFINANCE_OPPORTUNITY",
        outcome="loan_refinanced",
    ),
    Service(
        name="investment_interest",
        features=_ALL,
        description="will buy to invest within 90 days",
        alert="INVESTMENT_INTEREST",
        outcome="investment_made",
    ),
)
