"""The lake as columns: numpy numbers what Parquet holds, and no event passes through Python by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.vocabulary import UNKNOWN, Vocabulary
from flows import lake_files as files
from flows import push
from flows.lake_rows import SCHEMA
from training.people import Array
from training.restated import Restated
from training.told import Told

TRIES = 20  # a file that was listed may have been merged into another before it is opened
_KEYS = (
    *("partition", "organisation", "user", "mid", "type", "event", "tag", "name", "value"),
    *("ts", "logged_at", "joined"),
)


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


class Identify(msgspec.Struct):
    """What counts of a call that tells traits."""

    traits: dict[str, Any] | None = None


_identify = msgspec.json.Decoder(Identify).decode


def from_lake(path: Path, vocabulary: Vocabulary) -> Columns:
    """All events of a lake, each messageId once; users are `organisation/user`."""
    rows, raw = _read(path, vocabulary)
    names, person = _people(rows)
    first = _first(rows)
    place, whose, seen = _passed_on(rows, first, names, person)
    order = np.argsort(seen, kind="stable")
    place, whose, seen = place[order], whose[order], seen[order]
    code, value = _measured(vocabulary, rows)
    unknown = np.flatnonzero(_is(rows, "type", "track") & np.asarray(raw.is_valid()))
    code[unknown], value[unknown] = Restated(vocabulary).events(raw.take(pa.array(unknown)).to_pylist())
    ts, now = (_numbers(rows, name) for name in ("ts", "logged_at"))
    told = Told(vocabulary)
    pushes = _is(rows, "type", "push")
    for i in np.flatnonzero((_is(rows, "type", "identify") | pushes)[place]).tolist():
        at = int(place[i])
        said = raw[at].as_py()
        given = push.traits(vocabulary, push.decode(said)) if pushes[at] else _identify(said).traits or {}
        told.add(int(whose[i]), given, int(ts[at]), int(seen[i]))
    return Columns(names, whose, code[place], value[place], ts[place], now[place], seen, told)


def _read(path: Path, vocabulary: Vocabulary) -> tuple[pa.Table, pa.ChunkedArray]:
    """(all rows, in the log's order within a partition; the JSON of those that `_unsaid` picks)."""
    for left in reversed(range(TRIES)):
        try:
            parts = [_part(file.path, vocabulary) for file in files.current(files.everything(path))]
        except FileNotFoundError:
            if not left:
                raise
        else:
            break
    table = pa.concat_tables([_schema().empty_table(), *parts]).unify_dictionaries()
    return table.drop_columns(["raw"]).combine_chunks(), table["raw"]


def _part(path: Path, vocabulary: Vocabulary) -> pa.Table:
    """A file's rows; the JSON as sent, by far the largest column, only where some of it is needed."""
    with pq.ParquetFile(path) as opened:
        table = opened.read(columns=list(_KEYS))
        telling = _unsaid(table, vocabulary)
        raw = pa.nulls(len(table), pa.string())
        if pc.any(telling).as_py():
            raw = pc.if_else(telling, opened.read(columns=["raw"])["raw"], None)
    return table.append_column("raw", raw).cast(_schema())


def _unsaid(table: pa.Table, vocabulary: Vocabulary) -> pa.ChunkedArray:
    """Rows of which the other columns do not say all: that tell traits, or were unknown when they came, and no more."""
    type_, sent = (table[name].cast(pa.string()) for name in ("type", "name"))
    unknown = pc.fill_null(pc.and_(pc.equal(type_, "track"), table["event"].is_null()), fill_value=False)
    names = [name for name in sent.filter(unknown).unique().to_pylist() if name and vocabulary.named(name)]
    known_now = pc.and_(unknown, pc.is_in(sent, value_set=pa.array(names, pa.string())))
    return pc.or_(pc.is_in(type_, value_set=pa.array(["identify", "push"])), known_now)


def _schema() -> pa.Schema:
    return pa.schema([SCHEMA.field(name) for name in (*_KEYS, "raw")])


def _numbers(rows: pa.Table, name: str) -> Array:
    return np.asarray(rows[name].cast(pa.int64()))


def _is(rows: pa.Table, name: str, value: str) -> Array:
    return np.asarray(pc.fill_null(pc.equal(rows[name].cast(pa.string()), value), fill_value=False))


def _coded(rows: pa.Table, name: str) -> tuple[list[Any], Array]:
    """(a column's values, each row's index into them; -1 where it is null)."""
    column = rows[name].combine_chunks()
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    return coded.dictionary.to_pylist(), np.asarray(pc.fill_null(coded.indices, -1), np.int64)


def _people(rows: pa.Table) -> tuple[pa.StringArray, Array]:
    """(`organisation/user` of everybody, each row's person)."""
    organisations, organisation = _coded(rows, "organisation")
    users, user = _coded(rows, "user")
    pairs, person = np.unique(user * max(len(organisations), 1) + organisation, return_inverse=True)
    named = (divmod(pair, len(organisations)) for pair in pairs.tolist())
    return pa.array([f"{organisations[o]}/{users[u]}" for u, o in named], pa.string()), person


def _first(rows: pa.Table) -> Array:
    """Indices of the rows that are events, without those that a partition met before."""
    mid, partition = np.asarray(rows["mid"]), _numbers(rows, "partition")
    events = np.flatnonzero(mid)
    ordered = np.sort(mid[events])
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(twice):
        return events
    doubtful = events[np.isin(mid[events], twice)]
    order = doubtful[np.lexsort((doubtful, mid[doubtful], partition[doubtful]))]
    again = (mid[order][1:] == mid[order][:-1]) & (partition[order][1:] == partition[order][:-1])
    return np.setdiff1d(events, order[1:][again], assume_unique=True)


def _passed_on(rows: pa.Table, first: Array, names: pa.StringArray, person: Array) -> tuple[Array, Array, Array]:
    """(row, whose, since when it is theirs) of each event, and again of each that the log passed on to a user."""
    now = _numbers(rows, "logged_at")
    own = (first, person[first], now[first])
    passed = np.flatnonzero(_is(rows, "type", "absorb"))
    whom = pc.fill_null(pc.index_in(rows["joined"].take(pa.array(passed)).combine_chunks(), value_set=names), -1)
    anonymous = np.asarray(whom, np.int64)
    passed, anonymous = passed[anonymous >= 0], anonymous[anonymous >= 0]
    if not len(passed):
        return own
    order = np.lexsort((now[passed], anonymous))
    passed, anonymous = passed[order], anonymous[order]
    next_ = np.searchsorted(_key(anonymous, now[passed]), _key(person[first], now[first]))
    copied = np.append(anonymous, -1)[next_] == person[first]
    to = passed[next_[copied]]
    return (
        np.concatenate((first, first[copied])),
        np.concatenate((own[1], person[to])),
        np.concatenate((own[2], now[to])),
    )


def _key(person: Array, at: Array) -> Array:
    return (person << 42) | at


def _measured(vocabulary: Vocabulary, rows: pa.Table) -> tuple[Array, Array]:
    """Each row's event code, and its value in fixed point."""
    (events, event), (tags, tag) = _coded(rows, "event"), _coded(rows, "tag")
    code_of, scale_of = _codes(vocabulary, events, tags)
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
