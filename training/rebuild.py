"""`telltale rebuild`: state and features from the lake into an empty Redis, by the engine that made them.

The lake's events go back into the log under the ids that they had, a piece at a time, while the engine counts them as
history. Killed half-way it goes on where it was: how far it came stands in Redis, written with each piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows import lake_files as files
from flows.alert_store import open_alerts
from flows.entry import Kind, tick
from flows.external import ExternalView
from flows.high_mark import End, forget, marked
from flows.lake_files import Id, id_of
from flows.lake_read import LakeReader, Window
from flows.lake_store import Identity
from flows.plan import Plan
from flows.push import Push
from flows.resp import Connection, Refused, pack
from flows.restorer import Restorer
from flows.state import Layouts, identity
from flows.store import Store
from flows.streams import append
from onnx_models.session import Model
from training.rejoined import Rejoined
from training.relogged import Entry, entries

PIECE = 10_000  # events appended at once, and then written
DAY_MINUTES = 1440
EVENTS, PASSED = b"events", b"passed"  # what is done next: the log; time and episodes
_HELD = """
    SELECT count(*) AS n FROM rows WHERE mid <> 0
    AND (split_part(entry_id, '-', 1)::BIGINT, split_part(entry_id, '-', 2)::BIGINT) <= (?, ?)
