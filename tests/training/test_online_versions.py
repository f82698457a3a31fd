"""What online learners know becomes a version like any other."""

from __future__ import annotations

from math import log
from pathlib import Path

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa

from feature_repo.settings import Settings
from flows import database
from flows.learners.challenger_linear import POSITIVE, Linear
from flows.learning_tables import learners
from onnx_models.library import Library
from onnx_models.registry import HERE, newest
from onnx_models.session import Model
from tests.flows.made_examples import examples
from tests.training.taught_online import SERVICE, learned
from training import gates, online, publish
from training.catalogue import MODELS
from training.validate import NotTrainable

TRAINING = MODELS["likely_to_sell"]


@pytest.fixture(scope="module")
def champion() -> Model:
    return newest("likely_to_sell")


@pytest.fixture(scope="module")
def learner() -> Linear:
    return learned(3_000, champion=0.12)


def test_answers_as_the_learner_does(learner: Linear, champion: Model, tmp_path: Path) -> None:
    """Rows through ONNX and through River, scales and the weight of outcomes and all."""
    made = online.make(learner, TRAINING, SERVICE, champion)
    publish.write(tmp_path, made)
    model = newest("likely_to_sell", tmp_path)
    rows = learner.rows()[1]
    example = examples(1, 1)[0]
    for row, raw, said in zip(rows, *model.scores(rows), strict=True):
        asked = msgspec.structs.replace(example, features=tuple(map(float, row)), names=SERVICE.features)
        assert said == pytest.approx(learner.predict(asked), abs=1e-5)
        assert log(raw / (1 - raw)) - log(said / (1 - said)) == pytest.approx(log(POSITIVE), abs=1e-3)


def test_a_row_has_the_same_bits_among_any_others(learner: Linear, champion: Model, tmp_path: Path) -> None:
    publish.write(tmp_path, online.make(learner, TRAINING, SERVICE, champion))
    model, rows = newest("likely_to_sell", tmp_path), np.tile(learner.rows()[1], (5, 1))
    assert (model.score(rows) == np.concatenate([model.score(row[None]) for row in rows])).all()


def test_comes_into_the_shadow_and_can_be_promoted(learner: Linear, champion: Model, tmp_path: Path) -> None:
    """Tried in the limited process like any other."""
    library = Library(tmp_path, HERE)
    made = online.make(learner, TRAINING, SERVICE, champion)
    assert not made.failed
    found = publish.register(library, made, "outcomes", promote=False)
    assert (found.state, library.book("likely_to_sell").shadow) == ("SHADOW", found.metadata.version)
    library.promote("likely_to_sell", found.metadata.version, "me", "it is better")
    assert library.deployed("likely_to_sell").version == found.metadata.version
    assert "learned online" in (found.place / "CARD.md").read_text()


def test_a_gate_stops_one_that_is_worse_than_what_serves(champion: Model) -> None:
    """The champion that tells the truth ranks better than what was learned of it from little."""
    made = online.make(learned(600), TRAINING, SERVICE, champion)
    assert "against the serving version's" in gates.failed(list(made.metadata.gates))


def test_names_as_many_as_the_champion(learner: Linear, champion: Model) -> None:
    lately = learner.contest.rows()
    always = online._cut(lately[:, 2], lately[:, 1], 0.1)
    assert always == lately[:, 2].min()
    made = online.make(learner, TRAINING, SERVICE, champion)
    assert made.metadata.threshold >= champion.threshold


def test_is_not_made_of_too_few_outcomes(champion: Model) -> None:
    with pytest.raises(NotTrainable, match="outcomes that it was judged by"):
        online.make(learned(300), TRAINING, SERVICE, champion)


def test_is_not_made_of_other_inputs(learner: Linear, champion: Model) -> None:
    fewer = msgspec.structs.replace(SERVICE, features=SERVICE.features[:-1])
    with pytest.raises(NotTrainable, match="44 inputs"):
        online.make(learner, TRAINING, fewer, champion)


def test_is_read_from_where_learning_keeps_it(learner: Linear, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    engine = database.engine(settings.database)
    database.create(engine)
    row = {"kind": "challenger_linear", "model": "likely_to_sell", "version": "", "organisation": ""}
    with engine.begin() as connection:
        connection.execute(sa.insert(learners), row | {"seq": 1, "state": learner.state(), "report": "{}"})
    engine.dispose()
    assert online.learner(settings, "likely_to_sell").state() == learner.state()


def test_says_when_nothing_was_learned(tmp_path: Path) -> None:
    with pytest.raises(online.NotLearned, match="expected"):
        online.learner(Settings(home=tmp_path), "likely_to_sell")
