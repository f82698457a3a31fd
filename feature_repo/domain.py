"""The domain that ships: real estate and CRM. Another directory with a `domain.py` of these names replaces it."""

from feature_repo.events import EVENTS, TRAITS
from feature_repo.services import SERVICES
from feature_repo.signals import SIGNALS
from feature_repo.users import ENTITY, FEATURES, JOIN_KEY, VIEW

__all__ = ["ENTITY", "EVENTS", "FEATURES", "JOIN_KEY", "SERVICES", "SIGNALS", "TRAITS", "VIEW"]
