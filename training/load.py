"""`telltale backfill --load`: what people's state lacks of today's features, from the lake through the log.

Each person's part is an entry of their partition, so the engine stays the only one who writes, and the stream runs on.
It applies only to somebody of the origin that it was made for: a second run, or one after a kill, adds nothing twice.
Whoever's state holds a new feature already (another window of what was counted), but who was not written since, is only
touched: by a part that is for nobody's origin.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
import numpy as np
import pyarrow as pa
import redis

from feature_repo import keys, layout
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows.entry import Draft, Kind, pack_raw
from flows.eras import begun, code, loaded
from flows.lake_read import LakeReader, Window
from flows.partition import entry_id
from flows.plan import Plan
from flows.resp import Connection
from flows.state import Layouts, key
from flows.store import Store, connect, dial, open_store
from flows.streams import append
from training.lacking import Lack, Lacking
from training.past import NotReadable
from training.people import Array
from training.restated import Restated
from training.seen import from_lake

PEOPLE = 10_000  # worked at once
EVENTS = 500_000
ENTRY = 128  # people in an entry: some 20 ms of the engine's time
AHEAD = 4  # entries that the engine has not counted yet, at most
PATIENCE = 60.0  # seconds without any progress of the engine
DAY_TILES = 90
NOBODY = -1  # no origin


class Loaded(msgspec.Struct):
    """How many people there are to whom something could have been lacking, and who got it."""

    people: int = 0
    loaded: int = 0


class _Somebody(msgspec.Struct, frozen=True):
    uid: int
    name: bytes
    origin: int
    relay: bool


class Load:
    """One run over a store whose engine runs under this vocabulary. Raises NotReadable where it does not."""

    def __init__(self, settings: Settings, vocabulary: Vocabulary, client: redis.Redis, store: Store) -> None:
        self.done = Loaded()
        self._client, self._store = client, store
        self._layouts = Layouts(Plan(vocabulary), client)
        self._eras = self._layouts.eras
        self._lake = LakeReader(settings.lake, vocabulary, store, client)
        self._restated = Restated(vocabulary)
        self._sent: list[tuple[int, bytes]] = []
        self._until = {p: self._note(p) for p in range(store.partitions)}
        self._connection: Connection = dial(settings)
        # Our code may be another than the engine's: what we hand it says under which it was made.
        client.hset(keys.LAYOUTS, str(self._layouts.fingerprint), msgspec.json.encode(self._layouts.plan.slots))

    def run(self) -> Loaded:
        """Those who were identified come first: what they lacked is their user's, who waits for it."""
        for relay in (True, False):
            for partition in range(self._store.partitions):
                for bucket in self._buckets(partition):
                    self._load(partition, bucket, relay=relay)
            self._wait(0)
        self.done.people = sum(len(self._uids(p)) for p in range(self._store.partitions))
        self._connection.close()
        return self.done

    def _note(self, partition: int) -> bytes:
        """The last entry that is read for this era, the same in each run, so that a later load knows it."""
        era = str(self._eras.today)
        if not self._eras.entered or not self._client.hexists(keys.eras(partition), era):
            raise NotReadable(
                "backfill --load: the engine has not run with this vocabulary yet: start it (`telltale up`), then load"
            )
        last = self._client.xrevrange(keys.log(partition), count=1)
        end = last[0][0] if last else self._client.get(keys.position(partition)) or b"0-0"
        self._client.hsetnx(keys.loads(partition), era, end)
        return bytes(self._client.hget(keys.loads(partition), era) or b"")

    # -- whom

    def _uids(self, partition: int) -> Array:
        """Everybody of a partition whom the store knows."""
        with self._client.pipeline(transaction=False) as pipe:
            for minute in range(1440):
                pipe.smembers(keys.slice_of(partition, minute))
            known = [int(uid) for members in pipe.execute() for uid in members]
        return np.array(known, np.int64).view(np.uint64)

    def _buckets(self, partition: int) -> Iterator[tuple[int, int, Array]]:
        """(of how many, which, whom the store knows of them): parts that fit into memory."""
        uids = self._uids(partition)
        count = 'SELECT count(*) AS n FROM rows WHERE "partition" = ?'
        events = self._lake.sql(count, Window(partitions=(partition,)), (partition,))["n"][0].as_py()
        parts = 1 + max(events // EVENTS, len(uids) // PEOPLE)
        for part in range(parts):
            yield parts, part, uids[uids % np.uint64(parts) == part]

    def _known(self, uids: Array) -> dict[int, _Somebody]:
        ids = uids.tolist()
        found = self._client.mget([key(prefix, uid) for prefix in (keys.HOT, keys.COLD) for uid in ids]) if ids else []
        there = [(uid, h, c) for uid, h, c in zip(ids, found[: len(ids)], found[len(ids) :], strict=True) if h and c]
        rows, names, _ = self._layouts.read([h for _, h, _ in there], [c for _, _, c in there])
        origins = code(rows[:, self._layouts.plan.origin]).tolist()
        return {
            uid: _Somebody(uid, name.partition(b"\0")[0], origin, b"\0" in name)
            for (uid, _, _), name, origin in zip(there, names, origins, strict=True)
        }

    # -- what

    def _load(self, partition: int, bucket: tuple[int, int, Array], *, relay: bool) -> None:
        parts, part, uids = bucket
        known = self._known(uids)
        due = {uid: each for uid, each in known.items() if each.origin != loaded(self._eras.today)}
        if relay:
            due = {uid: each for uid, each in due.items() if each.relay}
            if not due:
                return
        rows = self._rows(partition, parts, part)
        if not relay:
            due = self._strangers(rows, known) | due
        people = list(due.values())
        place_of = {each.uid: i for i, each in enumerate(people)}
        seen, told = from_lake(rows, place_of, self._restated)
        origin = np.array([each.origin for each in people], np.int64)
        lack = Lacking(self._eras, self._client, partition, self._until[partition]).of(origin, seen, told)
        null = np.array([self._eras.lacks(each) for each in origin.tolist()], bool)
        which = np.flatnonzero(null | lack.some)
        self._send(partition, people, lack, which)
        if not relay:
            self._touch(partition, self._unwritten(known.keys() - {people[i].uid for i in which.tolist()}, known))

    def _rows(self, partition: int, parts: int, part: int) -> pa.Table:
        until = entry_id(self._until[partition])
        asked = (partition, parts, part, until.ms, until.seq)
        return self._lake.sql(_ROWS, Window(partitions=(partition,)), asked)

    def _strangers(self, rows: pa.Table, known: dict[int, _Somebody]) -> dict[int, _Somebody]:
        """People whom the store does not know, since all that they did was unknown."""
        names = dict(zip(rows["uid"].to_pylist(), rows["name"].to_pylist(), strict=True))
        began = begun(self._eras.today)
        return {u: _Somebody(u, name.encode(), began, relay=False) for u, name in names.items() if u not in known}

    def _unwritten(self, uids: set[int], known: dict[int, _Somebody]) -> list[_Somebody]:
        """Those of them whose features, as they are served, lack one of today's."""
        vocabulary = self._layouts.plan.vocabulary
        fields = [layout.field(vocabulary.view, feature.name) for feature in vocabulary.features]
        people = [known[uid] for uid in uids if not known[uid].relay]
        with self._client.pipeline(transaction=False) as pipe:
            for each in people:
                pipe.hmget(layout.entity_key(vocabulary.join_key, each.name), fields)
            return [each for each, values in zip(people, pipe.execute(), strict=True) if None in values]

    # -- how

    def _touch(self, partition: int, people: list[_Somebody]) -> None:
        nothing = Lack(
            np.zeros((len(people), self._layouts.plan.hot), np.int64), [b""] * len(people), np.zeros(len(people), bool)
        )
        them = [msgspec.structs.replace(each, origin=NOBODY) for each in people]
        self._send(partition, them, nothing, np.arange(len(people)))

    def _send(self, partition: int, people: list[_Somebody], lack: Lack, which: Array) -> None:
        for low in range(0, len(which), ENTRY):
            part = which[low : low + ENTRY].tolist()
            draft = Draft()
            for i in part:
                draft.add(people[i].uid, people[i].name, 0, 0, value=people[i].origin)
            hot = pack_raw([self._layouts.head + lack.hot[i].tobytes() for i in part])
            cold = pack_raw([self._layouts.cold(people[i].name, lack.closed[i]) for i in part])
            fields = ("e", draft.encode(0, kind=Kind.LOAD), "h", hot, "c", cold)
            ms = entry_id(self._until[partition]).ms
            sent = self._connection.call(append(self._store.clock, partition, ms, *fields))
            self._sent.append((partition, sent))
            self.done.loaded += len(part)
            self._wait(AHEAD)

    def _wait(self, most: int) -> None:
        """Until the engine has counted all but `most` of what was sent, so that events do not wait for long."""
        since = time.monotonic()
        while len(self._sent) > most:
            partition, sent = self._sent[0]
            position = self._client.get(keys.position(partition)) or b"0-0"
            if entry_id(position) >= entry_id(sent):
                self._sent.pop(0)
                since = time.monotonic()
            elif time.monotonic() - since > PATIENCE:
                raise NotReadable(f"backfill --load: the engine counted nothing for {PATIENCE:.0f} s: does it run?")
            else:
                time.sleep(0.01)


_ROWS = """
    SELECT uid, organisation || '/' || "user" AS name, epoch_ms(ts) AS ts, epoch_ms(logged_at) AS now, type, event, tag,
        name AS sent, value, CASE WHEN type IN ('track', 'identify', 'push') THEN raw END AS raw,
        CAST(split_part(entry_id, '-', 2) AS BIGINT) AS nth
    FROM events WHERE "partition" = ? AND uid % ? = ?
        AND (epoch_ms(logged_at), CAST(split_part(entry_id, '-', 2) AS BIGINT)) <= (?, ?)
    ORDER BY now, nth, "index"
"""


def load(settings: Settings, vocabulary: Vocabulary) -> int:
    """The job: prints what it did. Raises NotReadable, StoreError."""
    client = connect(settings)
    done = Load(settings, vocabulary, client, open_store(client)).run()
    print(f"{done.loaded} of {done.people} people lacked something of today's features, and have it now")
    if 0 < settings.lake_days < DAY_TILES:
        print(f"the lake keeps {settings.lake_days} days (TELLTALE_LAKE_DAYS): what came before is not in it")
    return 0
