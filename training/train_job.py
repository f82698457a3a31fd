"""`telltale train NAME`: where its rows come from, and what becomes of the version."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from feature_repo.declare import Service
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary, load
from onnx_models.library import Library
from onnx_models.registry import NoModel
from onnx_models.session import Model
from training import asked, job, labelled, labels, online, publish, tracking
from training.catalogue import MODELS
from training.examples import Examples
from training.job import Made, Origin
from training.labels import Labels
from training.model import Label, Training
from training.past import past
from training.progress import Progress
from training.publish import Published
from training.report import OURS, together
from training.splits import Slices
from training.study import DAYS, EARLIER, LATER, TRAIN, Sizes, Study, study
from training.training_set import Wanted, service_of
from training.validate import NotTrainable
from training.world import OUTCOMES

SHOWN = ("ROC-AUC", "PR-AUC", "Brier", "calibration error", "alerts", "alert precision")  # on the terminal
HORIZON_DAYS, BUDGET = 30, 1.0  # of a model that no file of this room describes


class UnknownModel(ValueError):
    """No file of this room describes the model, or no simulated world shows what it predicts."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"all, or of {', '.join(MODELS)}, or your services")
    parser.add_argument("--promote", action="store_true", help="deploy it at once if it passes its gates")
    parser.add_argument("--output", type=Path, help="directory to write to, past the registry")
    parser.add_argument(
        "--progress", type=Path, metavar="FILE", help="JSON lines of how far it is; the last: the result"
    )
    parser.add_argument("--trials", type=int, help="settings to try, at most")
    parser.add_argument("--seconds", type=float, help="after which no further settings are tried")
    parser.add_argument("--seed", type=int)
    _of_labels(parser.add_argument_group("on labels, from a file or from what the history shows"))
    parser.add_argument("--online", action="store_true", help="what the online challenger learned from outcomes")
    own = parser.add_argument_group("on simulated people")
    own.add_argument("--simulated", action="store_true", help="instead of labels")
    own.add_argument("--people", type=int, default=Sizes().people)
    own.add_argument("--judged", type=int, default=Sizes().judged, help="people of each set that is judged")
    own.add_argument("--share", type=float, default=Sizes().share, help="of all scoring instants, to train on")


def _of_labels(own: Any) -> None:
    own.add_argument("--labels", type=Path, help="CSV or Parquet with the columns user, as_of and label (0 or 1)")
    own.add_argument("--history", type=Path, help="JSON lines of Segment calls, or a lake; default: this home's lake")
    own.add_argument("--organisation", default="main", help="whose users these are, in a lake (default: main)")
    own.add_argument("--label", help="name of the label's column")
    own.add_argument(
        "--cases", action="store_true", help="each user is a case with one outcome: keep its rows together"
    )
    own.add_argument("--horizon-days", type=int, help="days until a label is decided")
    own.add_argument("--budget", type=float, help="alerts a year and active person, at most")
    own.add_argument("--least", type=float, help="the least score that may alert")
    own.add_argument(
        "--declared", action="append", default=[], metavar="COLUMN", help="may know the answer, or be newer"
    )


def run(given: argparse.Namespace, current: Settings) -> int:
    """0 where every version passed its gates. Raises what stands in `training.__main__`."""
    started = time.monotonic()
    with Progress(given.progress) as said:
        library, found = Library.of(current), []
        for made, why in _made(given, current, library, said):
            said.step("register")
            found.append(_published(given, library, made, why))
            tracking.log(found[-1])
        said.result([_result(each) for each in found])
    for each in found:
        _show(each)
    if len(found) > 1:
        print(f"all of these together, {time.monotonic() - started:.0f} s after the start")
        for name, row in together([each.metadata.metrics for each in found]).items():
            print(f"  {name:36}" + "  ".join(f"{metric} {value:.3f}" for metric, value in row.items()))
    return 2 if any(each.state == "RETIRED" for each in found) else 0


