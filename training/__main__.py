"""The offline jobs: `python -m training train NAME...`, `python -m training backfill`."""

from __future__ import annotations

import argparse
import sys

from feature_repo import settings
from flows.lake_shelf import LakeError
from flows.resp import StoreError
from onnx_models import registry
from training import backfill_job, consistency_job, rebuild_job, train_job
from training.consistency import NothingServed
from training.dataset import TooFew
from training.export import Differs
from training.online import NotLearned
from training.past import NotReadable
from training.publish import Failed
from training.rebuild import NotEmpty
from training.train_job import UnknownModel
from training.validate import NotTrainable


def main() -> int:
    given = _arguments().parse_args()
    try:
        return int(given.run(given))
    except (
        UnknownModel,
        NotReadable,
        NotLearned,
        TooFew,
        NotTrainable,
        Differs,
        Failed,
        NothingServed,
        NotEmpty,
        StoreError,
        LakeError,
        registry.ModelError,
    ) as error:
        print(f"telltale: {error}", file=sys.stderr)
        return 2


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="telltale", description="offline jobs")
    jobs = parser.add_subparsers(required=True)
    job = jobs.add_parser("train", help="trains models on labels or simulated people, and registers the new versions")
    train_job.arguments(job)
    job.set_defaults(run=lambda given: train_job.run(given, settings.load()))
    job = jobs.add_parser("backfill", help="adds the features of the moment to rows of (user, as_of)")
    backfill_job.arguments(job)
    job.set_defaults(run=backfill_job.run)
    job = jobs.add_parser("consistency", help="computes a sample of what was served again, from the lake's events")
    consistency_job.arguments(job)
    job.set_defaults(run=consistency_job.run)
    job = jobs.add_parser("rebuild", help="brings state and features back from the lake into an empty Redis")
    rebuild_job.arguments(job)
    return parser


if __name__ == "__main__":
    sys.exit(main())
