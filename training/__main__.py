"""The offline jobs: `python -m training train NAME...`, `python -m training backfill`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from feature_repo import settings
from feature_repo.vocabulary import load
from flows.lake_shelf import LakeError
from flows.resp import StoreError
from onnx_models import registry
from onnx_models.card import METADATA, decode
from training import backfill_job, consistency_job, labelled_job, rebuild_job
from training.catalogue import MODELS
from training.consistency import NothingServed
from training.dataset import TooFew
from training.past import NotReadable
from training.rebuild import NotEmpty
from training.report import together
from training.study import Sizes
from training.train import UnknownModel, train


def main() -> int:
    given = _arguments().parse_args()
    try:
        return int(given.run(given))
    except (
        UnknownModel,
        NotReadable,
        TooFew,
        NothingServed,
        NotEmpty,
        StoreError,
        LakeError,
        registry.ModelError,
    ) as error:
        print(error, file=sys.stderr)
        return 2


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="telltale", description="offline jobs")
    jobs = parser.add_subparsers(required=True)
    job = jobs.add_parser(
        "train", help="trains models, on simulated people or on labels, and writes their new versions"
    )
    job.add_argument("names", nargs="+", metavar="NAME", help=f"all, or of {', '.join(MODELS)}")
    job.add_argument("--people", type=int, default=Sizes().people)
    job.add_argument("--judged", type=int, default=Sizes().judged, help="people of each set that is judged")
    job.add_argument("--share", type=float, default=Sizes().share, help="of all scoring instants, to train on")
    job.add_argument("--seed", type=int, default=Sizes().seed)
    job.add_argument("--output", type=Path, help="directory of models; by default TELLTALE_MODELS")
    labelled_job.arguments(job)
    job.set_defaults(run=_train)
    job = jobs.add_parser("backfill", help="adds the features of the moment to rows of (user, as_of)")
    backfill_job.arguments(job)
    job.set_defaults(run=backfill_job.run)
    job = jobs.add_parser("consistency", help="computes a sample of what was served again, from the lake's events")
    consistency_job.arguments(job)
    job.set_defaults(run=consistency_job.run)
    job = jobs.add_parser("rebuild", help="brings state and features back from the lake into an empty Redis")
    rebuild_job.arguments(job)
    return parser


def _train(given: argparse.Namespace) -> int:
    current = settings.load()
    if given.labels:
        return labelled_job.run(given, current)
    if current.feature_repo:
        raise UnknownModel("train: expected --labels FILE: simulated people live in the domain that ships alone")
    names = list(MODELS) if given.names == ["all"] else given.names
    sizes = Sizes(people=given.people, judged=given.judged, share=given.share, seed=given.seed)
    started = time.monotonic()
    directory = given.output or Path(current.models or registry.HERE)
    places = train(names, load(current.feature_repo), sizes, directory)
    found = [decode((place / METADATA).read_bytes()) for place in places]
    for place, metadata in zip(places, found, strict=True):
        print(f"{place}: threshold {metadata.threshold}")
        _show(metadata.metrics)
    print(f"all of these together, {time.monotonic() - started:.0f} s after the start")
    _show(together([metadata.metrics for metadata in found]))
    return 0


def _show(metrics: dict[str, dict[str, float]]) -> None:
    for name, row in metrics.items():
        print(f"  {name:36}" + "  ".join(f"{metric} {value:.3f}" for metric, value in row.items()))


if __name__ == "__main__":
    sys.exit(main())
