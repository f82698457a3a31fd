"""Group commit: all events that arrive while one append is under way share the next one.

One append is one MULTI ... EXEC: an entry and its count of accepted events for every partition touched. The
store answers EXEC after its fsync, so whoever waited may then say that the event is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

from feature_repo import keys
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows.entry import Draft, Kind
from flows.high_mark import End, HighMark
from flows.losses import answered, packed, went_back
from flows.partition import entry_id
from flows.resp import Refused, StoreError, pack
from flows.store import Store
from serving.connection import Connection, dial

log = logging.getLogger("telltale.append")

GROUP_BYTES = 4 << 20  # of raw JSON in one append, so that no caller waits long for the others'
AHEAD = 2  # appends under way: the next is on its way while the store syncs the one before
MULTI, EXEC = pack("MULTI"), pack("EXEC")
WHOSE = pack("HGET", keys.STORE, "seed")  # asked in the transaction: an emptied store takes entries as well
WAITING_BYTES = 64 << 20  # of raw JSON not yet stored; beyond it callers are told to come back
BACK_OFF = (0.05, 1.0)  # seconds between attempts to reconnect: first, at most

# In a store that runs on event time, an entry's id is its newest event's time, never before the last id.
APPEND_AT = """
local id = redis.pcall('XADD', KEYS[1], ARGV[1] .. '-*', 'e', ARGV[2], 'r', ARGV[3])
if type(id) == 'table' and id.err then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then id = string.match(info[i + 1], '^%d+') end
  end
  id = redis.call('XADD', KEYS[1], id .. '-*', 'e', ARGV[2], 'r', ARGV[3])
