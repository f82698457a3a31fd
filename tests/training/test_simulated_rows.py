"""Simulated leads, mails and leavers are honest: the best reachable is known, nothing gives the label away."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from training.catalogue import MODELS
from training.model import Training

OWN = {name: model for name, model in MODELS.items() if model.simulated}
PEOPLE, SEED = 3000, 5


def drawn(model: Training, people: int = PEOPLE, seed: int = SEED) -> pd.DataFrame:
    assert model.simulated is not None
    found: pd.DataFrame = model.simulated(people, seed).to_pandas()
    return found.rename(columns={model.label.column: "label"})


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return {name: drawn(model) for name, model in OWN.items()}


def inputs(table: pd.DataFrame) -> list[str]:
    return [name for name in table.columns if name not in ("user", "lead_id", "as_of", "label", "best")]


def test_leads_mails_and_leavers_are_simulated() -> None:
    """All models that the four worlds of `study.py` do not show."""
    assert set(OWN) == {"lead_score", "email_engagement", "churn_30d", "churn_60d", "churn_90d"}


@pytest.mark.parametrize("name", OWN)
def test_the_hidden_state_ranks_well_but_not_perfectly(tables: dict[str, pd.DataFrame], name: str) -> None:
    """Whoever saw it would reach an AUC of 0.82-0.97: the longer the horizon, the surer who has left."""
    table = tables[name]
    assert 0.82 < roc_auc_score(table.label, table.best) < 0.97


@pytest.mark.parametrize("name", OWN)
def test_the_hidden_chance_is_a_probability(tables: dict[str, pd.DataFrame], name: str) -> None:
    """Among rows of about the same chance, about that share has the label: within four standard errors."""
    table = tables[name]
    for _, rows in table.groupby(pd.cut(table.best, [0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0]), observed=True):
        error = np.sqrt(np.mean(rows.best * (1 - rows.best)) / len(rows))
        assert abs(rows.label.mean() - rows.best.mean()) <= 4 * error + 1e-9


@pytest.mark.parametrize("name", OWN)
def test_no_input_gives_the_label_away(tables: dict[str, pd.DataFrame], name: str) -> None:
    """None ranks with an AUC of 0.85 or more by itself, in either direction."""
    table = tables[name]
    found = {i: roc_auc_score(table.label, table[i].fillna(table[i].median())) for i in inputs(table)}
    assert {i: auc for i, auc in found.items() if max(auc, 1 - auc) >= 0.85} == {}


@pytest.mark.parametrize("name", OWN)
def test_some_of_what_is_pushed_is_missing(tables: dict[str, pd.DataFrame], name: str) -> None:
    """As with real people: of a tenth or more of them a view was never pushed."""
    table = tables[name]
    pushed = [i for i in inputs(table) if ":" in i and not i.startswith("request:") and i != "lead_crm:source_quality"]
    assert all(0.08 < table[i].isna().mean() < 0.5 for i in pushed)


@pytest.mark.parametrize("name", ["lead_score", "email_engagement", "churn_30d"])
def test_one_seed_gives_one_table(name: str) -> None:
    """Another gives another."""
    one, same, other = (drawn(OWN[name], 200, seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, same)
    assert not one.best.equals(other.best)
