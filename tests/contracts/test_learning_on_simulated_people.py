"""Online recalibration when everybody's plans change at once: a cut of `telltale bench learning-drift`."""

from __future__ import annotations

from math import log

import pytest

from tests.bench.learning_drift import Run, run_once


@pytest.fixture(scope="module", params=[0, 1])
def run(request: pytest.FixtureRequest) -> Run:
    return run_once(request.param, fresh=1_500)


def test_is_right_again_after_500_outcomes(run: Run) -> None:
    """The frozen model foretells a third of what comes; few people make a coarse measure of who is right again."""
    assert run.frozen < 0.45
    assert abs(log(run.held)) < 0.5 * abs(log(run.frozen))


def test_does_no_harm_where_nothing_changed(run: Run) -> None:
    assert run.harm <= 1.005
