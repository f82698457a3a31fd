"""`telltale models ...`: what the registry says, and changes to it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from feature_repo.settings import Settings
from serving.complaint import Complaint
from serving.sub_command import add

if TYPE_CHECKING:
    from onnx_models.library import Library
    from serving.model_messages import ModelInfo, ModelVersions

Do = Callable[[Settings, argparse.Namespace], int]


def options(models: argparse.ArgumentParser) -> None:
    commands = models.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listed = add(commands, "list", "every model's versions and their states", _list)
    listed.add_argument("name", nargs="?", help="of one model")
    show = add(commands, "show", "a version: inputs, threshold, figures; and who changed what", _show)
    show.add_argument("name")
    show.add_argument("version", nargs="?", help="YYYYMMDDHHMMSS; the deployed one unless told")
    promote = add(commands, "promote", "deploys a version, after it was verified", _promote)
    promote.add_argument("name")
    promote.add_argument("version", help="YYYYMMDDHHMMSS")
    rollback = add(commands, "rollback", "deploys again what was deployed before", _rollback)
    rollback.add_argument("name")
    for changes in (promote, rollback):
        changes.add_argument("--why", default="", help="for the history")
        changes.add_argument("--instead", default="", metavar="VERSION", help="only if this version is deployed now")
    verify = add(commands, "verify", "tries every version in a limited process: files, graph, answers", _verify)
    verify.add_argument("name", nargs="?", help="of one model")
    for tells in (listed, show):
        tells.add_argument("--json", action="store_true", help="for a machine")


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Raises Complaint for what does not go with the registry."""
    from onnx_models.registry import ModelError

    try:
        return int(given.do(settings, given))
    except ModelError as error:
        raise Complaint(str(error)) from None


def _library(settings: Settings) -> Library:
    from onnx_models.library import Library

    return Library.of(settings)


def _names(library: Library, name: str | None) -> list[str]:
    return [name] if name else library.names()


def _list(settings: Settings, given: argparse.Namespace) -> int:
    from onnx_models.making import bury
    from serving import model_messages

    library = _library(settings)
    for name in _names(library, given.name):
        bury(library, name)  # whoever made it may have been killed while nothing ran
    found = [model_messages.registry(library, name) for name in _names(library, given.name)]
    if given.json:
        _json(found)
        return 0
    for one in found:
        for version in one.versions:
            stopped = f"  stopped: {version.stopped}" if version.stopped else ""
            ships = "ships" if version.ships else "trained here"
            print(f"{one.name:24}{version.version}  {version.state or '-':11}{ships}{stopped}".rstrip())
    return 0


def _show(settings: Settings, given: argparse.Namespace) -> int:
    from serving import model_messages

    library = _library(settings)
    info = model_messages.info(library, given.name, given.version)
    book = model_messages.registry(library, given.name)
    if given.json:
        _json({"info": info, "registry": book})
    else:
        print(
            "\n".join(
                [
                    *_told(info),
                    *_calibrations(info),
                    "",
                    *_history(book),
                    "",
                    f"{library.place(info.name, info.version)}",
                ]
            )
        )
    return 0


def _told(info: ModelInfo) -> Iterable[str]:
    yield f"{info.name} {info.version}: {info.state or 'not registered'}"
    yield f"foretells {info.outcome} of a {info.entity} within {info.horizon_days} days, by {info.estimator}"
    if info.simulated:
        yield "trained on simulated people: not for decisions about real ones"
    if info.alert:
        yield f"opens {info.alert} from a score of {info.threshold:.3f} on"
    weighed = sorted(info.inputs, key=lambda one: -(one.importance or 0.0))
    yield f"{len(weighed)} inputs: " + ", ".join(
        f"{one.name}{f' {one.importance:.1%}' if one.importance else ''}" for one in weighed
    )
    for where, figures in info.metrics.items():
        yield f"  {where:36}" + "  ".join(f"{figure} {value:.3f}" for figure, value in figures.items())
    for gate in info.gates:
        yield f"  {'passed' if gate.passed else 'FAILED'}: {gate.name}, wanted {gate.wanted}, got {gate.got:.4g}"


def _calibrations(info: ModelInfo) -> Iterable[str]:
    for c in info.calibrations:
        what = "withdrawn" if c.a is None else f"a {c.a:.3f}, b {c.b:+.3f}{', holds' if c.holds else ''}"
        yield f"  calibration {c.number} of {c.organisation}: {what}; {c.at:%Y-%m-%d %H:%M:%S} {c.who}: {c.why}"


def _history(book: ModelVersions) -> list[str]:
    told = [
        f"{change.at:%Y-%m-%d %H:%M:%S} {change.who}: {change.what} {change.version} -> {change.state}"
        + (f", {change.why}" if change.why else "")
        for change in book.history
    ]
    return told or ["nothing was changed yet: the newest version is deployed"]


def _promote(settings: Settings, given: argparse.Namespace) -> int:
    from onnx_models.library import me

    _library(settings).promote(given.name, given.version, me(), given.why, given.instead)
    print(f"{given.name} {given.version} is deployed; running processes score with it within a second")
    return 0


def _rollback(settings: Settings, given: argparse.Namespace) -> int:
    from onnx_models.library import me

    book = _library(settings).rollback(given.name, me(), given.why, given.instead)
    print(f"{given.name} {book.deployed} is deployed again; running processes score with it within a second")
    return 0


def _verify(settings: Settings, given: argparse.Namespace) -> int:
    from onnx_models.proof import probed
    from onnx_models.registry import ModelError

    library, wrong = _library(settings), 0
    which = [(name, version) for name in _names(library, given.name) for version in library.versions(name)]
    if not which and given.name:
        raise library.absent(given.name)
    for (name, version), verdict in zip(which, probed([library.place(*one) for one in which]), strict=True):
        found = verdict.wrong
        if not found:
            try:
                library.load(name, version)
            except ModelError as error:
                found = str(error)
        wrong += bool(found)
        print(f"{'WRONG' if found else 'ok   '}  {name:24}{version}  {found}".rstrip())
    return 1 if wrong else 0


def _json(value: Any) -> None:
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(value), indent=1).decode())
