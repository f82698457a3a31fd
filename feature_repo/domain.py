"""The domain that ships: real estate and CRM. Another directory with a `domain.py` of these names replaces it."""

from feature_repo.entities import ENTITIES
from feature_repo.events import EVENTS, TRAITS
from feature_repo.inputs import INPUTS
from feature_repo.services import SERVICES
from feature_repo.signals import SIGNALS
from feature_repo.users import FEATURES, VIEW
from feature_repo.views import VIEWS

__all__ = ["ENTITIES", "EVENTS", "FEATURES", "INPUTS", "SERVICES", "SIGNALS", "TRAITS", "VIEW", "VIEWS"]
