"""CDNOW: absence as our churn model foresees it from the flow's windows, beside BG/NBD, both from weeks 1-39 alone."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

from tests.contracts import bg_nbd, real_sets
from tests.contracts.trained import Outcome, domain, trained
from training import labels
from training.churn import model
from training.model import Search
from training.training_set import Wanted, training_set

WEEK_39 = pd.Timestamp("1997-09-30 23:59", tz="UTC")
HORIZON, AHEAD = 30, 274  # days: of the labels learnt from, which must be over by week 39; weeks 40-78
FIRST, LAST = "1997-01-20", "1997-08-31"  # instants learnt from
RISES = ("days_since_purchase", "mean_days_between_purchases")  # as the file says of visits
FALLS = ("purchases_30d", "purchases_60d", "purchases_90d", "purchase_days_90d")


class Compared(msgspec.Struct, frozen=True):
    """Of the papers' 2,357 customers: `label`, who bought nothing in weeks 40-78; what each side holds of that."""

    outcome: Outcome
    label: np.ndarray
    ours: np.ndarray
    theirs: np.ndarray


def compared(place: Path, search: Search, *, each: int = 1, days: int = 14) -> Compared:
    """Learns from every `each`th customer, asked about every so many `days`: customers split the rows, not time.

    All labels are over by week 39, so that neither side has seen anything of weeks 40-78.
    """
    bought = real_sets.purchases()
    known = bought[bought["at"] <= WEEK_39]
    customers, history = pd.Index(known.customer.unique())[::each], place / "history.jsonl"
    real_sets.write(known, history)
    instants = pd.date_range(FIRST, LAST, freq=f"{days}D", tz="UTC")
    frame = pd.concat([real_sets.absences(known, at, HORIZON, customers) for at in instants])
    own = {"service": "no_more_purchases", "cases": True, "telling": ("days_since_purchase",), "search": search}
    training = msgspec.structs.replace(model(HORIZON), rule={}, simulated=None, rises=RISES, falls=FALLS, **own)
    outcome = trained(place, domain("cdnow"), training, frame, history)
    asked = real_sets.absences(bought, WEEK_39, AHEAD, real_sets.sampled())
    return Compared(outcome, asked.label.to_numpy(), _ours(outcome, place, asked), _theirs(bought, asked))


def _ours(of: Outcome, place: Path, asked: pd.DataFrame) -> np.ndarray:
    asked.to_parquet(place / "asked.parquet", index=False)
    wanted = Wanted(history=place / "history.jsonl", vocabulary=domain("cdnow"))
    rows = training_set(wanted, labels.read(place / "asked.parquet"))[0]
    return of.model.score(np.column_stack([rows[name] for name in of.model.inputs]))


def _theirs(bought: pd.DataFrame, asked: pd.DataFrame) -> np.ndarray:
    known = real_sets.histories(bought, pd.Index(asked.user), WEEK_39)
    x, t_x, age = (known[name].to_numpy(float) for name in ("x", "t_x", "T"))
    return -bg_nbd.expected(bg_nbd.fit(x, t_x, age), x, t_x, age, AHEAD / 7)
