"""The answers of the scoring doors, from what a model said of a batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np

from feature_repo.declare import Array, Service
from feature_repo.vocabulary import Vocabulary
from flows.reasons import in_words
from onnx_models.session import Model
from serving.advice import advised
from serving.messages import Contribution
from serving.score_messages import Freshness, ManyScored, OneScored, Prediction

Explain = Callable[[Model, Array], Array | None]  # (n, inputs) -> float (n, inputs + 1), the last the bias
Used = tuple[int, str]  # when a view held (us since 1970), and its name
_encode = msgspec.json.Encoder().encode


class Batch(msgspec.Struct):
    """What one call of a model said of n instances. `scores` float32 (3, n): probability, raw, confidence.

    `calibrations`: numbers of the online ones that made the probability; empty: none did.
    """

    model: Model
    scores: Array
    inputs: Array
    defaulted: Array
    oldest: list[Used | None]
    ids: list[str]
    entities: list[str | None]
    now_us: int
    calibrations: list[int] = []


class Part(msgspec.Struct):
    """Which of a batch is the answer to one request."""

    low: int
    high: int
    many: bool
    began: float


class Answers:
    """Of one service."""

    def __init__(self, service: Service, names: Sequence[str], vocabulary: Vocabulary) -> None:
        self._service, self._names, self._vocabulary = service, names, vocabulary

    def body(self, batch: Batch, part: Part, explain: Explain | None = None) -> bytes:
        """The JSON of one request's answer; with `explain`, of what each input adds."""
        found = [_prediction(batch, i, self._names, self._service) for i in range(part.low, part.high)]
        if explain is not None:
            self._explain(found, batch, part, explain)
        return self._encoded(batch, part, found)

    def _explain(self, found: list[Prediction], batch: Batch, part: Part, explain: Explain) -> None:
        added = explain(batch.model, batch.inputs[part.low : part.high])
        for i, one in enumerate(found):
            if added is None:  # its booster is not to be had
                break
            one.bias = float(added[i, -1])
            one.contributions = self._contributions(batch.inputs[part.low + i], added[i, :-1])

    def _encoded(self, batch: Batch, part: Part, found: list[Prediction]) -> bytes:
        model, version = batch.model.name, batch.model.version
        took = round((time.perf_counter() - part.began) * 1000, 3)
        if part.many:
            return _encode(ManyScored(model=model, version=version, took_ms=took, predictions=found))
        told = {name: getattr(found[0], name) for name in Prediction.__struct_fields__}
        return _encode(OneScored(model=model, version=version, took_ms=took, **told))

    def _contributions(self, row: Array, added: Array) -> list[Contribution]:
        order = np.argsort(-np.abs(added), kind="stable").tolist()
        return [
            Contribution(self._names[i], float(row[i]), float(added[i]), self._says(self._names[i], float(row[i])))
            for i in order
            if added[i]
        ]

    def _says(self, name: str, value: float) -> str:
        at = self._vocabulary.feature_index.get(name)
        if at is not None:
            return in_words(self._vocabulary.features[at], value)
        found = self._vocabulary.resolve(name)
        declared: Any = found[1] if found else self._vocabulary.inputs[name]
        return f"{declared.description}: {value:.6g} {declared.unit}".rstrip()


def _prediction(batch: Batch, i: int, names: Sequence[str], service: Service) -> Prediction:
    probability, raw, sure = batch.scores[:, i].tolist()
    return Prediction(
        prediction_id=batch.ids[i],
        id=batch.entities[i],
        score=round(100 * probability, 2),
        probability=probability,
        raw=raw,
        confidence=sure,
        recommendation=advised(service, batch.model, probability, sure),
        defaulted=[names[at] for at in np.flatnonzero(batch.defaulted[i]).tolist()],
        features_at=_freshness(batch.oldest[i], batch.now_us),
        calibration=batch.calibrations[i] if batch.calibrations else 0,
    )


def _freshness(used: Used | None, now_us: int) -> Freshness | None:
    if used is None:
        return None
    at, view = used
    return Freshness(view, datetime.fromtimestamp(at / 1e6, UTC), round((now_us - at) / 1e6, 3))
