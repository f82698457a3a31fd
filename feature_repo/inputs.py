"""What only the request for a score can give: no store holds it.

To add one: an `Input` below, and `request:its_name` in a service; then `make check`.
"""

from feature_repo.declare import Input

INPUTS = (
    Input(name="days_since_creation", unit="days", default=0.0, description="days since the lead came in"),
    Input(name="send_hour", unit="0-23", default=9.0, description="hour at which the mail leaves, where it is read"),
    Input(name="send_weekday", unit="0-6", default=1.0, description="weekday on which it leaves; 0 = Monday"),
    Input(name="mail_words", unit="words", default=250.0, description="words in the mail"),
    Input(name="mail_links", unit="links", default=3.0, description="links in the mail"),
    Input(name="mail_images", unit="images", default=1.0, description="images in the mail"),
    Input(name="subject_hotness", unit="0-5", default=1.0, description="how much the subject line urges"),
    Input(
        name="is_campaign", unit="0 or 1", default=1.0, description="the mail goes to many, not to this person alone"
    ),
)