"""
Step = Callable[[int], None]  # told how many rows more are done


class NotEmpty(ValueError):
    """This Redis holds a store already; the message says what to do."""


class Rebuild:
    """Of one lake into one Redis."""

    def __init__(
        self,
        settings: Settings,
        vocabulary: Vocabulary,
        whose: Identity,
        client: redis.Redis,
        dial: Callable[[], Connection],
        models: dict[str, Model],
    ) -> None:
        self._settings, self._vocabulary, self._client, self._dial = settings, vocabulary, client, dial
        self._models = models
        self.store = Store(whose.partitions, whose.clock, whose.seed, whose.version)
        self.lost: list[int] | None = _not_in_the_lake(settings, vocabulary, whose)
        self._views = {v.name: ExternalView(v, vocabulary.entity_of(v)) for v in vocabulary.external}

    def begin(self) -> None:
        """Takes the Redis, or goes on with it. Raises NotEmpty."""
        if self._client.get(keys.REBUILDING) is None:
            if next(self._client.scan_iter("tt:*", count=1_000), None) is not None:
                raise NotEmpty(
                    "this Redis holds a Telltale store, and a rebuild needs one that is empty: stop Telltale, "
                    "empty the database (FLUSHDB takes the write keys too), and rebuild again"
                )
            self._take()
        elif self._client.hget(keys.STORE, "seed") != b"%d" % self.store.seed:
            raise NotEmpty("the rebuild of another lake was begun in this Redis: empty it (FLUSHDB) first")

    def run(self, step: Step) -> None:
        """From the lake to the end: the store is then as it was, as of now."""
        self._connection = self._dial()
        engine = Restorer(self._vocabulary, self._settings, self.store, self._client, self._dial, self._models)
        try:
            if self._client.get(keys.REBUILDING) == EVENTS:
                self._fill(engine, step)
            self._worked(engine)
            self._pass_time()
            self._worked(engine)
            engine.reopen(self._opened())
            forget(self._settings.home)
            self._client.delete(keys.REBUILDING)
            engine.close()
        finally:
            engine.abandon()
            self._connection.close()

    def _take(self) -> None:
        """The store's identity, and the lake's positions, so that nothing is written to it twice."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.set(keys.REBUILDING, EVENTS)
            pipe.hset(keys.STORE, mapping=msgspec.to_builtins(self.store))
            for kind, key in ((files.EVENTS, keys.lake_position), (files.FEATURES, keys.served_position)):
                for p, last in files.lasts(self._settings.lake, kind).items():
                    pipe.set(key(p), _spelled(last))
            for last in files.lasts(self._settings.lake, files.PREDICTIONS).values():
                pipe.set(keys.PREDICTIONS_POSITION, _spelled(last))
            pipe.execute()

    def _worked(self, engine: Restorer) -> None:
        engine.catch_up(self._ends())
        engine.settle()

    def _ends(self) -> dict[int, bytes]:
        """By partition, the last id that its log gave."""
        return {p: self._end(keys.log(p)) for p in range(self.store.partitions)}

    def _end(self, log: str) -> bytes:
        found: Any = self._client.xinfo_stream(log)["last-generated-id"] if self._client.exists(log) else b"0-0"
        return bytes(found)

    # -- the log

    def _fill(self, engine: Restorer, step: Step) -> None:
        """Every entry that is not there yet; at the end, what had not been passed on."""
        ends = {p: id_of(end) for p, end in self._ends().items()}
        reader = LakeReader(self._settings.lake, self._vocabulary, self.store)
        layouts = Layouts(Plan(self._vocabulary), self._client)
        joined = Rejoined(reader, self._vocabulary, layouts, self._settings.dedup_hours)
        for piece in _pieces(entries(self._settings.lake, self._vocabulary)):
            for entry in piece:
                joined.note(entry)
            if due := [entry for entry in piece if entry.id > ends[entry.partition]]:
                self._append(due, joined)
                engine.catch_up({entry.partition: _spelled(entry.id).encode() for entry in due})
                engine.settle()
            step(sum(len(entry.draft) for entry in piece))
        self._pass_on(joined)

    def _append(self, piece: list[Entry], joined: Rejoined) -> None:
        """All of it with its counts and the rows of views that outside data fills, or nothing."""
        contents = joined.contents(entry for entry in piece if entry.kind == Kind.ABSORB)
        commands = []
        for entry in piece:
            p, e = entry.partition, entry.draft.encode(self._vocabulary.fingerprint, history=True, kind=entry.kind)
            rest = contents[p, entry.id].fields if entry.kind == Kind.ABSORB else ["r", entry.draft.encode_raw()]
            commands.append(pack("XADD", keys.log(p), _spelled(entry.id), "e", e, *rest))
            commands.append(pack("HINCRBY", keys.counts(p), "accepted", entry.accepted))
            commands += [pack("HINCRBY", keys.UNKNOWN, name, 1) for name in entry.unknown]
            commands += [self._pushed(name, row) for name, row in entry.pushes]
        self._transaction(commands)

    def _pushed(self, name: str, row: Push) -> bytes:
        values = [[row.features.get(field.name)] for field in self._vocabulary.views[row.view].fields]
        return self._views[row.view].write([name.encode()], [row.at], values)

    def _pass_on(self, joined: Rejoined) -> None:
        """Once: in one transaction with the word that it is done."""
        passed = [append(self.store.clock, a.partition, a.ms, "e", a.e, *a.content.fields) for a in joined.rest()]
        self._transaction([*passed, *self._loss(), pack("SET", keys.REBUILDING, PASSED)])

    def _loss(self) -> Iterator[bytes]:
        """What nobody has any more was accepted all the same; whoever rebuilds is told of it."""
        for p, count in enumerate(self.lost or ()):
            yield pack("HINCRBY", keys.counts(p), "accepted", count)
            yield pack("HINCRBY", keys.counts(p), "lost", count)
            yield pack("HSET", keys.LOSSES, p, count)

    def _transaction(self, commands: list[bytes]) -> None:
        """Raises Refused with the first command that the store did not take."""
        self._connection.send(b"".join([pack("MULTI"), *commands, pack("EXEC")]))
        for _ in range(len(commands) + 1):
            self._connection.read()
        if refused := next((reply for reply in self._connection.read() if isinstance(reply, Refused)), None):
            raise refused

    # -- as of now

    def _pass_time(self) -> None:
        """A day of ticks at once, so that everybody is as of the log's end; they open no alert."""
        seconds, micros = self._client.time()
        now = int(seconds) * 1000 + int(micros) // 1000
        if self.store.clock == "log":
            now = max(id_of(end)[0] for end in self._ends().values())
        minute = now // 60_000
        for p in range(self.store.partitions):
            entry = tick(minute - DAY_MINUTES + 1, minute, history=True)
            self._connection.call(append(self.store.clock, p, now, "e", entry))

    def _opened(self) -> dict[int, dict[str, int]]:
        """By person and alert type, when an episode last opened, as the alerts in SQL say."""
        alerts = open_alerts(self._settings)
        found: dict[int, dict[str, int]] = {}
        for organisation, user, kind, ms in alerts.opened():
            found.setdefault(identity(self.store, f"{organisation}/{user}".encode()), {})[kind] = ms
        alerts.close()
        return found


def _not_in_the_lake(settings: Settings, vocabulary: Vocabulary, whose: Identity) -> list[int] | None:
    """By partition, how many events were acknowledged that the lake does not have; None where that cannot be known."""
    known = marked(settings.home, whose.seed)
    if known is None or whose.removed_until:
        return None
    reader = LakeReader(settings.lake, vocabulary, whose)
    return [max(end.accepted - _held(reader, p, end), 0) for p, end in enumerate(known.ends)]


def _held(reader: LakeReader, partition: int, end: End) -> int:
    """Events of the lake up to this entry."""
    found = reader.sql(_HELD, Window(partitions=(partition,)), (end.entry.ms, end.entry.seq))
    return int(found["n"][0].as_py())


def _pieces(found: Iterable[Entry]) -> Iterator[list[Entry]]:
    piece, events = list[Entry](), 0
    for entry in found:
        piece.append(entry)
        events += len(entry.draft)
        if events >= PIECE:
            yield piece
            piece, events = [], 0
    yield piece


def _spelled(entry: Id) -> str:
    return f"{entry[0]}-{entry[1]}"
