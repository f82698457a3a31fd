"""`telltale user ID`: one person, moving as events come in; against a whole Telltale."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import msgspec
import pytest
from rich.console import Console

from feature_repo.vocabulary import Vocabulary
from serving.client import Door, Turned
from serving.follow import GLOW, Person, _glance, _print_change, render
from tests.running_up import Up, door_of

VIEWED = {"type": "track", "userId": "ada", "event": "Document Viewed", "timestamp": "2026-03-01T12:00:00Z"}


ALERTING = [service for service in Vocabulary().services if service.alert]
USUAL = {feature.name: feature.default for feature in Vocabulary().features}


def shown(what: object, width: int = 200) -> str:
    console = Console(width=width, color_system=None)
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
        person = Person(door, "ada", USUAL)
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
    assert "property_count" not in said  # nothing is known of it
    for words in ("ada, as of 2026-03-01T12:00:00", "doc_access_count_30d", "document_access_spike", "likely_to_sell"):
        assert words in said


class Told(Door):
    """A door that answers what it was given."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers

    def json(self, path: str) -> Any:
        return self.answers[path.rpartition("/")[2].partition("?")[0]]


def busy() -> dict[str, Any]:
    """Of somebody of whom everything is known."""
    vocabulary = Vocabulary()
    reasons = [
        {"feature": f"f{n}", "value": 1.0, "contribution": 1.0 - n, "says": f"a reason of some length, number {n}"}
        for n in range(5)
    ]
    return {
        "features": {
            "at": "2026-03-01T12:00:00Z",
            "features": {f.name: {"value": 1.5, "unit": f.unit} for f in vocabulary.features},
        },
        "signals": {
            "signals": [{"name": s.name, "strength": 0.5, "confidence": 0.25} for s in vocabulary.signals],
        },
        "scores": {"scores": [{"model": s.name, "score": 0.9, "threshold": 0.5, "reasons": reasons} for s in ALERTING]},
    }


@pytest.mark.parametrize(("width", "height"), [(80, 24), (110, 40)])
def test_what_matters_fits_an_ordinary_terminal(width: int, height: int) -> None:
    """Every score with its reasons and every signal stands on the screen, though all features say something."""
    person = Person(Told(busy()), "ada", USUAL)
    person.look(0.0)
    lines = shown(render(person, GLOW), width).splitlines()
    assert max(map(len, lines)) <= width
    seen = "\n".join(lines[:height])
    assert seen.count("0.900 (at least 0.500)") == len(ALERTING)
    assert seen.count("a reason of some length, number 0") == len(ALERTING)
    for signal in Vocabulary().signals:
        assert f"{signal.name} 0.50 (0.25)" in seen
    assert seen.index("likely_to_sell") < seen.index("signals") < seen.index("features that say something")


def test_features_at_their_default_are_left_out_until_they_move() -> None:
    """What is as of anybody says nothing; what went back to it does."""
    answers = busy()
    told = answers["features"]["features"]
    for name, value in USUAL.items():
        told[name]["value"] = value
    told["session_count_30d"]["value"] = 3.0
    person = Person(Told(answers), "ada", USUAL)
    person.look(0.0)
    assert person.telling() == ["session_count_30d"]
    told["session_count_30d"]["value"] = 0.0
    person.look(1.0)
    assert person.telling() == ["session_count_30d"]


def test_a_pipe_gets_a_snapshot_at_each_change(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is printed while nothing changes, and nothing that only a terminal understands."""
    answers = busy()
    person = Person(Told(answers), "ada", USUAL)
    console = Console(width=80, highlight=False)
    last = _print_change(console, person, "")
    assert _print_change(console, person, last) == last
    assert capsys.readouterr().out.count("ada, as of") == 1
    answers["scores"]["scores"][0]["score"] = 0.1
    _print_change(console, person, last)
    said = capsys.readouterr().out
    assert "0.100 (below 0.500)" in said
    assert "\x1b" not in said
