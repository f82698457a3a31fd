"""The log of predictions: it never makes an answer wait, it is bounded, and what it drops is counted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows.predictions import Words, decode
from flows.resp import StoreError
from onnx_models.session import Model
from serving import prediction_log
from serving.connection import Client
from serving.prediction_log import Answered, PredictionLog, Shadow
from tests.flows.both_sides import VOCABULARY
from tests.flows.made_models import logistic

SELL = next(s for s in VOCABULARY.services if s.name == "likely_to_sell")
K = len(SELL.features)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return logistic(tmp_path, SELL, SELL.features[0], 1.0, 2.0, 0.5)


def answered(model: Model, ids: list[str], shadow: Shadow | None = None) -> Answered:
    n = len(ids)
    words = Words(ids, ["main"] * n, [None] * n)
    defaulted = np.zeros((n, K), bool)
    defaulted[:, 0] = True
    return Answered(
        model, "user", words, 5, np.ones((3, n), np.float32), np.ones((n, K), np.float32), defaulted, shadow
    )


@contextlib.asynccontextmanager
async def log_of(settings: Settings) -> AsyncIterator[PredictionLog]:
    client = Client(settings)
    try:
        yield PredictionLog(client)
    finally:
        client.close()
        await asyncio.sleep(0)  # so that the transport is gone before its loop


def ids(client: redis.Redis) -> list[str]:
    return [id_ for _, fields in client.xrange(keys.PREDICTIONS) for id_ in decode(fields).words.ids]


def counts(client: redis.Redis) -> dict[bytes, int]:
    return {name: int(value) for name, value in client.hgetall(keys.PREDICTION_COUNTS).items()}


def test_calls_of_one_version_share_an_entry(client: redis.Redis, settings: Settings, model: Model) -> None:
    """In the order of the answers, in pieces of a bounded size."""

    async def go() -> None:
        async with log_of(settings) as log:
            for i in range(30):
                log.add(answered(model, [f"{i}.{k}" for k in range(3)]))
            await log.flush()

    asyncio.run(go())
    assert ids(client) == [f"{i}.{k}" for i in range(30) for k in range(3)]
    assert client.xlen(keys.PREDICTIONS) == 1
    assert counts(client) == {b"logged": 90}


def test_a_shadow_is_given_its_own_defaults(
    client: redis.Redis, settings: Settings, model: Model, tmp_path: Path
) -> None:
    """Where an input was defaulted, what stands there is the shadow's to say."""
    shadow = logistic(tmp_path / "other", SELL, SELL.features[0], 1.0, 0.0, 0.5)
    defaults = np.full(K, 3.0)

    async def go() -> None:
        async with log_of(settings) as log:
            log.add(answered(model, ["a"], (shadow, defaults)))
            await log.flush()

    asyncio.run(go())
    (entry,) = [decode(fields) for _, fields in client.xrange(keys.PREDICTIONS)]
    assert entry.scores[3, 0] == pytest.approx(1 / (1 + np.exp(-3.0)), abs=1e-6)
    assert entry.inputs[0, 0] == 1.0  # what the deployed version was given


def test_what_there_is_no_room_for_is_counted(
    client: redis.Redis, settings: Settings, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here, while the store is away; in the store, while no lake comes."""
    monkeypatch.setattr(prediction_log, "MOST_ROWS", 5)

    async def go() -> None:
        async with log_of(settings) as log:
            for i in range(7):
                log.add(answered(model, [str(i)]))
            await log.flush()
            monkeypatch.setattr(prediction_log, "MOST_BYTES", 1)
            log.add(answered(model, ["later"]))
            await log.flush()

    asyncio.run(go())
    assert ids(client) == list("01234")
    assert counts(client) == {b"logged": 5, b"dropped": 3}


def test_a_shadow_that_fails_ends_nothing(
    client: redis.Redis, settings: Settings, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it cannot be written with is counted; what comes after it is written."""
    broken = logistic(settings.home / "broken", SELL, SELL.features[0], 1.0, 0.0, 0.5)
    monkeypatch.setattr(broken, "_session", None)

    async def go() -> None:
        async with log_of(settings) as log:
            log.add(answered(model, ["a"], (broken, np.zeros(K))))
            await log.flush()
            log.add(answered(model, ["b"]))
            await log.flush()

    asyncio.run(go())
    assert ids(client) == ["b"]
    assert counts(client) == {b"logged": 1, b"dropped": 1}


def test_it_waits_for_a_store_that_is_away(client: redis.Redis, settings: Settings, model: Model) -> None:
    """And is written whole once it is back; at the end what waits is written, too."""

    async def go() -> None:
        async with log_of(settings) as log:
            there, log._client = log._client, Client(msgspec.structs.replace(settings, redis_url="unix:///nowhere"))
            log.add(answered(model, ["a"]))
            with pytest.raises(StoreError):
                await log.flush()
            log._client = there
            log.add(answered(model, ["b"]))
            log.stop()
            await log.run()

    asyncio.run(go())
    assert ids(client) == ["a", "b"]
