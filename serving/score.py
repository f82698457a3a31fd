"""`POST /v1/score/{model}`: what a model says, by id, by features given, or both.

Requests that wait in the same turn of the loop become one call of the model. They come by the shortcut (`shortcut.py`),
or past it by the same door (`quick_door.py`); features are looked up as `/get-online-features` does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Protocol

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from feature_repo.declare import Array, Service
from feature_repo.vocabulary import Vocabulary
from flows.prediction_id import PredictionIds
from flows.predictions import Words
from flows.resp import StoreError
from onnx_models.calibrations import by_organisation
from onnx_models.confidence import confidence, known_share
from onnx_models.session import Model
from serving import api, front, quick_door
from serving.auth import Auth
from serving.errors import MAX_SHOWN, ApiError, fault, unavailable
from serving.feast_shape import Row
from serving.log_clock import LogClock
from serving.openapi import Operation, Parameter
from serving.pipeline import Pipeline
from serving.prediction_log import Answered, PredictionLog, Shadow
from serving.quick_door import Done
from serving.score_answer import Answers, Batch, Explain, Part, Used
from serving.score_inputs import LARGEST, Inputs
from serving.score_messages import ManyScored, OneScored, ScoreRequest
from serving.score_request import Asked, read
from serving.shortcut import Quick

log = logging.getLogger("telltale.api")

PATH = "/v1/score/"
BODY_BYTES = 4 << 20
MANY = 100  # instances from which an answer is made on a thread


class Held(Protocol):
    """The models to score with now, replaced as a whole when one changes."""

    models: dict[str, Model]
    shadows: dict[str, Model]
    refused: dict[str, str]


class Parts(msgspec.Struct, frozen=True):
    """What all models' scorers share."""

    vocabulary: Vocabulary
    pipeline: Pipeline
    clock: LogClock
    held: Held
    ids: PredictionIds
    log: PredictionLog
    explain: Explain


class Job(msgspec.Struct):
    """One request under way; `replies` of the store: what time it is, where that was asked, and a row of each id."""

    organisation: bytes
    asked: Asked
    done: Done
    began: float
    asks_time: bool
    replies: list[Any] = []


