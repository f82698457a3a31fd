"""Enquiries about courses (X Education). Asked: who will enrol. All that is known of one comes with the request."""

from feature_repo.declare import Count, Entity, EventType, Feature, Input, Service

ENTITIES = (Entity(name="lead", join_key="lead_id", description="an enquiry"),)
VIEW = "lead_features"
EVENTS = (EventType(name="page_view", description="viewed a page"),)
FEATURES = (
    Feature(
        name="page_views_30d",
        unit="events",
        window="30 d",
        default=0.0,
        description="pages viewed",
        of=Count("page_view", days=30),
    ),
)


def _flag(name: str, description: str) -> Input:
    return Input(name=name, unit="0 or 1", default=0.0, description=description)


TOLD = (
    Input(
        name="source_quality",
        unit="0-1",
        default=0.38,
        description="share of earlier leads of the source that enrolled",
    ),
    Input(name="visits", unit="visits", default=3.0, description="visits to the site"),
    Input(name="seconds_on_site", unit="seconds", default=248.0, description="time spent on the site"),
    Input(name="pages_a_visit", unit="pages", default=2.0, description="pages viewed a visit"),
    _flag("came_by_form", "filled in the form for leads"),
    _flag("came_by_api", "came by a partner or the chat"),
    _flag("no_mail", "wants no e-mail"),
    _flag("working", "has a job"),
    _flag("unemployed", "says that there is no job"),
    _flag("student", "is a student"),
    _flag("told_occupation", "told an occupation"),
    _flag("told_specialization", "chose a specialization"),
    _flag("told_city", "chose a city"),
    _flag("told_matter", "told what matters in a course"),
    _flag("told_source", "told how the company was found"),
    _flag("in_india", "lives in India"),
    _flag("free_copy", "asked for a free book"),
)
TAG = Input(name="tag_quality", unit="0-1", default=0.38, description="share of leads of the tag that enrolled: a leak")
KNOWN = tuple(f"request:{i.name}" for i in TOLD)
INPUTS = (*TOLD, TAG)
SERVICES = (
    Service(name="enrolment", features=KNOWN, description="will enrol in a course"),
    Service(name="leaking", features=(*KNOWN, "request:tag_quality"), description="will enrol, and knows it"),
)
