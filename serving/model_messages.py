"""What is said of models, over HTTP and on the terminal."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from onnx_models.book import Change, State
from onnx_models.card import Band, Gate, Metadata, Recommendation
from onnx_models.library import Library

Why = Annotated[str, Meta(max_length=1000)]
VersionName = Annotated[str, Meta(pattern=r"^\d{14}$", description="YYYYMMDDHHMMSS")]


class ModelVersion(msgspec.Struct, frozen=True):
    """`state`: null: newer than what is deployed, and not registered. `ships`: with the program, not trained here.

    `stopped`: by a gate, which one; it is never deployed.
    """

    version: str
    state: State | None
    ships: bool
    stopped: str | None = None


class ModelVersions(msgspec.Struct, frozen=True, kw_only=True):
    """A model's registry. `generation` grows by one a change; `history`: latest first."""

    name: str
    deployed: str | None
    shadow: str | None
    generation: int
    versions: list[ModelVersion]
    history: list[Change]


class ModelListed(msgspec.Struct, frozen=True, kw_only=True):
    """`scoring`: the version that this process scores with. `refused`: why it is not the deployed one, or none."""

    name: str
    deployed: str | None
    shadow: str | None
    scoring: str | None
    refused: str | None
    versions: list[ModelVersion]


class ModelList(msgspec.Struct, frozen=True):
    models: list[ModelListed]


class ModelInput(msgspec.Struct, frozen=True):
    """`default` stands for what is not known; null: what the feature declares. `importance`: its share of the gain."""

    name: str
    default: float | None
    importance: float | None


class ModelCalibration(msgspec.Struct, frozen=True, kw_only=True):
    """What outcomes taught: p = sigmoid(a x logit(p of the version) + b); null: from then on the version's own holds.

    `holds`: whether it does now. `number` is in every score that it touched.
    """

    number: int
    organisation: str
    a: float | None
    b: float | None
    at: datetime
    who: str
    why: str
    holds: bool


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A version, by default the deployed one. `inputs`: in the model's order. `threshold`: from which it may alert.

    `calibrations`: online, latest first.
    """

    name: str
    version: str
    state: State | None
    service: str
    entity: str
    alert: str | None
    outcome: str
    horizon_days: int
    estimator: str
    simulated: bool
    threshold: float
    inputs: list[ModelInput]
    metrics: dict[str, dict[str, float]]
    confidence: tuple[Band, ...]
    recommendations: tuple[Recommendation, ...]
    gates: tuple[Gate, ...]
    trained_on: dict[str, str | int | float]
    packages: dict[str, str]
    calibrations: list[ModelCalibration] = []


class ModelImportance(msgspec.Struct, frozen=True):
    """Each input's share of the gain, largest first; none where the version does not say."""

    name: str
    version: str
    importance: list[ModelInput]


class VersionPerformance(msgspec.Struct, frozen=True):
    """On rows kept aside in training, by set and who; `intervals`: 95 %, people drawn again."""

    version: str
    state: State | None
    metrics: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, tuple[float, float]]]
    confidence: tuple[Band, ...]


class ModelPerformance(msgspec.Struct, frozen=True):
    """Every version whose metadata can be read, latest first."""

    name: str
    versions: list[VersionPerformance]


class Promotion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`instead`: only if this version is deployed by then."""

    version: VersionName
    why: Why = ""
    instead: VersionName | None = None


class Rollback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """To what was deployed before. `instead`: only if this version is deployed by then."""

    why: Why = ""
    instead: VersionName | None = None


def versions(library: Library, name: str) -> list[ModelVersion]:
    """Latest first. Raises ModelError."""
    failed = library.book(name).failed
    return [
        ModelVersion(version, state, library.ships(name, version), failed.get(version))
        for version, state in reversed(library.states(name).items())
    ]


def registry(library: Library, name: str) -> ModelVersions:
    """Raises NoModel, Damaged."""
    found = versions(library, name)
    if not found:
        raise library.absent(name)
    book = library.book(name)
    return ModelVersions(
        name=name,
        deployed=library.current(name),
        shadow=book.shadow,
        generation=book.generation,
        versions=found,
        history=list(reversed(book.history)),
    )


def info(library: Library, name: str, version: str | None, organisation: str | None = None) -> ModelInfo:
    """`organisation`: whose calibrations; None: all. Raises NoModel, NoVersion, Damaged."""
    m = metadata(library, name, version)
    return ModelInfo(
        name=m.name,
        version=m.version,
        state=library.states(name).get(m.version),
        service=m.service,
        entity=m.entity,
        alert=m.alert,
        outcome=m.outcome,
        horizon_days=m.horizon_days,
        estimator=m.estimator,
        simulated=m.simulated,
        threshold=m.threshold,
        inputs=inputs(m),
        metrics=m.metrics,
        confidence=m.confidence,
        recommendations=m.recommendations,
        gates=m.gates,
        trained_on=m.trained_on,
        packages=m.packages,
        calibrations=_calibrations(library, name, m.version, organisation),
    )


def _calibrations(library: Library, name: str, version: str, organisation: str | None) -> list[ModelCalibration]:
    told = library.calibrations(name)
    holding = {one.number for one in told.holding(version).values()}
    mine = [c for c in told.changes if c.version == version and organisation in (None, c.organisation)]
    return [
        ModelCalibration(
            number=c.number,
            organisation=c.organisation,
            a=c.a,
            b=c.b,
            at=c.at,
            who=c.who,
            why=c.why,
            holds=c.number in holding,
        )
        for c in reversed(mine)
    ]


def importance(library: Library, name: str, version: str | None) -> ModelImportance:
    """Raises NoModel, NoVersion, Damaged."""
    m = metadata(library, name, version)
    told = [one for one in inputs(m) if one.importance is not None]
    return ModelImportance(m.name, m.version, sorted(told, key=lambda one: -(one.importance or 0.0)))


def performance(library: Library, name: str) -> ModelPerformance:
    """Raises NoModel, Damaged where the registry is."""
    states = library.states(name)
    if not states:
        raise library.absent(name)
    read = [m for version in reversed(library.versions(name)) if (m := library.told(name, version))]
    return ModelPerformance(
        name, [VersionPerformance(m.version, states[m.version], m.metrics, m.intervals, m.confidence) for m in read]
    )


def inputs(m: Metadata) -> list[ModelInput]:
    defaults: tuple[float | None, ...] = m.defaults or (None,) * len(m.inputs)
    return [ModelInput(n, default, m.importance.get(n)) for n, default in zip(m.inputs, defaults, strict=True)]


def metadata(library: Library, name: str, version: str | None) -> Metadata:
    """Raises NoModel, NoVersion, Damaged."""
    version = version or library.current(name)
    if version is None:
        raise library.absent(name)
    return library.files(name, version).metadata
