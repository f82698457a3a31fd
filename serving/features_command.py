"""`telltale features ...`: what can be asked of the feature store."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from feature_repo.settings import Settings
from serving.sub_command import add, write

PORT = 6566
Do = Callable[[Settings, argparse.Namespace], int]


def options(features: argparse.ArgumentParser) -> None:
    commands = features.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add(commands, "check", "all that is wrong with the declarations, a line each", _check)
    add(commands, "address", "where a Feast client finds the store", _address)
    serve = add(commands, "serve", "the feature doors alone, as Feast's feature server has them", _serve)
    serve.add_argument("--port", type=int, default=PORT, help=f"where to listen; {PORT} unless told, as Feast")
    _report_options(add(commands, "report", "each feature's values, gaps, age and drift, as a page or JSON", _report))


def _report_options(report: argparse.ArgumentParser) -> None:
    report.add_argument("--out", type=Path, help="the file to write; a page goes to features.html unless told")
    report.add_argument("--json", action="store_true", help="as JSON, on the screen unless --out names a file")
    report.add_argument(
        "--reference", type=Path, help="an earlier report's JSON; by default the lake's served features"
    )
    report.add_argument("--sample", type=_positive, default=10_000, help="of each entity; 10,000 unless told")


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, not {text}")
    return int(text)


def _check(settings: Settings, given: argparse.Namespace) -> int:
    from feature_repo.vocabulary import VocabularyError, load

    try:
        v = load(settings.feature_repo)
    except VocabularyError as error:
        print("\n".join(error.errors))
        return 1
    features = sum(len(view.fields) for view in v.views.values())
    print(
        f"{len(v.entities)} entities, {len(v.views)} views, {features} features, {len(v.services)} services: no error"
    )
    return 0


def _address(settings: Settings, given: argparse.Namespace) -> int:
    from serving.feast_address import feast_address

    print(feast_address(settings))
    return 0


def _serve(settings: Settings, given: argparse.Namespace) -> int:
    import msgspec

    from serving.feature_server import alone

    alone(msgspec.structs.replace(settings, port=given.port))
    return 0


def _report(settings: Settings, given: argparse.Namespace) -> int:
    import msgspec

    from serving.feature_report import report
    from serving.report_page import page

    found = report(settings, given.reference, given.sample)
    text = msgspec.json.encode(found).decode() if given.json else page(found)
    write(text, given.out, "features.html", screen=given.json)
    return 0
