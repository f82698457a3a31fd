"""What every handler may ask for: the parts of the running API, and who is asking."""

from __future__ import annotations

import time

import msgspec
from starlette.requests import Request

from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows.resp import StoreError
from flows.store import Store
from serving.append import Appender
from serving.auth import Auth
from serving.connection import Client
from serving.errors import ApiError
from serving.feast_read import Reader
from serving.intake import Intake
from serving.log_clock import LogClock
from serving.pipeline import Pipeline


class Api(msgspec.Struct, frozen=True):
    """The parts, made once a process."""

    settings: Settings
    store: Store
    vocabulary: Vocabulary
    client: Client
    appender: Appender
    auth: Auth
    intake: Intake
    reader: Reader
    clock: LogClock
    started: float = msgspec.field(default_factory=time.monotonic)


def made(settings: Settings, store: Store, vocabulary: Vocabulary) -> Api:
    client, clock = Client(settings), LogClock(store)
    return Api(
        settings=settings,
        store=store,
        vocabulary=vocabulary,
        client=client,
        appender=Appender(settings, vocabulary, store),
        auth=Auth(client, seed=store.seed),
        intake=Intake(vocabulary, store),
        reader=Reader(vocabulary, Pipeline(settings), clock),
        clock=clock,
    )


def of(request: Request) -> Api:
    """The API that answers this request."""
    return request.app.state.api


def organisation(request: Request) -> str:
    """Whose key the request carries; the front door has checked it."""
    return request.scope["organisation"]


async def still_let_in(request: Request) -> bool:
    """Whether who asked would be let in now, for the same organisation; as before while the store cannot be asked."""
    scope = dict(request.scope)
    try:
        await request.scope["let_in"](scope)
    except ApiError:
        return False
    except StoreError:
        return True
    return bool(scope["organisation"] == request.scope["organisation"])
