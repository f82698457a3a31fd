"""`telltale train NAME --labels FILE`: its options, and what it does with them."""

from __future__ import annotations

import argparse
from pathlib import Path

from feature_repo.settings import Settings
from feature_repo.vocabulary import load
from onnx_models import registry
from training import labelled, labels
from training.labelled import Options
from training.past import NotReadable
from training.training_set import Wanted, service_of

DEFAULT = Options()


def arguments(job: argparse.ArgumentParser) -> None:
    own = job.add_argument_group("on labels of your own")
    own.add_argument("--labels", type=Path, help="CSV or Parquet with the columns user, as_of and label (0 or 1)")
    own.add_argument("--history", type=Path, help="JSON lines of Segment calls, or a lake; default: this home's lake")
    own.add_argument("--organisation", default="main", help="whose users these are, in a lake (default: main)")
    own.add_argument("--label", default=DEFAULT.label, help="name of the label's column")
    own.add_argument(
        "--cases", action="store_true", help="each user is a case with one outcome: keep its rows together"
    )
    own.add_argument("--horizon-days", type=int, default=DEFAULT.horizon_days, help="days until a label is decided")
    own.add_argument("--budget", type=float, default=DEFAULT.budget, help="alerts a year and active person, at most")
    own.add_argument("--least", type=float, default=DEFAULT.least, help="the least score that may alert")


def run(given: argparse.Namespace, current: Settings) -> int:
    """Raises NotReadable and what `labelled.train` raises."""
    if len(given.names) != 1 or given.names == ["all"]:
        raise NotReadable(f"train --labels: expected the name of one service, got {' '.join(given.names)}")
    vocabulary = load(current.feature_repo)
    service = service_of(vocabulary, given.names[0])
    options = Options(
        label=given.label,
        horizon_days=given.horizon_days,
        cases=given.cases,
        budget=given.budget,
        least=given.least,
    )
    wanted = Wanted(
        history=given.history or current.lake,
        vocabulary=vocabulary,
        organisation=given.organisation,
        service=service,
    )
    directory = given.output or Path(current.models or registry.HERE)
    made = labelled.train(wanted, labels.read(given.labels), service, options, directory)
    print(f"{directory / made.name / made.version}: threshold {made.threshold}")
    for name, row in made.metrics.items():
        print(f"  {name:36}" + "  ".join(f"{metric} {value:.3f}" for metric, value in row.items()))
    return 0
