"""What people do: the event types of real estate and CRM, and the traits that `identify` tells.

To add one: one entry below (and its feature in `users.py`, if it feeds any); then `make check`.
"""

from feature_repo.declare import EventType, Trait

EVENTS = (
    EventType(
        name="document_access",
        segment=("Document Viewed", "Document Accessed", "Document Opened"),
        description="opened a document: title, mortgage statement, disclosure",
    ),
    EventType(name="document_download", segment=("Document Downloaded",), description="downloaded a document"),
    EventType(name="document_share", segment=("Document Shared",), description="shared a document with somebody"),
    EventType(
        name="email_sent",
        segment=("Email Sent", "Email Delivered"),
        description="was sent an e-mail",
        by_person=False,
        tag="topic",
        tags=("refinance",),
    ),
    EventType(
        name="email_open",
        segment=("Email Opened",),
        description="opened an e-mail",
        tag="topic",
        tags=("refinance",),
    ),
    EventType(
        name="email_click",
        segment=("Email Link Clicked", "Email Clicked"),
        description="clicked a link in an e-mail",
        tag="topic",
        tags=("refinance",),
    ),
    EventType(
        name="calculator_use",
        segment=("Calculator Used", "Mortgage Calculated"),
        description="used a mortgage or affordability calculator",
    ),
    EventType(
        name="property_value_check",
        segment=("Property Value Checked", "Home Value Viewed"),
        description="looked up what a home is worth",
    ),
    EventType(
        name="comparable_view",
        segment=("Comparable Viewed", "Listing Viewed"),
        description="viewed a comparable sale or listing",
    ),
    EventType(
        name="market_report_view",
        segment=("Market Report Viewed", "Report Viewed"),
        description="read a market report",
    ),
    EventType(
        name="profile_update",
        segment=("Profile Updated", "Account Updated"),
        description="changed something in the profile",
        tag="field",
        tags=("address", "job", "marital_status"),
    ),
    EventType(
        name="session",
        segment=("Session Ended", "Session Completed"),
        description="a visit to the app or site",
        value="minutes",
        unit="minutes",
    ),
    EventType(name="message_in", segment=("Message Received",), description="wrote to us", role="interaction"),
    EventType(name="message_out", segment=("Message Sent",), description="was written to", role="interaction"),
    EventType(
        name="appointment",
        segment=("Appointment Scheduled", "Appointment Booked"),
        description="agreed on an appointment",
        role="interaction",
    ),
    EventType(
        name="support_ticket",
        segment=("Support Ticket Created", "Ticket Opened"),
        description="asked support for help",
        role="interaction",
    ),
    EventType(
        name="feedback",
        segment=("Feedback Submitted", "Survey Completed"),
        description="rated us",
        value="rating",
        unit="points",
        role="interaction",
    ),
    EventType(name="home_listed", segment=("Home Listed",), description="put a home up for sale", role="outcome"),
    EventType(name="home_bought", segment=("Home Bought",), description="bought a home", role="outcome"),
    EventType(name="loan_refinanced", segment=("Loan Refinanced",), description="refinanced a loan", role="outcome"),
    EventType(name="investment_made", segment=("Investment Made",), description="bought to invest", role="outcome"),
)

TRAITS = (
    Trait(name="property_count", description="properties owned", unit="properties"),
    Trait(name="property_value", description="estimated value of all property owned", unit="USD"),
    Trait(name="mortgage_balance", description="what is still owed on it", unit="USD"),
    Trait(name="home_purchase_date", kind="date", description="when the main home was bought"),
    Trait(name="address", kind="text", description="postal address"),
    Trait(name="job_title", kind="text", description="job"),
    Trait(name="marital_status", kind="text", description="marital status"),
)