def _published(given: argparse.Namespace, library: Library, made: Made, why: str) -> Published:
    if given.output:
        place = publish.into(given.output, made)
        return Published(
            msgspec.structs.replace(made.metadata, version=place.name), place, "written", "passed its gates"
        )
    return publish.register(library, made, why, promote=given.promote)


def _made(given: argparse.Namespace, current: Settings, library: Library, said: Progress) -> Iterator[tuple[Made, str]]:
    """Each model, made, and of what."""
    vocabulary = load(current.feature_repo)
    if given.simulated:
        yield from _simulated(given, current, vocabulary, library, said)
        return
    if given.online:
        yield from _online(given, current, vocabulary, library, said)
        return
    if given.labels and (len(given.names) != 1 or given.names == ["all"]):
        raise UnknownModel(f"train --labels: expected the name of one service, got {' '.join(given.names)}")
    names = _of_history(vocabulary) if given.names == ["all"] else given.names
    for service in [service_of(vocabulary, name) for name in names]:
        said.of(service.name)
        training = _training(given, vocabulary, service, own=bool(current.feature_repo))
        of = {"history": given.history or current.lake, "organisation": given.organisation}
        wanted = Wanted(vocabulary=vocabulary, service=service, **of)
        said.step("rows")
        rows, why = _rows(given, wanted, training, service)
        slices = job.sliced(training, service, rows)
        origin = Origin(simulated=False, told={"labels": why})
        yield job.make(training, service, vocabulary, slices, origin, said, _serving(library, service)), why


def _of_history(vocabulary: Vocabulary) -> list[str]:
    """Models whose label the history can tell: not what becomes of a lead."""
    others = {name for name, of in MODELS.items() if of.entity != vocabulary.entity}
    return [service.name for service in vocabulary.services if service.name not in others]


def _rows(given: argparse.Namespace, wanted: Wanted, training: Training, service: Service) -> tuple[Examples, str]:
    if given.labels:
        vocabulary = wanted.vocabulary
        keys = [key for e in vocabulary.entities if e.name == training.entity for key in (e.join_key, e.name)]
        return labelled.examples(wanted, labels.read(given.labels, *keys), training, service), given.labels.name
    of = past(wanted.history, wanted.vocabulary)
    rows = labelled.examples(wanted, asked.asked(of, wanted, training, service), training, service, of)
    return rows, f"what happened within {training.horizon_days} days after, in the history"


def _training(given: argparse.Namespace, vocabulary: Vocabulary, service: Service, *, own: bool) -> Training:
    """The model's file with what the command changes; of a domain of one's own, which has none, the usual."""
    of = None if own else MODELS.get(service.name)
    label = of.label if of else Label(horizon_days=HORIZON_DAYS)
    of = of or Training(service=service.name, entity=vocabulary.entity, budget=BUDGET if service.alert else 0.0)
    changed = {"horizon_days": given.horizon_days, "column": given.label}
    label = msgspec.structs.replace(label, **{k: v for k, v in changed.items() if v is not None})
    limits = {k: v for k, v in (("trials", given.trials), ("seconds", given.seconds)) if v is not None}
    more = {"budget": given.budget, "least": given.least, "seed": given.seed, "cases": given.cases or None}
    return msgspec.structs.replace(
        of,
        label=label,
        search=msgspec.structs.replace(of.search, **limits),
        telling=(*of.telling, *service.telling, *given.declared),
        **{k: v for k, v in more.items() if v is not None},
    )


def _serving(library: Library, service: Service) -> Model | None:
    """What is deployed now, for comparison; None where nothing is, or with other inputs."""
    try:
        return library.deployed(service.name, service.features)
    except NoModel:
        return None