end
return {id, redis.call('HINCRBY', KEYS[2], 'accepted', ARGV[4])}
"""


class Unavailable(Exception):
    """Not stored, as far as we know: come back in `retry_after` seconds (a resent messageId counts once)."""

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Contradiction(StoreError):
    """The store is not the one, or not as far, as what it acknowledged says."""


class Part(NamedTuple):
    """What goes into one entry of its own."""

    partition: int
    history: bool
    kind: Kind = Kind.EVENTS
    hour: int = 0


class Group:
    """The events of one append, and who waits for it.

    `writes`: commands that go into the same transaction. Once it is stored, `replies` holds their answers, and
    `ids` the entries' ids. `sent`: it is on its way, and what comes goes into another.
    """

    __slots__ = ("drafts", "ids", "replies", "sent", "size", "unknown", "waiting", "writes")

    def __init__(self) -> None:
        self.drafts: dict[Part, Draft] = {}
        self.unknown: Counter[str] = Counter()
        self.writes: list[bytes] = []
        self.ids: dict[Part, bytes] = {}
        self.replies: list[Any] = []
        self.size = 0
        self.waiting: list[asyncio.Future[None]] = []
        self.sent = asyncio.Event()

    def draft(self, partition: int, history: bool, kind: Kind = Kind.EVENTS, hour: int = 0) -> Draft:
        """Where to put an event of this partition; `history`: count it, but let nothing fire.

        `hour`: of its time, in a log that takes its time from events; else events of days would be logged at the last.
        """
        key = Part(partition, history, kind, hour)
        draft = self.drafts.get(key)
        if draft is None:
            draft = self.drafts[key] = Draft()
        return draft

    def parts(self) -> list[tuple[Part, Draft]]:
        """In the order in which they are appended."""
        return sorted(self.drafts.items(), key=lambda item: item[0].hour)

    def finish(self, error: Unavailable | None = None) -> None:
        self.sent.set()
        for future in self.waiting:
            if not future.done():
                future.set_exception(error) if error else future.set_result(None)


class Appender:
    """Use: `group = appender.room()`, put events into its drafts, then `await appender.stored(group, size)`."""

    def __init__(self, settings: Settings, vocabulary: Vocabulary, store: Store) -> None:
        self._settings, self._store, self._clock = settings, store, store.clock
        self.mark = HighMark(settings, store)
        self._fingerprint, self._codebook = vocabulary.fingerprint, vocabulary.codebook
        self._groups: deque[Group] = deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._refusal = "not connected to the store yet"  # empty: open
        self._full = ""  # why the store takes no more, as last polled
        self._halted = False  # the store is not what it was: nothing more is sent
        self._last: dict[int, int] = {}  # log clock: partition -> ms of its newest entry
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begins to connect; waits until that succeeded or failed for the first time."""
        self._loop = asyncio.get_running_loop()
        connected = asyncio.Event()
        self._tasks = [asyncio.create_task(self._run(connected)), asyncio.create_task(self._watch_memory())]
        for task in self._tasks:
            task.add_done_callback(self._ended)
        await connected.wait()

    async def stop(self) -> None:
        """Call once nobody waits: what still does is refused."""
        self._refusal = "shutting down"
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._fail(self._refusal)
        self.mark.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task that ends by itself is a fault of ours: tell the callers, and let a fresh process take over."""
        if task.cancelled():
            return
        log.critical("the appender failed", exc_info=task.exception())
        self._fail(f"the appender failed: {task.exception()!r}")
        signal.raise_signal(signal.SIGTERM)

    @property
    def refusal(self) -> str:
        """Why nothing can be appended now; empty when it can."""
        return self._refusal or self._full

    def room(self) -> Group:
        """The group that takes events now; fill it before awaiting anything. Raises Unavailable."""
        if self._refusal or self._full:
            raise Unavailable(self._refusal or self._full)
        if self._waiting_bytes > WAITING_BYTES:
            raise Unavailable(f"{self._waiting_bytes} bytes of events wait to be stored already")
        if not self._groups or self._groups[-1].size > GROUP_BYTES:
            self._groups.append(Group())
        return self._groups[-1]

    async def stored(self, group: Group, size: int) -> None:
        """Returns once the group, `size` bytes of it ours, is on disk. Raises Unavailable when that is not known."""
        await self.submit(group, size)

    def submit(self, group: Group, size: int) -> asyncio.Future[None]:
        """The same for who waits later."""
        group.size += size
        self._waiting_bytes += size
        future = self._loop.create_future()
        group.waiting.append(future)
        self._wake.set()
        return future

    async def _run(self, connected: asyncio.Event) -> None:
        pause, most = BACK_OFF
        while True:
            try:
                connection = await self._connect()
                connected.set()
                pause = BACK_OFF[0]
                await self._commit_all(connection)
            except* Contradiction as errors:
                self._fail(str(errors.exceptions[0]))
            except* StoreError as errors:
                self._fail(f"the store is not reachable: {errors.exceptions[0]}")
            connected.set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, most)

    async def _connect(self) -> Connection:
        connection = await dial(self._settings)
        announce = pack("HSET", keys.VOCABULARIES, self._fingerprint, self._codebook)
        standing, reply = await connection.call([packed(self._store), announce])
        wrong: StoreError | None = next((each for each in (standing, reply) if isinstance(each, Refused)), None)
        if wrong is None and (back := went_back(self._store, self.mark.ends, answered(standing))):
            wrong = Contradiction(back)
        if wrong is not None:
            connection.close()
            raise wrong
        self._refusal, self._halted = "", False
        return connection

    def _fail(self, why: str) -> None:
        if why != self._refusal:
            log.warning("%s", why)
        self._refusal = why
        while self._groups:
            group = self._groups.popleft()
            self._waiting_bytes -= group.size
            group.finish(Unavailable(why))

    async def _commit_all(self, connection: Connection) -> None:
        free = asyncio.Semaphore(AHEAD)
        async with asyncio.TaskGroup() as commits:
            while True:
                await self._wake.wait()
                await asyncio.sleep(0)  # requests that came in the same turn of the loop share the append
                await free.acquire()
                if self._groups and self._groups[0].waiting and not self._halted:
                    group = self._groups.popleft()
                    commit = commits.create_task(self._commit(connection, group))
                    commit.add_done_callback(partial(self._over, group, free))
                    group.sent.set()
                else:
                    free.release()
                    self._wake.clear()

    async def _commit(self, connection: Connection, group: Group) -> None:
        commands = [MULTI, WHOSE, *self._entries(group), *_unknown(group), *group.writes, EXEC]
        try:
            answer = (await connection.call(commands))[-1]
        except (StoreError, asyncio.CancelledError) as error:
            group.finish(_unsure(str(error)))
            raise
        if refused := _refusal(answer):
            group.finish(Unavailable(f"the store refused the append: {refused}"))
            return
        try:
            self._note(group, answer)
        except Contradiction as error:
            group.finish(Unavailable(str(error)))
            self._halted = True
            with contextlib.suppress(StoreError):  # what is on its way is in the store, and so to be in the mark
                await connection.call([pack("PING")])
            raise
        group.finish()

    def _over(self, group: Group, free: asyncio.Semaphore, _: asyncio.Task[None]) -> None:
        """Also of a commit that was cancelled before it began: its callers must not wait for ever."""
        free.release()
        self._waiting_bytes -= group.size
        group.finish(_unsure())

    def _entries(self, group: Group) -> Iterable[bytes]:
        append = self._append_wall if self._clock == "wall" else self._append_log
        for part, draft in group.parts():
            fields = draft.encode(self._fingerprint, history=part.history, kind=part.kind), draft.encode_raw()
            accepted = len(draft) - len(draft.joins)  # the row that carries a join is not an event
            yield from append(part.partition, draft, fields, accepted)

    @staticmethod
    def _append_wall(partition: int, _: Draft, fields: tuple[bytes, bytes], accepted: int) -> Iterable[bytes]:
        yield pack("XADD", keys.log(partition), "*", "e", fields[0], "r", fields[1])
        yield pack("HINCRBY", keys.counts(partition), "accepted", accepted)

    def _append_log(self, partition: int, draft: Draft, fields: tuple[bytes, bytes], accepted: int) -> Iterable[bytes]:
        ms = max(*draft.ts, self._last.get(partition, 0))
        self._last[partition] = ms
        names = keys.log(partition), keys.counts(partition)
        yield pack("EVAL", APPEND_AT, 2, *names, ms, *fields, accepted)

    def _note(self, group: Group, answer: list[Any]) -> None:
        """What the store gave. Raises Contradiction where it is not the one that acknowledged what came before."""
        ends, same = list(self.mark.ends), answer[0] == b"%d" % self._store.seed
        for (part, draft), (entry, total) in zip(group.parts(), self._pairs(answer), strict=False):
            mine, known = len(draft) - len(draft.joins), ends[part.partition].accepted
            same = same and total - mine >= known
            group.ids[part] = entry
            ends[part.partition] = End(max(total, known + mine), entry_id(entry))
            self._last[part.partition] = max(self._last.get(part.partition, 0), ends[part.partition].entry.ms)
        self.mark.raise_to(ends)
        group.replies = answer[len(answer) - len(group.writes) :]
        if not same:
            raise Contradiction("the store is not what it was: whether the events stay in it is not known")

    def _pairs(self, answer: list[Any]) -> Iterator[tuple[bytes, int]]:
        """Of each entry its id, and the events accepted by then."""
        return zip(answer[1::2], answer[2::2], strict=False) if self._clock == "wall" else iter(answer[1:])

    async def _watch_memory(self) -> None:
        """Asks once a second whether there is less room than ingest must leave to the engine."""
        connection: Connection | None = None
        while True:
            with contextlib.suppress(StoreError):  # the appender itself says that the store is gone
                connection = connection or await dial(self._settings)
                try:
                    self._full = _fullness(await connection.call([pack("INFO", "memory")]), self._settings.memory_limit)
                except StoreError:
                    connection = None
            await asyncio.sleep(1)


def _unsure(why: str = "") -> Unavailable:
    return Unavailable(f"{why or 'the connection was given up'}; whether the events were stored is not known")


def _unknown(group: Group) -> list[bytes]:
    return [pack("HINCRBY", keys.UNKNOWN, name, count) for name, count in group.unknown.items()]


def _refusal(answer: Any) -> Refused | None:
    """What is wrong with EXEC's answer."""
    if isinstance(answer, Refused):
        return answer
    return next((reply for reply in answer if isinstance(reply, Refused)), None)


def _fullness(replies: list[Any], limit: float) -> str:
    if isinstance(replies[0], Refused):
        return ""  # a server that hides INFO says OOM by itself
    info = dict(line.split(":", 1) for line in replies[0].decode().splitlines() if ":" in line)
    used, most = (int(info.get(name, 0)) for name in ("used_memory", "maxmemory"))
    most = most or int(info.get("total_system_memory", 0))
    if not most or used < limit * most:
        return ""
    return f"the store holds {used} of {most} bytes, events are taken below {limit:.0%}"
