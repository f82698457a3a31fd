"""The views that outside data fills: CRM, valuations, credit. The flow's own view is in `users.py`.

To add one: a `View` below; then `make check`.
"""

from feature_repo.declare import Field, View

VIEWS = (
    View(
        name="user_finances",
        entity="user",
        description="what banks and valuers know of a user",
        owner="data@telltale.example",
        ttl_days=90,
        fields=(
            Field(name="credit_enquiries_90d", kind="integer", unit="enquiries", description="credit enquiries made"),
            Field(name="home_value", unit="USD", description="valuation of the home", trait="property_value"),
            Field(name="mortgage_balance", unit="USD", description="what is still owed", trait="mortgage_balance"),
        ),
    ),
    View(
        name="lead_crm",
        entity="lead",
        description="a lead, as the CRM sees it",
        owner="data@telltale.example",
        ttl_days=90,
        fields=(
            Field(name="days_since_contact", unit="days", description="days since the last contact either way"),
            Field(name="engagement_score", unit="0-100", description="how engaged the CRM takes the lead to be"),
            Field(
                name="source_quality",
                unit="0-1",
                default=0.2,
                description="share of leads of this source that converted",
            ),
        ),
    ),
    View(
        name="property_market",
        entity="property",
        description="a home in its market",
        owner="data@telltale.example",
        ttl_days=180,
        fields=(
            Field(name="value_estimate", unit="USD", description="what the home is worth"),
            Field(
                name="neighbourhood_appreciation", unit="a year", description="growth of values in the neighbourhood"
            ),
            Field(name="comparable_count", kind="integer", unit="sales", description="comparable sales of late"),
        ),
    ),
    View(
        name="investor_profile",
        entity="investor",
        description="an investor's record",
        owner="data@telltale.example",
        ttl_days=180,
        fields=(
            Field(name="average_deal_size", unit="USD", description="mean price of the deals closed"),
            Field(name="response_rate", unit="0-1", description="share of our messages answered"),
            Field(name="close_rate", unit="0-1", description="share of the deals begun that closed"),
        ),
    ),
    View(
        name="lead_activity",
        entity="lead",
        description="what has passed between a lead and us",
        owner="data@telltale.example",
        ttl_days=90,
        fields=(
            Field(name="response_minutes", unit="minutes", default=1440.0, description="until we first answered"),
            Field(name="messages_in", kind="integer", unit="messages", description="messages of the lead to us"),
            Field(name="messages_out", kind="integer", unit="messages", description="messages of ours to the lead"),
            Field(name="appointments", kind="integer", unit="appointments", description="appointments agreed on"),
            Field(name="engagement_rate", unit="0-1", description="share of our messages that were opened or answered"),
        ),
    ),
    View(
        name="lead_property",
        entity="lead",
        description="the home that a lead asks about",
        owner="data@telltale.example",
        ttl_days=90,
        fields=(
            Field(name="has_property", kind="integer", unit="0 or 1", description="the lead asks about a certain home"),
            Field(name="price", unit="USD", description="its price; 0 = unknown"),
            Field(name="photos", kind="integer", unit="photos", description="photos in its listing"),
            Field(
                name="market_activity", unit="0-1", default=0.5, description="share of listings near it sold in 90 days"
            ),
        ),
    ),
    View(
        name="user_satisfaction",
        entity="user",
        description="what support and surveys know of a user",
        owner="data@telltale.example",
        ttl_days=180,
        fields=(
            Field(name="rating", unit="1-5", default=4.0, description="mean of the ratings given of late"),
            Field(
                name="tickets_90d", kind="integer", unit="tickets", description="times that support was asked for help"
            ),
            Field(
                name="resolution_hours", unit="hours", default=24.0, description="mean time until support had helped"
            ),
        ),
    ),
    View(
        name="user_market",
        entity="user",
        description="the market where a user's home stands",
        owner="data@telltale.example",
        ttl_days=90,
        fields=(
            Field(name="price_change_1y", unit="a year", default=0.03, description="growth of prices near the home"),
            Field(name="sales_change_90d", unit="a quarter", description="growth of the number of sales near the home"),
        ),
    ),
    View(
        name="email_history",
        entity="user",
        description="how a user takes e-mail, as the mail service counts it",
        owner="data@telltale.example",
        ttl_days=180,
        fields=(
            Field(name="mails_sent", kind="integer", unit="mails", description="mails sent to the user so far"),
            Field(
                name="machine_opens", unit="0-1", description="share of opens within a minute of sending: a program's"
            ),
            Field(name="mobile_share", unit="0-1", default=0.5, description="share of opens on a phone"),
            Field(
                name="location_opens", unit="0-1", default=0.2, description="share of mails opened where the user lives"
            ),
        ),
    ),
)
