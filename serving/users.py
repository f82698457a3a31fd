"""What is known of one person: features as Feast's bytes hold them, and what the models make of them."""

from __future__ import annotations

from datetime import datetime

import msgspec
import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from feature_repo.declare import Array, Service
from feature_repo.layout import entity_key, field, read_double, read_timestamp, timestamp_field
from feature_repo.moments import instant
from feature_repo.vocabulary import Vocabulary
from flows.explain import Explainer
from flows.reasons import contributions, in_words
from flows.resp import pack
from onnx_models.calibrations import by_organisation
from onnx_models.confidence import confidence, known_share
from onnx_models.session import Model
from onnx_models.watch import Watch
from serving import api
from serving.advice import advised
from serving.errors import ApiError, json_response
from serving.given import PERSON
from serving.messages import Contribution, FeatureValue, Score, UserFeatures, UserScores
from serving.openapi import Operation

TELLING = 5  # contributions shown


class Known(msgspec.Struct):
    """A person's feature values (None: not written), and when they held; whose person it is."""

    at: datetime | None
    values: dict[str, float | None]
    organisation: str = ""


async def features(request: Request) -> Response:
    parts = api.of(request)
    known = await read(parts, api.organisation(request), request.path_params["user"])
    told = {
        f.name: FeatureValue(known.values[f.name], f.unit, f.window, f.description) for f in parts.vocabulary.features
    }
    return json_response(UserFeatures(request.path_params["user"], known.at, told))


async def scores(request: Request) -> Response:
    parts = api.of(request)
    known = await read(parts, api.organisation(request), request.path_params["user"])
    scored, refused = await run_in_threadpool(request.app.state.scorer.score, known)
    return json_response(UserScores(request.path_params["user"], known.at, scored, refused))


async def read(parts: api.Api, organisation: str, user: str) -> Known:
    """Raises ApiError 404 when nothing was ever written of this person."""
    vocabulary = parts.vocabulary
    key = entity_key(vocabulary.join_key, f"{organisation}/{user}".encode())
    names = [f.name for f in vocabulary.features]
    fields = [field(vocabulary.view, name) for name in names]
    (stamp, *found) = (await parts.client.call(pack("HMGET", key, timestamp_field(vocabulary.view), *fields)))[0]
    if stamp is None:
        raise ApiError(404, f"nothing is known of a user {user[:200]!r}", "id")
    values = {name: read_double(value) for name, value in zip(names, found, strict=True)}
    return Known(instant(read_timestamp(stamp)), values, organisation)


class Scorer:
    """Scores a person with the models that are deployed now."""

    def __init__(self, vocabulary: Vocabulary, watch: Watch) -> None:
        self._vocabulary, self._watch = vocabulary, watch
        self._explainer = Explainer(vocabulary, watch.library)

    def score(self, known: Known) -> tuple[list[Score], dict[str, str]]:
        """(scores, highest first; models that cannot score, and why)."""
        scored, refused = [], {}
        for service in (s for s in self._vocabulary.services if s.alert):  # whose inputs `known` holds
            model = self._watch.models.get(service.name)
            if model is None:
                refused[service.name] = self._watch.refused.get(service.name, "it is being loaded")
            else:
                scored.append(self._score(model, service, known))
        return sorted(scored, key=lambda s: -s.score), refused

    def _score(self, model: Model, service: Service, known: Known) -> Score:
        row = [self._value(known, name) for name in service.features]
        raw, own = model.scores(np.array([row], np.float32))
        calibrated, numbers = by_organisation(model.calibrations, [known.organisation], own)
        known_of = known_share(model.metadata.importance, service.features, _lacks(known, service))
        sure = float(confidence(calibrated, known_of)[0])
        return Score(
            model=model.name,
            version=model.version,
            score=float(calibrated[0]),
            raw=float(raw[0]),
            threshold=model.threshold,
            confidence=sure,
            recommendation=advised(service, model, float(calibrated[0]), sure),
            calibration=int(numbers[0]),
            reasons=self._reasons(model, service, row),
        )

    def _value(self, known: Known, name: str) -> float:
        value = known.values[name]
        return self._vocabulary.features[self._vocabulary.feature_index[name]].default if value is None else value

    def _reasons(self, model: Model, service: Service, row: list[float]) -> list[Contribution]:
        booster = self._explainer.booster(model.name, model.version)
        added = contributions(booster, row) if booster else []
        order = sorted(range(len(added)), key=lambda i: -abs(added[i]))[:TELLING]
        declared = [self._vocabulary.features[self._vocabulary.feature_index[name]] for name in service.features]
        return [
            Contribution(declared[i].name, row[i], added[i], in_words(declared[i], row[i])) for i in order if added[i]
        ]


def _lacks(known: Known, service: Service) -> Array:
    """Which inputs stand at their defaults: (1, inputs) bool."""
    return np.array([[known.values[name] is None for name in service.features]])


routes = [Route("/v1/users/{user:path}/features", features), Route("/v1/users/{user:path}/scores", scores)]
_NOBODY = {404: "nothing is known of this user"}
operations = [
    Operation(
        path="/v1/users/{id}/features",
        summary="A person's features, with the moment at which they held",
        tag="People",
        parameters=(PERSON,),
        gives=UserFeatures,
        errors=_NOBODY,
    ),
    Operation(
        path="/v1/users/{id}/scores",
        summary="What each model makes of them, and which features moved it",
        tag="People",
        parameters=(PERSON,),
        gives=UserScores,
        errors=_NOBODY,
    ),
]
