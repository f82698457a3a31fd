"""The command around `training.consistency`: what it asks for, says and remembers."""

from __future__ import annotations

import argparse

import msgspec

from feature_repo import settings
from feature_repo.vocabulary import load
from flows.lake_read import LakeReader
from flows.lake_store import identity
from flows.plan import Plan
from flows.store import connect, open_store
from training.consistency import Consistency, Report, remember


def arguments(job: argparse.ArgumentParser) -> None:
    job.add_argument("--sample", type=int, default=1_000, help="served rows to compare, at most")
    job.add_argument("--seed", type=int, default=0, help="another seed is another sample")
    job.add_argument("--json", action="store_true", help="for a machine")


def run(given: argparse.Namespace) -> int:
    """1 when any row differs. Raises NothingServed, StoreError."""
    current = settings.load()
    vocabulary, client = load(current.feature_repo), connect(current)
    store, whose = open_store(client), identity(current.lake)
    removed = whose.removed_until if whose else ""
    reader = LakeReader(current.lake, vocabulary, store, client)
    report = Consistency(reader, Plan(vocabulary), store, current.dedup_hours, removed).compare(
        given.sample, given.seed
    )
    remember(client, report)
    print(msgspec.json.encode(report).decode() if given.json else "\n".join(_lines(report)))
    return int(report.differ > 0)


def _lines(report: Report) -> list[str]:
    left = f"; {report.left_out} left out: the lake does not hold all that they follow from" if report.left_out else ""
    head = f"{report.rows} rows of {report.people} people, {report.values} values: {report.differ} differ"
    features = [f"  {n}: in {f.rows} rows, by {f.largest:g} at most" for n, f in sorted(report.features.items())]
    shown = [
        f"  {d.user} as of entry {d.position}: {d.feature} was served as {d.served!r}, is {d.computed!r}"
        for d in report.examples
    ]
    return [f"{head} ({report.share:.2%}){left}", *features, *shown]
