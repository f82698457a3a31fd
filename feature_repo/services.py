"""The models' input lists, in order: the one place they are stated.

To add one: a `Service` below, and its model in `training/`.
"""

from feature_repo.declare import Service
from feature_repo.users import FEATURES

_ALL = tuple(feature.name for feature in FEATURES)

_LEAD = (
    "lead_crm:source_quality",
    "lead_activity:response_minutes",
    "lead_activity:messages_in",
    "lead_activity:messages_out",
    "lead_activity:appointments",
    "lead_activity:engagement_rate",
    "lead_property:has_property",
    "lead_property:price",
    "lead_property:photos",
    "lead_property:market_activity",
    "request:days_since_creation",
)

_MAIL = (
    "request:send_hour",
    "request:send_weekday",
    "email_open_rate_90d",
    "email_click_rate_90d",
    "email_engagement_momentum",
    "email_history:mails_sent",
    "email_history:machine_opens",
    "email_history:mobile_share",
    "email_history:location_opens",
    "request:mail_words",
    "request:mail_links",
    "request:mail_images",
    "request:subject_hotness",
    "request:is_campaign",
    "session_count_30d",
    "active_days_30d",
    "days_since_last_visit",
)

_STAY = (
    "login_frequency_slope_30d",
    "doc_access_decline_30d",
    "email_engagement_momentum",
    "session_count_30d",
    "visits_per_week",
    "active_days_30d",
    "days_since_last_visit",
    "hours_since_last_event",
    "mean_days_between_sessions",
    "avg_session_minutes_30d",
    "event_type_diversity_30d",
    "doc_access_per_week",
    "calculator_use_count_30d",
    "user_satisfaction:rating",
    "user_satisfaction:tickets_90d",
    "user_satisfaction:resolution_hours",
    "user_market:price_change_1y",
    "user_market:sales_change_90d",
)

SERVICES = (
    Service(
        name="likely_to_sell",
        features=_ALL,
        description="will list a home within 90 days",
        alert="LIKELY_TO_SELL",
        advice="Call within a day, and offer a valuation of the home.",
        outcome="home_listed",
    ),
    Service(
        name="likely_to_buy",
        features=_ALL,
        description="will buy a home within 90 days",
        alert="LIKELY_TO_BUY",
        advice="Call within a day, ask what they look for, and send homes that fit.",
        outcome="home_bought",
    ),
    Service(
        name="refinance_opportunity",
        features=_ALL,
        description="will refinance within 90 days",
        alert="REFINANCE_OPPORTUNITY",
        advice="Call with today's rates, and with what a new loan would save a month.",
        outcome="loan_refinanced",
    ),
    Service(
        name="investment_interest",
        features=_ALL,
        description="will buy to invest within 90 days",
        alert="INVESTMENT_INTEREST",
        advice="Send properties with their yields, and offer a talk about investment loans.",
        outcome="investment_made",
    ),
    Service(name="lead_score", features=_LEAD, description="will become a customer"),
    Service(name="email_engagement", features=_MAIL, description="will open the mail within 7 days"),
    Service(name="churn_30d", features=_STAY, description="will do nothing for the next 30 days"),
    Service(name="churn_60d", features=_STAY, description="will do nothing for the next 60 days"),
    Service(name="churn_90d", features=_STAY, description="will do nothing for the next 90 days"),
)