def _online(
    given: argparse.Namespace, current: Settings, vocabulary: Vocabulary, library: Library, said: Progress
) -> Iterator[tuple[Made, str]]:
    """What was learned from outcomes since; `all`: of each model of which enough is known."""
    everyone = given.names == ["all"]
    for service in vocabulary.services if everyone else [service_of(vocabulary, name) for name in given.names]:
        said.of(service.name)
        said.step("rows")
        training = _training(given, vocabulary, service, own=bool(current.feature_repo))
        try:
            learned = online.learner(current, service.name)
            made = online.make(learned, training, service, library.deployed(service.name, service.features))
        except (online.NotLearned, NotTrainable, NoModel):
            if not everyone:
                raise
            continue
        yield made, f"{learned.contest.progress.outcomes:,} outcomes, learned online"


# -- on simulated people


def _simulated(
    given: argparse.Namespace, current: Settings, vocabulary: Vocabulary, library: Library, said: Progress
) -> Iterator[tuple[Made, str]]:
    if current.feature_repo:
        raise UnknownModel(
            "train --simulated: simulated people live in the domain that ships alone; expected --labels FILE"
        )
    services = {name: service_of(vocabulary, name) for name in _asked_for(given.names)}
    sizes = Sizes(people=given.people, judged=given.judged, share=given.share, seed=given.seed or Sizes().seed)
    world: Study | None = None
    for name, service in services.items():
        training = _training(given, vocabulary, service, own=False)
        said.of(name)
        said.step("rows")
        if training.simulated:
            slices, told = _apart(given, vocabulary, training, service, sizes.seed)
        elif service.outcome in OUTCOMES and not training.label.events:
            world = world or study(vocabulary, sizes)
            inputs = np.array([vocabulary.feature_index[feature] for feature in service.features])
            slices, told = world.slices(service.outcome or "", training.horizon_days, inputs), _of_study(sizes)
        else:
            raise UnknownModel(f"train {name} --simulated: no simulated world shows its label; expected --labels FILE")
        origin = Origin(simulated=True, told=told)
        made = job.make(training, service, vocabulary, slices, origin, said, _serving(library, service))
        yield made, f"simulated people, seed {sizes.seed}"


def _asked_for(names: list[str]) -> list[str]:
    if unknown := [name for name in names if name not in MODELS and names != ["all"]]:
        raise UnknownModel(f"expected a model among {', '.join(sorted(MODELS))}; got {unknown[0]!r}")
    return list(MODELS) if names == ["all"] else names


def _apart(
    given: argparse.Namespace, vocabulary: Vocabulary, training: Training, service: Service, seed: int
) -> tuple[Slices, dict[str, str | int | float]]:
    """Rows of a model that brings its own simulation."""
    simulated = training.simulated
    assert simulated is not None  # noqa: S101  # the caller looked
    table = simulated(given.people, seed)
    wanted = Wanted(history=Path(), vocabulary=vocabulary, service=service)
    rows = labelled.examples(wanted, Labels(table), training, service, simulated=True)
    return job.sliced(training, service, rows), {"people": f"simulated, {given.people:,}", "world's seed": seed}


def _of_study(sizes: Sizes) -> dict[str, str | int | float]:
    return {
        "people": f"simulated, {sizes.people:,}, of whom {sizes.unseen:.0%} were kept aside",
        "world's seed": sizes.seed,
        "days": f"{DAYS}: train {TRAIN.since}-{TRAIN.until}, sigmoid and threshold {EARLIER.since}-{EARLIER.until},"
        f" judged {LATER.since}-{LATER.until}",
    }


# -- what is told


def _show(of: Published) -> None:
    m = of.metadata
    print(f"{of.place}: {of.state}, {of.why}; threshold {m.threshold}")
    for name, row in m.metrics.items():
        print(f"  {name:36}" + "  ".join(f"{metric} {row[metric]:.3f}" for metric in SHOWN if metric in row))


def _result(of: Published) -> dict[str, Any]:
    m = of.metadata
    ours = next((row for name, row in m.metrics.items() if name.endswith(f", {OURS}")), {})
    told = {"model": m.name, "version": m.version, "state": of.state, "why": of.why, "metrics": ours}
    return told | {"gates": [msgspec.structs.asdict(gate) for gate in m.gates]}
