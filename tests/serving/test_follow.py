"""`telltale user ID`: one person, moving as events come in; against a whole Telltale."""

from __future__ import annotations

import time
from contextlib import closing

import msgspec
import pytest
from rich.console import Console

from serving.client import Door, Turned
from serving.follow import GLOW, Person, _glance, render
from tests.running_up import Up, door_of

VIEWED = {"type": "track", "userId": "ada", "event": "Document Viewed", "timestamp": "2026-03-01T12:00:00Z"}


def shown(what: object) -> str:
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


def view_a_document(door: Door, person: Person, views: int) -> None:
    """Posts it and looks until the feature has it."""
    door.post("/v1/track", msgspec.json.encode({**VIEWED, "messageId": str(views)}), {})
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        _glance(person)
        if person.features and person.features["doc_access_count_30d"]["value"] == views:
            return
        time.sleep(0.05)
    pytest.fail("the feature did not move")


def test_a_person_is_shown_and_what_moved_glows(up: Up) -> None:
    """First nothing is known; then all features, signals and scores; then what the next event moved is bright."""
    with closing(door_of(up)) as door:
        person = Person(door, "ada")
        with pytest.raises(Turned, match="404"):
            person.look(0.0)
        assert "nothing is known of ada yet" in shown(_glance(person))
        view_a_document(door, person, 1)
        view_a_document(door, person, 2)
        now = time.monotonic()
        person.look(now)
        assert person.style("doc_access_count_30d", now)
        assert person.style("signal document_access_spike", now)
        assert not person.style("property_count", now)
        assert not person.style("doc_access_count_30d", now + GLOW)
        said = shown(render(person, now))
    for words in ("ada, as of 2026-03-01T12:00:00", "doc_access_count_30d", "document_access_spike", "likely_to_sell"):
        assert words in said
