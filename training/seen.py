"""From the lake's rows of one partition to what `lacking` compares."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.vocabulary import UNKNOWN
from training.lacking import Seen, Told
from training.people import Array
from training.restated import Restated


def from_lake(rows: pa.Table, place_of: dict[int, int], restated: Restated) -> tuple[Seen, Told]:
    """Events, and traits told, of the people of `place_of` (identity -> number). Rows in the log's order."""
    people = np.array([place_of.get(uid, -1) for uid in rows["uid"].to_pylist()], np.int64)
    rows, person = rows.filter(pa.array(people >= 0)), people[people >= 0]
    ts, now, nth = (np.asarray(rows[name], np.int64) for name in ("ts", "now", "nth"))
    ts, entry = np.minimum(ts, now), (now << 20) | nth
    texts, types = rows["raw"].to_pylist(), rows["type"].to_pylist()
    pair, pairs = _pairs(rows)
    tracked = np.flatnonzero(np.array([type_ == "track" for type_ in types], bool))
    code, value = np.full((2, len(person)), UNKNOWN, np.int64)
    code[tracked], value[tracked] = restated.events([texts[i] for i in tracked.tolist()])
    measured = np.asarray(pc.fill_null(rows["value"], 0.0), np.float64)
    sent = pc.fill_null(rows["sent"].cast(pa.string()), "").combine_chunks().dictionary_encode()
    named = (np.asarray(sent.indices, np.int64), pairs, sent.dictionary.to_pylist())
    seen = Seen(person, entry, ts, now, pair, measured, code, value, *named)
    return seen, _told(types, texts, (person, entry, ts), restated)


def _pairs(rows: pa.Table) -> tuple[Array, list[tuple[str | None, str | None]]]:
    """(each row's place in the list or -1, what the door took events for)."""
    place: dict[tuple[str | None, str | None], int] = {}
    taken = zip(rows["event"].to_pylist(), rows["tag"].to_pylist(), strict=True)
    found = [place.setdefault(pair, len(place)) if pair[0] else -1 for pair in taken]
    return np.array(found, np.int64), list(place)


def _told(types: list[str], texts: list[str], of: tuple[Array, Array, Array], restated: Restated) -> Told:
    person, entry, ts = of
    told = [
        (i, *trait)
        for i, (type_, text) in enumerate(zip(types, texts, strict=True))
        if type_ in {"identify", "push"}
        for trait in restated.traits(type_, text)
    ]
    at, trait, bits = np.array(told, np.int64).reshape(-1, 3).T
    return Told(person[at], entry[at], trait, bits, ts[at])
