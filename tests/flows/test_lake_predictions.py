"""Answered predictions in the lake: each once, whatever is killed when, readable by others' tools."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import numpy as np
import pandas as pd
import pytest
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows import lake
from flows.lake import Lake
from flows.lake_read import LakeReader
from flows.predictions import Head, Predictions, Words, decode, encode
from flows.store import Store
from tests.flows.both_sides import VOCABULARY

SELL = Head("sell", "20260101000000", "", "user", ("visits", "lead_crm:source", "model"))
STAY = Head("stay", "20260102000000", "20260103000000", "lead", ("visits", "mails"))
rng = np.random.default_rng(8)


def predictions(head: Head, n: int, first: int = 0) -> Predictions:
    k = len(head.inputs)
    scores = rng.random((4, n), np.float32)
    scores[3] = scores[3] if head.shadow else np.nan
    words = Words([f"{head.model}-{first + i}" for i in range(n)], ["örg"] * n, [None, *(f"u{i}" for i in range(1, n))])
    at = np.arange(n) + 1_770_000_000_000
    return Predictions(head, words, at, scores, rng.random((n, k), np.float32), rng.random((n, k)) < 0.5)


def send(client: redis.Redis, rows: Predictions, id_: str = "*") -> None:
    fields = encode(rows)
    client.xadd(keys.PREDICTIONS, dict(zip(fields[::2], fields[1::2], strict=True)), id=id_)


@pytest.fixture
def machine(client: redis.Redis, settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    monkeypatch.setattr(lake, "WAIT_MS", 0)
    made = Lake(settings, client, store, lambda: 0.0)
    made.recover()
    yield made
    made.close()


@pytest.mark.parametrize("n", [1, 3, 700])
def test_an_entry_says_what_went_in(n: int) -> None:
    """Bit for bit, small or compressed."""
    rows = predictions(STAY, n)
    fields = encode(rows)
    found = decode({str(k).encode(): v for k, v in zip(fields[::2], fields[1::2], strict=True)})  # type: ignore[misc]
    assert (found.head, found.words) == (rows.head, rows.words)
    for name in ("at", "scores", "inputs", "defaulted"):
        assert np.array_equal(getattr(found, name), getattr(rows, name)), name


def test_what_is_no_entry_of_ours_is_passed_over(client: redis.Redis, settings: Settings, machine: Lake) -> None:
    """And said; what stands behind it comes through."""
    client.xadd(keys.PREDICTIONS, {"n": 1, "m": b"{}"})
    send(client, predictions(SELL, 2))
    machine.take_served()
    assert len(pd.read_parquet(settings.lake / "predictions")) == 2


def test_others_tools_read_them(client: redis.Redis, settings: Settings, machine: Lake) -> None:
    """A column an input, null where a model has no such; a NaN is null; an input called like a column is told apart."""
    sell, stay = predictions(SELL, 5), predictions(STAY, 4)
    send(client, sell)
    send(client, stay)
    machine.take_served()
    assert client.xlen(keys.PREDICTIONS) == 0
    frame = pd.read_parquet(settings.lake / "predictions").set_index("prediction_id")
    assert list(frame.loc[sell.words.ids, "lead_crm:source"]) == sell.inputs[:, 1].tolist()
    assert list(frame.loc[sell.words.ids, "input:model"]) == sell.inputs[:, 2].tolist()
    assert frame.loc[stay.words.ids, "lead_crm:source"].isna().all()
    assert frame.loc[sell.words.ids, ["shadow_probability", "shadow_version"]].isna().all(axis=None)
    assert list(frame.loc[stay.words.ids, "shadow_probability"]) == stay.scores[3].tolist()
    told = {
        id_: [n for n, gone in zip(STAY.inputs, row, strict=True) if gone]
        for id_, row in zip(stay.words.ids, stay.defaulted, strict=True)
    }
    source = f"read_parquet('{settings.lake}/predictions/*/*.parquet')"
    query = f"SELECT prediction_id, defaulted FROM {source} WHERE model = 'stay' AND organisation = 'örg'"
    with duckdb.connect() as connection:
        assert dict(connection.execute(query).fetchall()) == told


def test_a_kill_between_file_and_position_leaves_each_once(
    client: redis.Redis, settings: Settings, store: Store, machine: Lake
) -> None:
    """What was written and not committed is removed at the start, and written again."""
    send(client, predictions(SELL, 3))
    machine.take_served()
    send(client, predictions(SELL, 3, first=3))
    machine.predictions.shelf.write(machine.predictions.parts(machine.predictions.read()))
    again = Lake(settings, client, store, lambda: 0.0)
    again.recover()
    send(client, predictions(SELL, 2, first=6))
    again.take_served()
    ids = pd.read_parquet(settings.lake / "predictions")["prediction_id"]
    assert sorted(ids) == [f"sell-{i}" for i in range(8)]


def test_a_date_that_is_over_is_one_file(client: redis.Redis, settings: Settings, machine: Lake) -> None:
    """However often the lake came on that date."""
    for hour in range(1, 40):
        send(client, predictions(SELL, hour % 3 + 1, first=10 * hour), f"{1_770_000_000_000 + hour * 3_600_000}-1")
        machine.take_served()
    dates = sorted((settings.lake / "predictions").iterdir())
    assert [len(list(place.iterdir())) for place in dates[:-1]] == [1] * (len(dates) - 1)
    assert len(pd.read_parquet(settings.lake / "predictions")) == sum(hour % 3 + 1 for hour in range(1, 40))


def test_a_reader_sees_what_still_waits(client: redis.Redis, settings: Settings, store: Store, machine: Lake) -> None:
    """Each once, though an answer may have been sent twice."""
    rows = predictions(STAY, 4)
    send(client, rows)
    machine.take_served()
    send(client, rows)
    send(client, predictions(STAY, 2, first=4))
    reader = LakeReader(settings.lake, VOCABULARY, store, client)
    found = reader.predictions("SELECT prediction_id FROM predictions ORDER BY 1")
    assert found["prediction_id"].to_pylist() == [f"stay-{i}" for i in range(6)]
