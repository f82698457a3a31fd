"""`telltale learning`: what outcomes taught, brought together from what the learners tell."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from feature_repo.settings import Settings
from flows import database
from flows.learners.catalogue import KINDS
from flows.learners.example import Example, Kind
from flows.learners.example import Place as At
from flows.learning_figures import Reported
from flows.learning_tables import learners
from serving import command
from serving.complaint import Complaint
from serving.learning_page import page
from serving.learning_report import Place, Report, Stretch, places, report, together
from tests.flows.made_examples import START, examples

DAY = 86_400_000
CHANGED = START + 60 * DAY


@pytest.fixture(scope="module")
def told() -> list[Reported]:
    """What the learners say of a model whose world moved after 1,500 outcomes."""
    return [
        Reported(kind.name, place.model, place.version, place.organisation, _report(kind, place, lived()))
        for kind in KINDS
        for place in [kind.place(lived()[0])]
    ]


def lived() -> list[Example]:
    return [*examples(1_500, 1), *examples(1_500, 2, shift=1.3, since=CHANGED)]


def _report(kind: Kind, place: At, of: list[Example]) -> dict[str, Any]:
    learner = kind.make(place)
    for example in of:
        learner.learn(example)
    return msgspec.json.decode(msgspec.json.encode(learner.report()), type=dict[str, Any])


@pytest.fixture(scope="module")
def place(told: list[Reported]) -> Place:
    (found,) = places(told)
    return found


def test_tells_before_and_after_the_change(place: Place) -> None:
    """The champion goes wrong, the recalibrated does not."""
    before, after = place.apart[0], place.apart[-1]
    assert after["champion"].log_loss > 1.1 * after["recalibrated"].log_loss  # type: ignore[operator]
    assert before["champion"].log_loss == pytest.approx(before["recalibrated"].log_loss, rel=0.03)
    assert place.alarms[0].first > CHANGED


def test_sets_the_challengers_beside(place: Place) -> None:
    assert set(place.lines) == {"champion", "recalibrated", "challenger, linear", "challenger, forest"}


def test_an_alarm_of_two_learners_is_told_once(place: Place) -> None:
    assert len({alarm.first for alarm in place.alarms}) == len(place.alarms)


def test_figures_of_stretches_together_are_those_of_all() -> None:
    outcomes = [Stretch(0, 1, 100, 10, 0.3, 0.5, 0.8), Stretch(1, 2, 300, 0, 0.1, None, None)]
    assert msgspec.structs.astuple(together(outcomes)) == pytest.approx((0, 2, 400, 10, 0.15, 0.5, 0.8))


class Tags(HTMLParser):
    """Counts tags, and that each is closed in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.found.append(tag)


def test_the_page_draws_each_forecaster_in_each_chart(place: Place) -> None:
    tags = Tags()
    tags.feed(page(Report([place], [], [], [])))
    assert tags.found.count("svg") == 3
    assert tags.found.count("polyline") == 3 * 4


def test_the_page_takes_names_for_text(place: Place) -> None:
    hostile = msgspec.structs.replace(place, organisation="<script>alert(1)</script>")
    assert "<script" not in page(Report([hostile], [], [], []))


def test_the_page_of_nothing_says_so() -> None:
    assert "No outcome was learned yet" in page(Report([], [], [], []))


def test_complains_where_nothing_was_learned(tmp_path: Path) -> None:
    with pytest.raises(Complaint, match="nothing was learned here yet"):
        report(Settings(home=tmp_path))


def test_the_command_tells_status_and_writes_the_page(
    told: list[Reported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From SQL, as `telltale` calls it."""
    monkeypatch.setenv("TELLTALE_HOME", str(tmp_path))
    engine = database.engine(Settings(home=tmp_path).database)
    database.create(engine)
    with engine.begin() as connection:
        for one in told:
            named = {"kind": one.learner, "model": one.model, "version": one.version, "organisation": one.organisation}
            row = named | {"seq": 1, "state": b"", "report": msgspec.json.encode(one.report).decode()}
            connection.execute(sa.insert(learners), row)
    engine.dispose()
    assert command.main(["learning", "status"]) == 0
    assert "3,000 outcomes" in capsys.readouterr().out
    assert command.main(["learning", "report", "--out", str(tmp_path / "page.html")]) == 0
    assert "<svg" in (tmp_path / "page.html").read_text()
