"""Our BG/NBD is that of the paper: it has its estimates, and its forecast, on its 2,357 customers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from tests.contracts import bg_nbd, real_sets

CALIBRATED = pd.Timestamp("1997-09-30 23:59", tz="UTC")  # the end of week 39


class Fit:
    """The model fitted on weeks 1-39, and purchases in weeks 40-78."""

    def __init__(self) -> None:
        bought, self.customers = real_sets.purchases(), real_sets.sampled()
        known = real_sets.histories(bought, self.customers, CALIBRATED)
        x, t_x, age = (known[name].to_numpy(float) for name in ("x", "t_x", "T"))
        self.parameters = bg_nbd.fit(x, t_x, age)
        self.likelihood = bg_nbd.log_likelihood(self.parameters, x, t_x, age)
        later = bought[bought["at"] > CALIBRATED].assign(day=lambda b: b["at"].dt.floor("D"))
        days = later.drop_duplicates(["customer", "day"]).groupby("customer").size()
        self.later = days.reindex(self.customers, fill_value=0).to_numpy()
        self.expected = bg_nbd.expected(self.parameters, x, t_x, age, 39.0)


@pytest.fixture(scope="module")
def fitted() -> Fit:
    return Fit()


def test_the_estimates_are_the_papers(fitted: Fit) -> None:
    """r = .243, alpha = 4.414, a = .793, b = 2.426, log-likelihood -9582.4 (its table 2)."""
    assert fitted.parameters == pytest.approx((0.243, 4.414, 0.793, 2.426), abs=0.001)
    assert fitted.likelihood == pytest.approx(-9582.4, abs=0.05)


def test_the_forecast_is_the_papers(fitted: Fit) -> None:
    """Correlation with the purchases in weeks 40-78 is 0.626; any purchase is ranked with an AUC of 0.77."""
    assert np.corrcoef(fitted.expected, fitted.later)[0, 1] == pytest.approx(0.626, abs=0.001)
    assert roc_auc_score(fitted.later > 0, fitted.expected) == pytest.approx(0.7725, abs=0.0005)
