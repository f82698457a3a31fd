"""Finds, verifies and loads models.

They live in `<name>/<version YYYYMMDDHHMMSS>/`: model.onnx, model.ubj (the booster), metadata.json, CARD.md.
"""

from __future__ import annotations

import hashlib
import logging
import re
from pathlib import Path

import msgspec
import numpy as np

from feature_repo.services import SERVICES
from onnx_models import card
from onnx_models.session import ONNX_ERRORS, Array, Model

HERE = Path(__file__).parent
LARGEST = 64 << 20  # bytes of a file
TOLERANCE = 1e-5  # between the trainer's answers and ours
UNREADABLE: tuple[type[Exception], ...] = (*ONNX_ERRORS, ValueError, OSError)
_VERSION = re.compile(r"\d{14}")
_log = logging.getLogger(__name__)


class ModelError(RuntimeError):
    """Something is wrong with a model."""


class NoModel(ModelError):
    """There is no version that can be trusted."""


class NoVersion(ModelError):
    """The model has no such version."""


class Conflict(ModelError):
    """What was asked does not go with what stands in the registry."""


class Damaged(ModelError):
    """A file is missing, unreadable or not the one that was exported."""


class OtherInputs(ModelError):
    """The model was trained on another input list than its service states now."""


class OtherAnswers(ModelError):
    """The model does not answer the golden rows as its trainer did."""


def newest(name: str, directory: str | Path = "", inputs: tuple[str, ...] | None = None) -> Model:
    """The newest version that passes every check; what was passed over is logged and in `Model.refused`.

    `directory`: where models live, by default the ones that ship. `inputs`: what the service states, by default
    the shipped service of that name. Raises NoModel that names each version and what is wrong with it.
    """
    refused: list[str] = []
    for version in reversed(versions(name, directory)):
        try:
            return load(name, version, directory, inputs, tuple(refused))
        except ModelError as error:
            _log.warning("%s", error)
            refused.append(str(error))
    place = Path(directory or HERE) / name
    raise NoModel("; ".join(refused) or f"{place}: expected a version directory YYYYMMDDHHMMSS, found none")


def versions(name: str, directory: str | Path = "") -> list[str]:
    """All versions of a model, oldest first, unverified."""
    place = Path(directory or HERE) / name
    if not place.is_dir():
        return []
    return sorted(p.name for p in place.iterdir() if p.is_dir() and _VERSION.fullmatch(p.name))


def names(directory: str | Path = "") -> list[str]:
    """All models that have a version."""
    return sorted(p.name for p in Path(directory or HERE).iterdir() if versions(p.name, directory))


def load(
    name: str,
    version: str,
    directory: str | Path = "",
    inputs: tuple[str, ...] | None = None,
    refused: tuple[str, ...] = (),
) -> Model:
    """One version, verified. Raises Damaged, OtherInputs or OtherAnswers."""
    return verified(read(Path(directory or HERE) / name / version), inputs, refused)


class Files(msgspec.Struct, frozen=True):
    """What lies in a version's directory, read once: what is checked is what is loaded.

    `seal`: sha256 of the metadata, which holds those of the other files.
    """

    place: Path
    metadata: card.Metadata
    graph: bytes
    booster: bytes
    seal: str


def read(place: Path) -> Files:
    """A version's files, each with the sha256 that the metadata states. Raises Damaged."""
    text = _content(place / card.METADATA)
    try:
        metadata = card.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(f"{place / card.METADATA}: expected a model's metadata: {error}") from error
    if (metadata.name, metadata.version) != (place.parent.name, place.name):
        raise Damaged(f"{place}: expected its own metadata, got those of {metadata.name} {metadata.version}")
    graph, booster = (_checked(metadata, place / file) for file in (card.ONNX, card.BOOSTER))
    return Files(place, metadata, graph, booster, digest(text))


def _content(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise Damaged(f"{path}: expected at most {LARGEST} bytes, got {size}")
        return path.read_bytes()
    except OSError as error:
        raise Damaged(f"{path}: expected a file: {error}") from error


def _checked(metadata: card.Metadata, path: Path) -> bytes:
    content, expected = _content(path), metadata.files.get(path.name)
    if digest(content) != expected:
        raise Damaged(f"{path}: expected sha256 {expected}, got {digest(content)}")
    return content


def verified(files: Files, inputs: tuple[str, ...] | None = None, refused: tuple[str, ...] = ()) -> Model:
    """The model, if its inputs are those of its service and its answers those of its trainer.

    Raises Damaged, OtherInputs or OtherAnswers.
    """
    metadata, place = files.metadata, files.place
    _check_inputs(metadata, _stated(metadata.service) if inputs is None else inputs)
    try:
        model = Model(metadata, place, refused, files.graph, files.booster)
        raw, calibrated = model.scores(np.array(metadata.golden.inputs, np.float32))
    except UNREADABLE as error:
        raise Damaged(f"{place}: expected an ONNX model of {len(metadata.inputs)} inputs: {error}") from error
    _check_answers(f"{place}: raw", raw, metadata.golden.raw)
    _check_answers(f"{place}: calibrated", calibrated, metadata.golden.calibrated)
    return model


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _stated(service: str) -> tuple[str, ...]:
    found = next((s.features for s in SERVICES if s.name == service), None)
    if found is None:
        raise OtherInputs(f"expected a service among {[s.name for s in SERVICES]}, got {service!r}")
    return found


def _check_inputs(metadata: card.Metadata, stated: tuple[str, ...]) -> None:
    if metadata.inputs == stated:
        return
    changed = sorted(set(metadata.inputs) ^ set(stated))
    detail = f"not in both: {changed}" if changed else "in another order"
    raise OtherInputs(
        f"{metadata.name} {metadata.version}: expected the {len(stated)} inputs of service {metadata.service},"
        f" got {len(metadata.inputs)}, {detail}; train it again"
    )


def _check_answers(what: str, found: Array, expected: list[float]) -> None:
    apart = np.abs(found - np.array(expected)) if len(found) == len(expected) else np.array([np.inf])
    if not len(apart) or not (apart <= TOLERANCE).all():  # NaN is apart, too
        worst = float(apart.max()) if len(apart) else float("nan")
        raise OtherAnswers(f"{what} answers to golden rows: expected within {TOLERANCE}, got {worst:.2g} apart")
