"""`/v2`: the Open Inference Protocol, for clients that bring the features themselves (messages: `tensors.py`)."""

from __future__ import annotations

import asyncio
from importlib.metadata import version as version_of

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from feature_repo.declare import Array
from flows.predictions import Words
from onnx_models.calibrations import by_organisation
from onnx_models.confidence import confidence
from onnx_models.session import INPUT, Model
from serving import api
from serving.body import headers_of, read_body
from serving.errors import MAX_SHOWN, ApiError, json_response
from serving.openapi import Operation, Parameter
from serving.prediction_log import Answered
from serving.scoring import Scoring
from serving.tensors import OUTPUTS, Answer, InferRequest, InferResponse, encode, features, parse, wanted

BODY_BYTES = 8 << 20
INLINE = 256  # rows that are scored at once; more take a thread, so that nobody waits for them
HEADER = b"inference-header-content-length"


class ServerMetadata(msgspec.Struct):
    """What this server is."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(msgspec.Struct):
    """-1: any number of rows."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(msgspec.Struct):
    """A model: its versions that are loaded, the deployed one first. `parameters.features`: its inputs, in order."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: dict[str, list[str]]


class Ready(msgspec.Struct):
    """Of a model."""

    name: str
    ready: bool


class Refusal(msgspec.Struct):
    """What is wrong, as the protocol tells it."""

    error: str


async def live(request: Request) -> Response:
    return json_response({"live": True})


async def ready(request: Request) -> Response:
    """Whether there is a model to ask."""
    if not _scoring(request).watch.models:
        raise ApiError(503, "no model is loaded")
    return json_response({"ready": True})


async def server(request: Request) -> Response:
    return json_response(ServerMetadata("telltale", version_of("telltale"), ["binary_tensor_data"]))


async def model_ready(request: Request) -> Response:
    return json_response(Ready(_model(request).name, True))


async def metadata(request: Request) -> Response:
    model = _model(request)
    outputs = [TensorMetadata(name, "FP32", [-1]) for name in OUTPUTS]
    inputs = [TensorMetadata(INPUT, "FP32", [-1, len(model.inputs)])]
    versions = [held.version for held in _loaded(_scoring(request), model.name)]
    named = {INPUT: list(model.inputs)}
    return json_response(ModelMetadata(model.name, versions, "onnxruntime_onnx", inputs, outputs, named))


async def infer(request: Request) -> Response:
    headers = headers_of(request.scope)
    body = await read_body(headers, request.receive, BODY_BYTES)
    model, scoring = _model(request), _scoring(request)
    asked, behind = parse(body, headers.get(HEADER))
    outputs, rows = wanted(asked), features(asked, behind, model.inputs)
    raw, probability = model.scores(rows) if len(rows) <= INLINE else await asyncio.to_thread(model.scores, rows)
    probability, numbers = by_organisation(model.calibrations, [api.organisation(request)] * len(rows), probability)
    now = await scoring.now_ms()
    prediction = _written(request, model, rows, np.stack([probability, raw]), numbers.tolist(), now)
    response = InferResponse(model.name, model.version, [], {"prediction_id": prediction}, asked.id)
    return _sent(encode(response, {"probability": probability, "raw": raw}, outputs))


def _sent(answer: Answer) -> Response:
    if answer.header is None:
        return Response(answer.body, media_type="application/json")
    headers = {"Inference-Header-Content-Length": str(answer.header)}
    return Response(answer.body, headers=headers, media_type="application/octet-stream")


def _written(request: Request, model: Model, rows: Array, scores: Array, numbers: list[int], now: int) -> str:
    """The predictions' id, under which they are logged."""
    scoring, organisation, n = _scoring(request), api.organisation(request), len(rows)
    base = scoring.parts.ids.issue(organisation.encode(), model.name, now, n)
    words = Words([f"{base}.{i}" for i in range(n)], [organisation] * n, [None] * n, numbers if any(numbers) else [])
    sure = confidence(scores[0], np.ones(n, np.float32))
    known = np.zeros(rows.shape, bool)
    shadow = scoring.scorers[model.name].shadow(model)
    entity = model.metadata.entity
    scoring.parts.log.add(Answered(model, entity, words, now, np.stack([*scores, sure]), rows, known, shadow))
    return base


def _scoring(request: Request) -> Scoring:
    return request.app.state.scoring


def _loaded(scoring: Scoring, name: str) -> list[Model]:
    return [held[name] for held in (scoring.watch.models, scoring.watch.shadows) if name in held]


def _model(request: Request) -> Model:
    """The deployed version, or the one that is asked for. Raises ApiError 404 that names what is loaded."""
    scoring, name = _scoring(request), request.path_params["model"]
    loaded, version = _loaded(scoring, name), request.path_params.get("version", "")
    if not loaded:
        there = ", ".join(scoring.watch.models) or "none"
        raise ApiError(404, f"there is no model {name[:MAX_SHOWN]!r} loaded; there are {there}")
    found = next((model for model in loaded if version in ("", model.version)), None)
    if found is None:
        told = ", ".join(model.version for model in loaded)
        raise ApiError(404, f"version {version[:MAX_SHOWN]!r} of {name} is not loaded; there are {told}")
    return found


_MODEL, _VERSION = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
routes = [
    Route("/v2", server),
    Route("/v2/health/live", live),
    Route("/v2/health/ready", ready),
    *(Route(path, metadata) for path in (_MODEL, _VERSION)),
    *(Route(f"{path}/ready", model_ready) for path in (_MODEL, _VERSION)),
    *(Route(f"{path}/infer", infer, methods=["POST"]) for path in (_MODEL, _VERSION)),
]
_TAG = "Scores, as the Open Inference Protocol v2 has them"
_NAMED = Parameter("model", "a service's name, as in the catalogue", where="path")
_OF = {_MODEL: (_NAMED,), _VERSION: (_NAMED, Parameter("version", "YYYYMMDDHHMMSS, one that is loaded", where="path"))}
_NONE = {404: "no such model or version is loaded"}
_WRONG = {400: "what cannot be inferred, in words", 413: "too large", 415: "another compression of content"}
operations = [
    Operation(path="/v2", summary="What this server is", tag=_TAG, gives=ServerMetadata, refusal=Refusal),
    Operation(path="/v2/health/live", summary="Whether the process is up", tag=_TAG, gives=dict[str, bool], open=True),
    Operation(path="/v2/health/ready", summary="Whether a model is loaded", tag=_TAG, gives=dict[str, bool], open=True),
    *(
        Operation(
            path=path, summary="What goes in and comes out of a model", tag=_TAG, parameters=of, gives=ModelMetadata,
            errors=_NONE, refusal=Refusal,
        )
        for path, of in _OF.items()
    ),
    *(
        Operation(
            path=f"{path}/ready", summary="Whether a model is loaded", tag=_TAG, parameters=of, gives=Ready,
            errors=_NONE, refusal=Refusal,
        )
        for path, of in _OF.items()
    ),
    *(
        Operation(
            path=f"{path}/infer", method="post", summary="What a model says of rows of features", tag=_TAG,
            parameters=of, takes=InferRequest, gives=InferResponse, errors=_NONE | _WRONG, refusal=Refusal,
        )
        for path, of in _OF.items()
    ),
]  # fmt: skip
