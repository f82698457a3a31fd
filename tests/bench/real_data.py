"""What the models' files reach on whole public sets in `../shared/data`, with 95 % intervals as min and max.

Leads of X Education (a random split and later leads), mails of one campaign (no time: at random), absence of CDNOW's
customers beside BG/NBD on equal rows. Each AUC is that of `telltale train` but for its settings' search.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from tests.bench.options import Options
from tests.bench.result import Figure, Result, figure
from tests.contracts import real_sets
from tests.contracts.real_churn import Compared, compared
from tests.contracts.replayed import DATA
from tests.contracts.trained import Outcome, domain, trained
from training.email_engagement import MODEL as MAIL
from training.lead_score import MODEL as LEAD
from training.model import Label, Search, Training

SEARCH = Search(trials=12, seconds=60.0)
DRAWS = 1000
RISES = {"lead_crm:source_quality": "request:source_quality"}  # what the sets have of what the files name
METRICS = ("ROC-AUC", "PR-AUC", "Brier", "calibration slope", "calibration error", "accuracy")
AFTER_CONTACT = ("told_occupation", "working", "unemployed", "student", "told_matter")  # perhaps; nobody can say


def run(options: Options) -> Result:
    if not DATA.is_dir():
        sys.exit(f"bench real-data: expected the public data sets in {DATA}, which are not part of the project")
    with tempfile.TemporaryDirectory() as place:
        figures = {**_leads(Path(place)), **_mails(Path(place))}
        found = compared(Path(place), SEARCH)
    return Result(figures | _churn(found), {"BG/NBD": {"cdnow_auc_weeks_40_78": _auc(found.label, found.theirs)}})


def _leads(place: Path) -> dict[str, Figure]:
    frame = real_sets.leads()
    mixed = frame.sample(frac=1.0, random_state=1).assign(as_of=frame["as_of"].min())
    fewer = frame.assign(**dict.fromkeys(AFTER_CONTACT, 0.0))
    later = _trained(place / "later", "x_education", LEAD, "enrolment", frame)
    return {
        **_figures("leads_later", later),
        **_figures("leads_random", _trained(place / "random", "x_education", LEAD, "enrolment", mixed)),
        **_figures("leads_later_without_occupation", _trained(place / "few", "x_education", LEAD, "enrolment", fewer)),
    }


def _mails(place: Path) -> dict[str, Figure]:
    return _figures("mails_random", _trained(place / "mails", "email_campaign", MAIL, "opened", real_sets.mails()))


def _trained(place: Path, name: str, of: Training, service: str, frame: pd.DataFrame) -> Outcome:
    place.mkdir()
    own = {"label": Label(horizon_days=of.horizon_days), "rule": {}, "simulated": None, "search": SEARCH}
    own |= {"rises": tuple(RISES[n] for n in of.rises if n in RISES), "falls": (), "telling": ()}
    return trained(place, domain(name), msgspec.structs.replace(of, service=service, **own), frame)


def _figures(name: str, of: Outcome) -> dict[str, Figure]:
    ends = of.made.metadata.intervals["later time, ours"]
    return {f"{name} {metric}": _with(of.later[metric], ends.get(metric)) for metric in METRICS}


def _with(value: float, ends: tuple[float, float] | None) -> Figure:
    middle, low, high = (float(f"{each:.4g}") for each in (value, *(ends or (value, value))))
    return Figure(middle, low, high, "")


def _churn(found: Compared) -> dict[str, Figure]:
    apart = [_both(found, rows) for rows in _draws(len(found.label))]
    return {
        **_figures("cdnow_absence_30d", found.outcome),
        "cdnow_auc_weeks_40_78": _auc(found.label, found.ours),
        "cdnow_auc_less_bg_nbd": _with(_both(found, slice(None)), tuple(np.percentile(apart, [2.5, 97.5]))),
        "cdnow_customers": figure([len(found.label)], "customers"),
    }


def _both(found: Compared, rows: np.ndarray | slice) -> float:
    """By how much our AUC is above theirs, of some rows."""
    label = found.label[rows]
    return float(roc_auc_score(label, found.ours[rows]) - roc_auc_score(label, found.theirs[rows]))


def _auc(label: np.ndarray, score: np.ndarray) -> Figure:
    drawn = [roc_auc_score(label[rows], score[rows]) for rows in _draws(len(label))]
    return _with(float(roc_auc_score(label, score)), tuple(np.percentile(drawn, [2.5, 97.5])))


def _draws(rows: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, rows, rows) for _ in range(DRAWS)]
