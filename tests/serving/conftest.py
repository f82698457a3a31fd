"""The running API, for the tests here."""

from tests.doors import api, log, log_door, past_api, past_log, wall_door
from tests.serving.page_desk import browser, desk

__all__ = ["api", "browser", "desk", "log", "log_door", "past_api", "past_log", "wall_door"]
