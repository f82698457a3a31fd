"""What features are of. The first entity is the one whose events are counted."""

from feature_repo.declare import Entity

ENTITIES = (
    Entity(name="user", join_key="user_id", description="a person who uses the app or site, or is written to"),
    Entity(name="lead", join_key="lead_id", description="an enquiry, as the CRM knows it"),
    Entity(name="property", join_key="property_id", description="a home"),
    Entity(name="investor", join_key="investor_id", description="somebody who buys to invest"),
)
