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
            Field(name="source_quality", unit="0-1", description="share of leads of this source that converted"),
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
)
