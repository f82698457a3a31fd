"""The running API, for the tests here."""

from tests.doors import api, log, log_door, past_api, past_log, wall_door

__all__ = ["api", "log", "log_door", "past_api", "past_log", "wall_door"]
