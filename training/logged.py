"""What the log held, from the lake's rows: what each person did, told and took over, as the engine met it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from feature_repo.traits import bits
from feature_repo.vocabulary import PUSHED, SILENT, UNKNOWN, Vocabulary
from flows import push
from flows.lake_rows import Passed
from flows.state import identity
from flows.store import Store
from flows.windows import Table
from training.people import Array
from training.restated import Restated

MINUTE = 60_000
_NUMBER = 21  # bits of an entry id's second part


class Absorbed(msgspec.Struct, frozen=True):
    """At `at` an anonymous person's history up to `until`, in their own partition, was added; None: not known."""

    at: int
    anonymous: int
    until: int | None


class Person(msgspec.Struct):
    """One person's entries in the log's order. `at`, `code`, `value`, `ts`, `now`: int64 (n,), of events that count.

    `told`: (at, trait, bits, ts). `joined`: since when an anonymous person is somebody else.
    """

    events: Array  # (5, n)
    told: list[tuple[int, int, int, int]] = []
    absorbed: list[Absorbed] = []
    joined: int | None = None


class Traits(msgspec.Struct):
    """What counts of a call that tells traits."""

    traits: dict[str, Any] | None = None


def place(entry_id: bytes) -> int:
    """An entry id as one number, in the same order."""
    ms, _, number = entry_id.partition(b"-")
    return int(ms) << _NUMBER | int(number)


def entry_at(place: int) -> str:
    """The entry id of a number that `place` gave."""
    return f"{place >> _NUMBER}-{place & ((1 << _NUMBER) - 1)}"


def ms_at(place: int) -> int:
    return place >> _NUMBER


class Codes:
    """The running vocabulary's numbers for what the lake names.

    `restated`: also for events that were unknown when they came and are not now, as a load brings them.
    """

    def __init__(self, vocabulary: Vocabulary, *, restated: bool) -> None:
        self._vocabulary = vocabulary
        self._restated = Restated(vocabulary) if restated else None
        self._known: dict[tuple[str | None, str | None, str | None], tuple[int, int]] = {}

    def event(self, row: dict[str, Any]) -> tuple[int, int]:
        """(code, value in fixed point) of a row that is no join."""
        if self._restated and row["type"] == "track" and row["event"] is None and row["raw"]:
            code, value = self._restated.events([row["raw"]])[:, 0].tolist()
            return code, value
        code, scale = self._of(row["type"], row["event"], row["tag"])
        return code, round((row["value"] or 0.0) * scale)

    def _of(self, kind: str | None, event: str | None, tag: str | None) -> tuple[int, int]:
        """(code, scale of its value) of a row's type, event and tag."""
        key = (kind, event, tag)
        if key not in self._known:
            self._known[key] = self._looked_up(*key)
        return self._known[key]

    def _looked_up(self, kind: str | None, event: str | None, tag: str | None) -> tuple[int, int]:
        named = self._vocabulary.event.get(event or "")
        if named is None:
            return (UNKNOWN if kind == "track" else PUSHED if kind == "push" else SILENT), 1
        code = self._vocabulary.code
        return code.get((named.name, tag), code[named.name, None]), named.scale

    def traits(self, kind: str | None, raw: str | None) -> Iterator[tuple[int, int]]:
        """(trait id, bits) of each trait that a call or a row of an external view tells."""
        if not raw or kind not in {"identify", "push"}:
            return
        for name, value in self._told(kind, raw).items():
            if (number := self._vocabulary.trait_id.get(name)) is not None and value is not None:
                with suppress(ValueError):  # the door does not take it either
                    yield number, bits(self._vocabulary.traits[number], value)

    def _told(self, kind: str, raw: str) -> dict[str, Any]:
        if kind == "push":
            return dict(push.traits(self._vocabulary, push.decode(raw)))
        return msgspec.json.decode(raw, type=Traits).traits or {}


# Of these people, and of all messages that were also theirs: of two the engine counted the first.
QUERY = """
    WITH wanted AS (SELECT unnest(CAST(? AS UBIGINT[])) AS uid),
    messages AS (SELECT DISTINCT "partition", mid FROM rows WHERE mid <> 0 AND uid IN (SELECT uid FROM wanted))
    SELECT "partition", uid, mid, epoch_ms(ts) AS ts, epoch_ms(logged_at) AS now,
        (epoch_ms(logged_at) << 21) | CAST(split_part(entry_id, '-', 2) AS BIGINT) AS place,
        type, event, tag, value, joined, state,
        CASE WHEN type IN ('identify', 'push') OR event IS NULL THEN raw END AS raw
    FROM rows WHERE uid IN (SELECT uid FROM wanted)
        OR ("partition", mid) IN (SELECT ("partition", mid) FROM messages)
    ORDER BY "partition", place, "index"
"""


def people(rows: pa.Table, vocabulary: Vocabulary, store: Store, horizon: int, *, restated: bool) -> dict[int, Person]:
    """By identity, whoever the rows of QUERY tell of. `horizon`: minutes for which a message counts once."""
    codes, found = Codes(vocabulary, restated=restated), dict[int, Person]()
    events: dict[int, list[tuple[int, int, int, int, int]]] = {}
    fresh = _first(rows, horizon)
    for i, row in enumerate(rows.to_pylist()):
        uid, at = row["uid"], row["place"]
        person = found.setdefault(uid, Person(np.zeros((5, 0), np.int64)))
        if row["type"] == "absorb":
            state = msgspec.msgpack.decode(row["state"], type=Passed) if row["state"] else None
            until = place(state.position) if state and state.position else None
            person.absorbed.append(Absorbed(at, identity(store, row["joined"].encode()), until))
        elif row["type"] == "join":
            person.joined = at if person.joined is None else person.joined
        elif fresh[i]:
            code, value = codes.event(row)
            if code not in {UNKNOWN, SILENT, PUSHED}:
                events.setdefault(uid, []).append((at, code, value, row["ts"], row["now"]))
            told = codes.traits(row["type"], row["raw"])
            person.told += [(at, trait, bit, min(row["ts"], row["now"])) for trait, bit in told]
    for uid, counted in events.items():
        found[uid].events = np.array(counted, np.int64).T
    return found


def apply(table: Table, row: Array, person: Person, after: int, until: int) -> None:
    """Let a person's entries beyond `after` and up to `until` happen to a row of a table, as the engine does."""
    low, high = np.searchsorted(person.events[0], [after, until], side="right")
    _, code, value, ts, now = person.events[:, low:high]
    if high > low:
        table.apply(np.repeat(row, high - low), code, value, ts, now)
    told = np.array([t[1:] for t in person.told if after < t[0] <= until], np.int64).reshape(-1, 3)
    table.apply_traits(np.repeat(row, len(told)), *told.T)


def _first(rows: pa.Table, horizon: int) -> list[bool]:
    """Which rows are no message that the partition met within the horizon before: the engine's memory, asked again."""
    seen: dict[tuple[int, int], int] = {}
    out = []
    for partition, mid, now in zip(*(rows[name].to_pylist() for name in ("partition", "mid", "now")), strict=True):
        minute, before = now // MINUTE, seen.get((partition, mid))
        fresh = mid == 0 or before is None or before + horizon < minute
        if fresh:
            seen[partition, mid] = minute
        out.append(fresh)
    return out
