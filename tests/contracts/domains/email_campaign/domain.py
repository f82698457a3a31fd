"""A mail campaign's 68,353 mails. Asked: which will be opened. All that is known of one comes with the request."""

from feature_repo.declare import Count, EventType, Feature, Input, Service

EVENTS = (EventType(name="email_open", description="opened a mail"),)
FEATURES = (
    Feature(
        name="email_opens_30d",
        unit="events",
        window="30 d",
        default=0.0,
        description="mails opened",
        of=Count("email_open", days=30),
    ),
)
PLACES = tuple("ABCDEFG")
INPUTS = (
    Input(name="mail_words", unit="words", default=694.0, description="words in the mail"),
    Input(name="mail_links", unit="links", default=9.0, description="links in the mail"),
    Input(name="mail_images", unit="images", default=0.0, description="images in the mail"),
    Input(name="subject_hotness", unit="0-5", default=0.8, description="how much the subject line urges"),
    Input(name="mails_sent", unit="mails", default=28.0, description="mails sent to this person so far"),
    Input(name="is_campaign", unit="0 or 1", default=1.0, description="the mail is marketing"),
    Input(name="source_type", unit="1 or 2", default=1.0, description="kind of sender"),
    Input(name="campaign_type", unit="1-3", default=2.0, description="kind of campaign"),
    Input(name="part_of_day", unit="1-3", default=2.0, description="morning, noon or evening"),
    *(Input(name=f"lives_in_{p.lower()}", unit="0 or 1", default=0.0, description=f"lives in {p}") for p in PLACES),
)
SERVICES = (
    Service(name="opened", features=tuple(f"request:{i.name}" for i in INPUTS), description="will open the mail"),
)
