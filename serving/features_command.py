"""`telltale features ...`: what can be asked of the feature store."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeAlias

from feature_repo.settings import Settings

Do = Callable[[Settings, argparse.Namespace], int]
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001  # it has no public name


def options(features: argparse.ArgumentParser) -> None:
    commands = features.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add(commands, "check", "all that is wrong with the declarations, a line each", _check)
    _add(commands, "address", "where a Feast client finds the store", _address)


def _add(commands: Commands, name: str, says: str, do: Do) -> argparse.ArgumentParser:
    one = commands.add_parser(name, help=says, description=says)
    one.set_defaults(do=do)
    return one


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
