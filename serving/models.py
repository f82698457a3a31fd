"""`/v1/models`: which versions there are, what they say of themselves, and which one is deployed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onnx_models import registry
from onnx_models.library import Library
from onnx_models.registry import ModelError, NoModel, NoVersion
from onnx_models.watch import Watch
from serving import api, model_messages
from serving.administration import FORBIDDEN, administrator
from serving.errors import ApiError, as_response, json_response
from serving.given import ERRORS, given
from serving.model_messages import (
    ModelImportance,
    ModelInfo,
    ModelList,
    ModelListed,
    ModelPerformance,
    ModelVersions,
    Promotion,
    Rollback,
)
from serving.openapi import Operation, Parameter
from serving.query import asked

BODY_BYTES = 8 * 1024
_VERSION = {"version": str}


async def listed(request: Request) -> Response:
    watch = _watch(request)
    services = [service.name for service in api.of(request).vocabulary.services]
    return json_response(await run_in_threadpool(_list, watch, services))


def _list(watch: Watch, services: list[str]) -> ModelList:
    return ModelList([_listed(watch, name) for name in sorted({*services, *watch.library.names()})])


def _listed(watch: Watch, name: str) -> ModelListed:
    model = watch.models.get(name)
    refused = watch.refused.get(name)
    try:
        deployed, shadow = watch.library.current(name), watch.library.book(name).shadow
        versions = model_messages.versions(watch.library, name)
    except ModelError as error:  # a registry that cannot be read hides no other model
        deployed, shadow, versions, refused = None, None, [], str(error)
    scoring = model.version if model else None
    return ModelListed(name=name, deployed=deployed, shadow=shadow, scoring=scoring, refused=refused, versions=versions)


async def info(request: Request) -> Response:
    version, whose = _version(request), api.organisation(request)
    return await _told(request, lambda library, name: model_messages.info(library, name, version, whose))


async def importance(request: Request) -> Response:
    return await _told(request, lambda library, name: model_messages.importance(library, name, _version(request)))


async def versions(request: Request) -> Response:
    return await _told(request, model_messages.registry)


async def performance(request: Request) -> Response:
    return await _told(request, model_messages.performance)


async def _told(request: Request, tell: Callable[[Library, str], object]) -> Response:
    return json_response(await run_in_threadpool(tell, _watch(request).library, request.path_params["name"]))


def _version(request: Request) -> str | None:
    version: str | None = asked(request, _VERSION).get("version")
    return version


async def promote(request: Request) -> Response:
    who, told = await administrator(request), await given(request, Promotion, BODY_BYTES)
    return await _changed(
        request, lambda library, name: library.promote(name, told.version, who, told.why, told.instead or "")
    )


async def roll_back(request: Request) -> Response:
    who, told = await administrator(request), await given(request, Rollback, BODY_BYTES)
    return await _changed(request, lambda library, name: library.rollback(name, who, told.why, told.instead or ""))


async def reload(request: Request) -> Response:
    """Tries what is deployed again, also if it was refused."""
    return await _changed(request, _tried_again)


def _tried_again(library: Library, name: str) -> None:
    """Raises NoModel, NoVersion, Damaged where the registry is."""
    place = library.place(name, library.current(name) or "")
    library.proofs.forget()
    with contextlib.suppress(ModelError):  # the watch tells what is wrong with it
        library.proofs.prove(registry.read(place))


async def _changed(request: Request, change: Callable[[Library, str], Any]) -> Response:
    """What stands after the change, which this process scores with by then."""
    watch, name = _watch(request), request.path_params["name"]

    def changed() -> ModelVersions:
        change(watch.library, name)  # which waits for a proof, so that the look, which others wait for, need not
        watch.look(again=True, wait=False)
        return model_messages.registry(watch.library, name)

    return json_response(await run_in_threadpool(changed))


def _watch(request: Request) -> Watch:
    watch: Watch = request.app.state.watch
    return watch


def _unknown(request: Request, error: Exception) -> Response:
    field = "version" if isinstance(error, NoVersion) else "name"
    return as_response(ApiError(404, str(error), field), request.url.path)


def _conflict(request: Request, error: Exception) -> Response:
    return as_response(ApiError(409, str(error)), request.url.path)


handlers = {NoModel: _unknown, NoVersion: _unknown, ModelError: _conflict}
_PATH = "/v1/models/{name}"
routes = [
    Route("/v1/models", listed),
    Route(_PATH, info),
    Route(f"{_PATH}/versions", versions),
    Route(f"{_PATH}/importance", importance),
    Route(f"{_PATH}/performance", performance),
    Route(f"{_PATH}/promote", promote, methods=["POST"]),
    Route(f"{_PATH}/rollback", roll_back, methods=["POST"]),
    Route(f"{_PATH}/reload", reload, methods=["POST"]),
]
NAME = Parameter("name", "of a model: its service's", where="path")
_OF = Parameter("version", "YYYYMMDDHHMMSS; the deployed one unless told")
UNKNOWN = {404: "there is no such model, or no such version"}
_DAMAGED = {409: "its files or its registry are damaged"}


def _get(path: str, summary: str, gives: Any, *more: Parameter) -> Operation:
    errors = UNKNOWN | _DAMAGED | ({400: "a parameter that cannot be read"} if more else {})
    return Operation(
        path=_PATH + path, summary=summary, tag="Models", parameters=(NAME, *more), gives=gives, errors=errors
    )


def _post(path: str, summary: str, takes: Any = None, *, may_lack: bool = False) -> Operation:
    refused = {409: "the version cannot be trusted, a gate stopped it, or another one is deployed than `instead` says"}
    return Operation(
        path=_PATH + path,
        method="post",
        summary=summary,
        tag="Models",
        parameters=(NAME,),
        takes=takes,
        may_lack=may_lack,
        gives=ModelVersions,
        errors=UNKNOWN | refused | (ERRORS | FORBIDDEN if takes else {}),
    )


operations = [
    Operation(path="/v1/models", summary="All models, their versions and states", tag="Models", gives=ModelList),
    _get("", "A version: inputs, threshold, how good it is", ModelInfo, _OF),
    _get("/versions", "The registry: every version's state, and who changed what", ModelVersions),
    _get("/importance", "Each input's share of the gain", ModelImportance, _OF),
    _get("/performance", "How good each version was on rows kept aside", ModelPerformance),
    _post("/promote", "Deploy a version; all processes score with it within a second", Promotion),
    _post("/rollback", "Deploy again what was deployed before", Rollback, may_lack=True),
    _post("/reload", "Look again for what is deployed, also if it was refused"),
]
