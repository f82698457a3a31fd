"""`/v1/models/{name}/train`: starts a training job, and tells how far it is and what came of it."""

from __future__ import annotations

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving import api
from serving.administration import FORBIDDEN, administrator
from serving.errors import MAX_SHOWN, ApiError, json_response
from serving.given import ERRORS, given
from serving.models import NAME
from serving.openapi import Operation, Parameter
from serving.trainings import Busy, Training, Trainings, TrainRequest

BODY_BYTES = 4 << 20  # some 50,000 labels; more by the command


class TrainingList(msgspec.Struct, frozen=True):
    """Latest first."""

    jobs: list[Training]


async def train(request: Request) -> Response:
    who = await administrator(request)
    name, asked = _service(request), await given(request, TrainRequest, BODY_BYTES)
    trainings = _trainings(request)
    job = await run_in_threadpool(trainings.prepare, name, asked)
    try:
        started = trainings.start(name, job, asked, who)
    except Busy as error:
        raise ApiError(409, str(error)) from None
    return json_response(started, 202)


async def jobs(request: Request) -> Response:
    return json_response(TrainingList(await run_in_threadpool(_trainings(request).jobs, _service(request))))


async def job(request: Request) -> Response:
    name, asked = _service(request), request.path_params["job"]
    found = await run_in_threadpool(_trainings(request).told, name, asked)
    if found is None:
        raise ApiError(404, f"{name} has no training job {asked[:MAX_SHOWN]!r}", "job")
    return json_response(found)


def _service(request: Request) -> str:
    """Raises ApiError 404 for a name that no service has."""
    name: str = request.path_params["name"]
    services = [service.name for service in api.of(request).vocabulary.services]
    if name not in services:
        raise ApiError(404, f"expected a service among {', '.join(services)}, got {name[:MAX_SHOWN]!r}", "name")
    return name


def _trainings(request: Request) -> Trainings:
    trainings: Trainings = request.app.state.trainings
    return trainings


_PATH = "/v1/models/{name}/train"
routes = [Route(_PATH, train, methods=["POST"]), Route(_PATH, jobs), Route(f"{_PATH}/{{job}}", job)]
operations = [
    Operation(
        path=_PATH,
        method="post",
        summary="Start to train a model; a version that passes its gates comes into the shadow",
        tag="Models",
        parameters=(NAME,),
        takes=TrainRequest,
        may_lack=True,
        gives=Training,
        later="it has begun: ask for the job",
        errors={404: "no service has this name", 409: "it is being trained already", **ERRORS, **FORBIDDEN},
    ),
    Operation(
        path=_PATH,
        summary="The training jobs of a model",
        tag="Models",
        parameters=(NAME,),
        gives=TrainingList,
        errors={404: "no service has this name"},
    ),
    Operation(
        path=f"{_PATH}/{{job}}",
        summary="How far a training job is, and what came of it",
        tag="Models",
        parameters=(NAME, Parameter("job", "`job` of the answer that began it", where="path")),
        gives=Training,
        errors={404: "there is no such job"},
    ),
]