class Scorer:
    """Of one service."""

    def __init__(self, service: Service, parts: Parts) -> None:
        self.name, self.pipeline = service.name, parts.pipeline
        self._inputs, self._parts = Inputs(service, parts.vocabulary), parts
        self._answers = Answers(service, self._inputs.names, parts.vocabulary)
        self._jobs: list[Job] = []
        self._defaults: tuple[Model, Array] | None = None
        self._later = set[asyncio.Task[None]]()

    def begin(self, organisation: bytes, body: bytes, done: Done) -> None:
        """Asks the store; `done` takes the JSON, or what is wrong. The pipeline is connected. Raises ApiError 4xx."""
        began = time.perf_counter()
        self.model()
        group, question = self._inputs.group, self._parts.clock.question()
        job = Job(organisation, read(body, self._inputs), done, began, bool(question))
        commands = [question] if question else []
        if group:
            commands += [group.command(b"%b/%b" % (organisation, id_.encode())) for id_ in job.asked.ids if id_]
        if not commands:
            self._enqueue(job)
            return

        def then(replies: list[Any] | StoreError) -> None:
            if isinstance(replies, StoreError):
                done(unavailable(f"the store is not reachable: {replies}"))
                return
            job.replies = replies
            self._enqueue(job)

        self.pipeline.send(b"".join(commands), len(commands), then)

    def _enqueue(self, job: Job) -> None:
        if not self._jobs:
            asyncio.get_running_loop().call_soon(self._flush)
        self._jobs.append(job)

    def _flush(self) -> None:
        """All who wait, in one call of the model."""
        jobs, self._jobs = self._jobs, []
        try:
            batch = self._scored(jobs)
        except ApiError as error:
            self._refuse(jobs, error)
        except Exception:  # the outermost frame of a request
            log.exception("POST /v1/score/%s failed", self.name)
            self._refuse(jobs, fault())
        else:
            self._answer(jobs, batch)

    @staticmethod
    def _refuse(jobs: list[Job], error: ApiError) -> None:
        for job in jobs:
            job.done(error)

    def _answer(self, jobs: list[Job], batch: Batch) -> None:
        low = 0
        for job in jobs:
            part = Part(low, low + len(job.asked.ids), job.asked.many, job.began)
            low = part.high
            if job.asked.explain or part.high - part.low > MANY:
                task = asyncio.create_task(self._on_a_thread(job, batch, part))
                self._later.add(task)
                task.add_done_callback(self._later.discard)
            else:
                job.done(self._made(batch, part))

    def _made(self, batch: Batch, part: Part, explain: Explain | None = None) -> bytes | ApiError:
        try:
            return self._answers.body(batch, part, explain)
        except Exception:  # the outermost frame of a request: the others of the batch are answered
            log.exception("POST /v1/score/%s failed", self.name)
            return fault()

    async def _on_a_thread(self, job: Job, batch: Batch, part: Part) -> None:
        """An answer that takes long to make: others need not wait for it."""
        explain = self._parts.explain if job.asked.explain else None
        job.done(await asyncio.to_thread(self._made, batch, part, explain))

    def _scored(self, jobs: list[Job]) -> Batch:
        """Raises ApiError 404 where the last version that could be trusted is gone."""
        for job in jobs:
            if job.asks_time:
                self._parts.clock.hear(job.replies.pop(0))
        model, now_us = self.model(), self._parts.clock.now_us()
        entities = [id_ for job in jobs for id_ in job.asked.ids]
        values, oldest = self._values(jobs, entities, now_us)
        defaulted = ~(np.abs(values) <= LARGEST)  # a NaN, too
        inputs = np.where(defaulted, self._standing(model), values).astype(np.float32)
        raw, probability = model.scores(inputs)
        organisations = [job.organisation.decode() for job in jobs for _ in job.asked.ids]
        calibrations: list[int] = []
        if model.calibrations:
            probability, numbers = by_organisation(model.calibrations, organisations, probability)
            calibrations = numbers.tolist()
        sure = confidence(probability, known_share(model.metadata.importance, self._inputs.names, defaulted))
        scores = np.stack([probability, raw, sure]).astype(np.float32)
        ids = [id_ for job in jobs for id_ in self._issued(job, now_us)]
        self._parts.log.add(
            Answered(
                model,
                self._inputs.entity.name,
                Words(ids, organisations, entities, calibrations),
                now_us // 1000,
                scores,
                inputs,
                defaulted,
                self.shadow(model),
            )
        )
        return Batch(model, scores, inputs, defaulted, oldest, ids, entities, now_us, calibrations)

    def model(self) -> Model:
        """Raises ApiError 404."""
        model = self._parts.held.models.get(self.name)
        if model is None:
            why = self._parts.held.refused.get(self.name, "none is deployed")
            raise ApiError(404, f"there is no version of {self.name} to score with: {why}", "model")
        return model

    def shadow(self, model: Model) -> Shadow | None:
        """What is tried beside this model, if it is the deployed one."""
        tried = self._parts.held.shadows.get(self.name)
        return (tried, self._inputs.defaults(tried)) if tried and tried is not model else None

    def _values(self, jobs: list[Job], entities: list[str | None], now_us: int) -> tuple[Array, list[Used | None]]:
        """Of all instances float64 (n, inputs), NaN = not known; and of each the oldest view used."""
        pick = self._inputs.group.pick if self._inputs.group else list
        rows = [pick(reply) for job in jobs for reply in job.replies]
        if len(rows) == len(entities) and self._inputs.whole:
            found = self._inputs.read(rows, now_us)
            values, oldest = found.values, found.oldest
        else:
            values = np.full((len(entities), len(self._inputs.names)), np.nan)
            oldest = [None] * len(entities)
            self._look_up(rows, [n for n, id_ in enumerate(entities) if id_ is not None], now_us, (values, oldest))
        for n, pairs in enumerate(pairs for job in jobs for pairs in job.asked.given):
            for column, value in pairs:
                values[n, column] = value
        return values, oldest

    def _look_up(self, rows: list[Row], at: list[int], now_us: int, into: tuple[Array, list[Used | None]]) -> None:
        """Of those instances (`at`) that have an id what the store replied."""
        if rows:
            found = self._inputs.read(rows, now_us)
            into[0][np.ix_(np.array(at), self._inputs.at)] = found.values
            for n, used in zip(at, found.oldest, strict=True):
                into[1][n] = used

    def _standing(self, model: Model) -> Array:
        """What stands for what is not known."""
        if self._defaults is None or self._defaults[0] is not model:
            self._defaults = model, self._inputs.defaults(model)
        return self._defaults[1]

    def _issued(self, job: Job, now_us: int) -> list[str]:
        """Ids of a request's predictions."""
        n = len(job.asked.ids) if job.asked.many else 0
        base = self._parts.ids.issue(job.organisation, self.name, now_us // 1000, n)
        return [f"{base}.{i}" for i in range(n)] or [base]


def doors(auth: Auth, of: dict[str, Scorer]) -> dict[str, front.Door]:
    """Path -> what answers there."""
    return {PATH + name: front.guarded(quick_door.Door(auth, scorer, BODY_BYTES)) for name, scorer in of.items()}


def quick(auth: Auth, of: dict[str, Scorer]) -> dict[str, Quick]:
    """Those that are answered past ASGI: all."""
    return {PATH + name: quick_door.quick(auth, scorer) for name, scorer in of.items()}


async def unknown(request: Request) -> Response:
    """A model that is no service: all others have doors of their own."""
    name = request.path_params["model"]
    there = ", ".join(service.name for service in api.of(request).vocabulary.services)
    raise ApiError(404, f"there is no model {name[:MAX_SHOWN]!r}; there are {there}", "model")


routes = [Route(PATH + "{model:path}", unknown, methods=["POST"])]
operations = [
    Operation(
        path="/v1/score/{model}",
        method="post",
        summary="What a model says of an entity, of features given, or of both; of up to 1,000 at once",
        tag="Scores",
        parameters=(Parameter("model", "a service's name, as in the catalogue", where="path"),),
        takes=ScoreRequest,
        gives=(OneScored, ManyScored),
        errors={
            404: "there is no such model, or no version of it that can be trusted",
            413: "too large",
            415: "another type or compression of content",
            422: "a request that cannot be answered; `field` names what is wrong",
        },
    )
]
