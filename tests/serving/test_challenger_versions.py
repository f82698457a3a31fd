"""When a version is made of what an online challenger learned."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from feature_repo.settings import Settings
from flows import database
from flows.learning_tables import learners
from onnx_models.library import Library
from onnx_models.registry import HERE, newest
from serving import challengers
from serving.trainings import TrainRequest, _command
from tests.training.taught_online import SERVICE, learned
from training import online, publish
from training.catalogue import MODELS

NAME = SERVICE.name
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where 3,000 outcomes became a version in the shadow."""
    place = tmp_path_factory.mktemp("home")
    made = online.make(learned(3_000, champion=0.12), MODELS[NAME], SERVICE, newest(NAME))
    assert publish.register(Library(place, HERE), made, "outcomes", promote=False).state == "SHADOW"
    return place


def due(library: Library, outcomes: int, later: timedelta = timedelta()) -> bool:
    return challengers.due(library, [NAME], {NAME: outcomes}, NOW + later) == [NAME]


def test_the_first_is_due_once_there_are_enough_outcomes(tmp_path: Path) -> None:
    library = Library(tmp_path, HERE)
    assert not due(library, challengers.LEAST - 1)
    assert due(library, challengers.LEAST)


def test_the_next_is_due_a_day_later_if_more_was_learned(home: Path) -> None:
    library = Library(home, HERE)
    assert not due(library, 4_000)
    assert not due(library, 3_100, timedelta(days=2))
    assert due(library, 4_000, timedelta(days=2))


def test_a_version_of_somebody_elses_in_the_shadow_stays(tmp_path: Path) -> None:
    """It waits for its promotion."""
    library = Library(tmp_path, HERE)
    library.register(NAME, library.versions(NAME)[0], "SHADOW", "me", "to compare")
    assert not due(library, 4_000)


def test_reads_how_much_was_learned(tmp_path: Path) -> None:
    engine = database.engine(Settings(home=tmp_path).database)
    database.create(engine)
    row = {"kind": "challenger_linear", "model": NAME, "version": "", "organisation": "", "seq": 1, "state": b""}
    with engine.begin() as connection:
        connection.execute(sa.insert(learners), row | {"report": '{"outcomes": 612}'})
        assert challengers.learned(connection) == {NAME: 612}
    engine.dispose()


def test_is_made_by_the_job_that_anybody_can_ask_for(tmp_path: Path) -> None:
    words = _command(NAME, TrainRequest(online=True), challengers.WHO, tmp_path)
    assert words[words.index("train") :][:2] == ["train", NAME]
    assert "--online" in words
