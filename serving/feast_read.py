"""`POST /get-online-features`, as Feast's feature server has it: one pipelined read, one encoding, no task in between.

A request is read by `Reader.begin`, whoever took it in (`quick_door.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from feature_repo.vocabulary import Vocabulary
from flows.resp import StoreError
from serving import front, quick_door
from serving.auth import Auth
from serving.errors import JSON, ApiError, fault, located, reply, reply_error, unavailable
from serving.feast_json import answer
from serving.feast_messages import FeaturesRequest, OnlineFeatures
from serving.feast_shape import Row, Shape, Shapes
from serving.log_clock import LogClock
from serving.openapi import Operation
from serving.pipeline import Pipeline
from serving.quick_door import Done, not_allowed

log = logging.getLogger("telltale.api")

PATH = "/get-online-features"
BODY_BYTES = 4 << 20
MOST_CELLS = 500_000  # values in one answer
MAX_SHAPES, MAX_SHAPE = 256, 64 * 1024  # requests remembered but for their values, and the bytes of one
_decode = msgspec.json.Decoder(FeaturesRequest).decode


class Reader:
    """Answers requests for online features."""

    def __init__(self, vocabulary: Vocabulary, pipeline: Pipeline, clock: LogClock) -> None:
        self.pipeline, self._clock = pipeline, clock
        self._shapes = Shapes(vocabulary)
        self._known: dict[tuple[object, ...], Shape] = {}

    def begin(self, organisation: bytes, body: bytes, done: Done) -> None:
        """Asks the store; `done` takes the JSON, or what is wrong. The pipeline is connected. Raises ApiError 4xx."""
        asked = _read(body)
        shape = self._shape(asked)
        entities = [asked.entities[key] for key, _ in shape.echoed]
        count = _same_length(asked.entities)
        if count * shape.width > MOST_CELLS:
            raise ApiError(413, f"expected at most {MOST_CELLS} values, not {count} x {shape.width}", "entities")
        told = {key: _told(key, values, text=text) for (key, text), values in zip(shape.echoed, entities, strict=True)}
        commands = [group.command(b"%b/%b" % (organisation, v)) for group in shape.groups for v in told[group.given][1]]
        question = self._clock.question()
        self.pipeline.send(
            b"".join([question, *commands]),
            len(commands) + bool(question),
            _Answering(self, shape, [values for values, _ in told.values()], bool(question), done),
        )

    def hear(self, now: Any) -> None:
        self._clock.hear(now)

    def now_us(self) -> int:
        return self._clock.now_us()

    def _shape(self, asked: FeaturesRequest) -> Shape:
        key = (
            bytes(asked.features),
            asked.feature_service,
            asked.full_feature_names,
            asked.include_feature_view_version_metadata,
            *asked.entities,
        )
        shape = self._known.get(key)
        if shape is None:
            shape = self._shapes.made(asked)
            if len(self._known) >= MAX_SHAPES:
                self._known.clear()
            if len(bytes(asked.features)) + sum(map(len, asked.entities)) <= MAX_SHAPE:
                self._known[key] = shape
        return shape


class _Answering:
    """What becomes of the store's replies to one request."""

    __slots__ = ("_asked_now", "_done", "_echoed", "_reader", "_shape")

    def __init__(self, reader: Reader, shape: Shape, echoed: list[list[Any]], asked_now: bool, done: Done) -> None:
        self._reader, self._shape, self._echoed, self._asked_now, self._done = reader, shape, echoed, asked_now, done

    def __call__(self, replies: list[Any] | StoreError) -> None:
        try:
            found = self._answer(replies)
        except Exception:  # the outermost frame: who calls us reads on for others
            log.exception("POST %s failed", PATH)
            found = fault()
        self._done(found)

    def _answer(self, replies: list[Any] | StoreError) -> bytes | ApiError:
        if isinstance(replies, StoreError):
            return unavailable(f"the store is not reachable: {replies}")
        if self._asked_now:
            self._reader.hear(replies.pop(0))
        count = len(self._echoed[0])
        rows: list[list[Row]] = []
        for i, group in enumerate(self._shape.groups):
            rows.append(list(map(group.pick, replies[i * count : (i + 1) * count])))
        return answer(self._shape, self._echoed, rows, self._reader.now_us())


def _read(body: bytes) -> FeaturesRequest:
    try:
        return _decode(body)
    except RecursionError:
        raise ApiError(422, "nested too deep", "body") from None
    except UnicodeDecodeError as error:
        raise ApiError(422, f"expected UTF-8: {error.reason} at byte {error.start}", "body") from None
    except msgspec.MsgspecError as error:
        field, detail = located(error)
        raise ApiError(422, detail, _which(body) if field.startswith("entities[...]") else field) from None


def _which(body: bytes) -> str:
    """The first value of an entity that cannot be one."""
    try:
        entities = msgspec.json.decode(body)["entities"]
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):  # something else is wrong as well
        return "entities"
    for key, values in entities.items() if isinstance(entities, dict) else ():  # told twice, the last counts here
        if not isinstance(values, list):
            return f"entities.{key}"
        if wrong := [i for i, value in enumerate(values) if isinstance(value, list | dict)]:
            return f"entities.{key}[{wrong[0]}]"
    return "entities"


def _same_length(entities: Mapping[str, list[Any]]) -> int:
    lengths = {len(values) for values in entities.values()}
    if len(lengths) != 1 or 0 in lengths:
        told = ", ".join(f"{key[:50]}: {len(values)}" for key, values in list(entities.items())[:10])
        raise ApiError(422, f"expected as many values of each, one or more, got {told or 'none'}", "entities")
    return lengths.pop()


def _told(key: str, values: list[Any], *, text: bool) -> tuple[list[Any], list[bytes]]:
    """Values as they are told again, and as they are stored. `text`: what is no text becomes one, as in Feast."""
    if None in values:
        raise ApiError(422, "expected a text, not null", f"entities.{key}[{values.index(None)}]")
    if not text:
        return values, []
    told = [value if type(value) is str else str(value) for value in values]
    return told, [value.encode() for value in told]


async def health(scope: Scope, receive: Receive, send: Send) -> int:
    """`GET /health`, open to all: 200 and nothing more."""
    if scope["method"] not in ("GET", "HEAD"):
        return await reply_error(send, not_allowed(scope["method"], "GET"))
    return await reply(send, 200, b"", JSON)


def doors(auth: Auth, reader: Reader) -> dict[str, front.Door]:
    """Path -> what answers there."""
    return {PATH: front.guarded(quick_door.Door(auth, reader, BODY_BYTES)), "/health": front.guarded(health)}


operations = [
    Operation(
        path=PATH,
        method="post",
        summary="Features of any view, of one entity or many",
        tag="Features, as Feast's server has them",
        takes=FeaturesRequest,
        gives=OnlineFeatures,
        errors={
            404: "there is no such view, feature or service",
            413: "too large",
            415: "another type or compression of content",
            422: "a request that cannot be answered; `field` names what is wrong",
        },
    ),
    Operation(
        path="/health",
        summary="Whether the process is up",
        tag="Features, as Feast's server has them",
        media="",
        open=True,
    ),
]
