"""The lake as columns: DuckDB reads it, numpy numbers it, no event passes through Python by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.vocabulary import UNKNOWN, Vocabulary
from flows.lake_files import everything
from flows.lake_read import LakeReader
from flows.store import Store
from training.people import Array
from training.told import Told


class Columns(msgspec.Struct, frozen=True):
    """Events of a past in the order in which they were seen: int64 (n,) each, as in `training.backfill.Stream`."""

    names: pa.StringArray
    person: Array
    code: Array
    value: Array
    ts: Array
    now: Array
    seen: Array
    told: Told


class Call(msgspec.Struct):
    """What counts of a call that tells traits."""

    traits: dict[str, Any] | None = None


# What an anonymous person did is the user's too, from when the log passed it on.
_ROWS = """
    WITH mine AS (
        SELECT organisation || '/' || "user" AS name, event, tag, value, epoch_ms(ts) AS ts, epoch_ms(logged_at) AS now,
            CAST(split_part(entry_id, '-', 2) AS BIGINT) AS nth, "index" AS place,
            CASE WHEN type = 'identify' THEN raw END AS told
        FROM events),
    passed AS (
        SELECT joined, organisation || '/' || "user" AS name, epoch_ms(logged_at) AS seen
        FROM links WHERE type = 'absorb'),
    seen AS (
        SELECT *, now AS seen FROM mine UNION ALL BY NAME
        SELECT mine.* EXCLUDE (name), passed.name, passed.seen
        FROM mine ASOF JOIN passed ON mine.name = passed.joined AND mine.now <= passed.seen)
    SELECT name, event, tag, value, ts, now, seen, told FROM seen ORDER BY seen, now, nth, place
"""
_call = msgspec.json.Decoder(Call).decode


def from_lake(path: Path, vocabulary: Vocabulary) -> Columns:
    """All events of a lake; users are `organisation/user`."""
    partitions = max((file.partition for file in everything(path)), default=0) + 1
    offline = Store(partitions=partitions, clock="log", seed=0)  # the seed finds single people; all are read here
    rows = LakeReader(path, vocabulary, offline).sql(_ROWS)
    people = rows["name"].combine_chunks().dictionary_encode()
    person = np.asarray(people.indices, np.int64)
    code, value = _measured(vocabulary, rows)
    ts, now, seen = (np.asarray(rows[name], np.int64) for name in ("ts", "now", "seen"))
    told = Told(vocabulary)
    texts = rows["told"].combine_chunks()
    for i in np.flatnonzero(np.asarray(texts.is_valid())).tolist():
        told.add(int(person[i]), _call(texts[i].as_py()).traits or {}, int(ts[i]), int(seen[i]))
    return Columns(people.dictionary, person, code, value, ts, now, seen, told)


def _measured(vocabulary: Vocabulary, rows: pa.Table) -> tuple[Array, Array]:
    """Each row's event code, and its value in fixed point."""
    events, tags = (rows[name].combine_chunks().dictionary_encode() for name in ("event", "tag"))
    code_of, scale_of = _codes(vocabulary, events.dictionary.to_pylist(), tags.dictionary.to_pylist())
    event, tag = (np.asarray(pc.fill_null(x.indices, -1)) for x in (events, tags))  # the last stands for none
    value = np.asarray(pc.fill_null(rows["value"], 0.0))
    return code_of[event, tag], np.rint(value * scale_of[event]).astype(np.int64)


def _codes(vocabulary: Vocabulary, events: list[str], tags: list[str]) -> tuple[Array, Array]:
    """(events + 1, tags + 1) event codes, and (events + 1,) scales; the last of each for none."""
    code = np.full((len(events) + 1, len(tags) + 1), UNKNOWN, np.int64)
    scale = np.ones(len(events) + 1)
    for i, name in enumerate(events):
        if event := vocabulary.event.get(name):
            plain = vocabulary.code[name, None]
            code[i] = [vocabulary.code.get((name, tag), plain) for tag in (*tags, None)]
            scale[i] = event.scale
    return code, scale
