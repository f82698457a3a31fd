"""Online learners on public streams: their progressive metrics are those of River's own loop on the same models."""

from __future__ import annotations

from math import log
from pathlib import Path

import msgspec
import pytest

from flows.learners import challenger_forest, challenger_linear
from flows.learners.challenger_forest import Forest
from flows.learners.challenger_linear import POSITIVE, Linear
from flows.learners.drift import Drift
from flows.learners.example import Place
from flows.learners.odds import logit
from flows.learners.recalibration import Recalibration
from flows.learners.sealed import Sealed
from tests.contracts import real_streams, rivers_models
from tests.contracts.real_streams import STREAMS, asked, measured, river_loop, told

PLACE = Place("a_model", "20260101000000", "main")
ROWS = 1_500
DELAY = 48  # rows: a day of the electricity market
every_stream = pytest.mark.parametrize("name", STREAMS)


@every_stream
@pytest.mark.parametrize("delay", [0, DELAY])
def test_the_linear_challenger_is_rivers_loop(name: str, delay: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Log loss, ROC-AUC and accuracy, also with labels that come later."""
    monkeypatch.setattr(challenger_linear, "SPEAKS", 0)
    rows = STREAMS[name](ROWS)
    ours = measured(list(told(Linear(PLACE), asked(rows), delay)), off=log(POSITIVE))
    assert msgspec.structs.astuple(ours) == pytest.approx(
        msgspec.structs.astuple(river_loop(rows, rivers_models.linear(), delay)), abs=1e-6
    )


def test_the_forest_is_rivers_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it learns all and is asked of all, and sure of a leaf as River is."""
    for name, value in (("SPEAKS", 0), ("ASKED", 1.0), ("KEPT", (1.0, 1.0)), ("OFF", 0.0), ("SURE", 1.0)):
        monkeypatch.setattr(challenger_forest, name, value)
    rows = STREAMS["electricity"](ROWS)
    ours = measured(list(told(Forest(PLACE, Sealed(tmp_path)), asked(rows)))[1:])
    theirs = river_loop(rows, rivers_models.forest())
    assert (ours.roc_auc, ours.accuracy) == pytest.approx((theirs.roc_auc, theirs.accuracy), abs=2e-3)


@every_stream
def test_figures_are_those_of_what_was_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the report tells is what River's metric makes of the predictions, asked a day before the label."""
    monkeypatch.setattr(challenger_linear, "SPEAKS", 0)
    learner = Linear(PLACE)
    said = [(p, label) for p, label in told(learner, asked(STREAMS[name](ROWS)), DELAY) if p is not None]
    total = learner.contest.progress.total()["challenger"]
    assert total["log_loss"] == pytest.approx(measured(said).log_loss, abs=1e-4)  # type: ignore[index]


def test_is_set_beside_no_change() -> None:
    """Saying that the price does what it did is hard to beat, and right 85 times of 100 (Bifet, 2013)."""
    rows = real_streams.electricity()
    assert real_streams.no_change(rows) == pytest.approx(0.853, abs=0.001)


@pytest.mark.parametrize("name", ["electricity", "phishing", "segments", "chicks"])
def test_learns_more_than_the_share(name: str) -> None:
    learner = Linear(PLACE)
    list(told(learner, asked(STREAMS[name](ROWS))))
    total = learner.contest.progress.total()
    assert total["challenger"]["log_loss"] < total["champion"]["log_loss"]  # type: ignore[index]


def test_recalibration_loses_nothing_on_a_market_that_moves() -> None:
    """The two numbers that held, with the model's own where none did, against a champion that says the share so far."""
    learner, lost, own = Recalibration(PLACE), 0.0, 0.0
    for example in asked(STREAMS["electricity"](6_000)):
        holds = learner.kept.holding
        said = holds.probability(logit(example.raw)) if holds else example.raw
        lost -= log(said if example.label else 1 - said)
        own -= log(example.raw if example.label else 1 - example.raw)
        learner.learn(example)
    assert lost <= 1.005 * own


def test_drift_is_seen_in_the_market() -> None:
    """The set is known for its changes: prices were set otherwise from May 1997 on."""
    learner = Drift(PLACE)
    for example in asked(STREAMS["electricity"](20_000)):
        learner.learn(example)
    assert learner.detectors.alarms
