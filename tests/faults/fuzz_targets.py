"""What is fuzzed: the code that reads what comes from outside, and from Redis, called as its doors call it.

A target takes bytes and returns when they were answered or refused in our own way; whatever else it raises is a fault.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import hiredis
import msgspec
import numpy as np
from starlette.requests import Request

from feature_repo.vocabulary import PUSHED, Vocabulary
from flows import lake_rows, outcome_events, redo, reply_mail, scored, served
from flows import predictions as logged
from flows.addresses import RefusedError, check_url
from flows.entry import Draft, Kind, decode, tick, unpack_raw
from flows.lake_rows import Rows
from flows.links import Links, Said
from flows.plan import Plan
from flows.prediction_id import PredictionIds
from flows.state import Layouts, StateError
from flows.store import Store
from serving import alert_stats, alerts, deliveries, feast_write, ingest, read_marks, webhook_tries
from serving.append import Group
from serving.auth import Auth
from serving.body import unzip
from serving.errors import ApiError
from serving.feast_read import Reader
from serving.front import Requests
from serving.given import decoded
from serving.intake import Intake
from serving.query import asked
from serving.replies import ReplyTold
from serving.salvage import split
from serving.score_inputs import Inputs
from serving.score_request import read as read_score
from serving.shortcut import Shortcuts, _without_upgrade
from serving.tensors import features, parse, wanted
from tests.faults import fuzz_wire

Take = Callable[[bytes], None]
VOCABULARY = Vocabulary()
WALL, LOG = Store(4, "wall", 7), Store(4, "log", 7)
LOGIN = b"Basic a2V5Og=="
LINKS = Links(b"k" * 16, "https://telltale.example", "replies@telltale.example")
DELIVERY = "dl_" + "0a" * 16


class Target(msgspec.Struct):
    """`seeds`: inputs that are good, to begin with. `words`: what is put into others. `most`: bytes of an input."""

    take: Take
    seeds: list[bytes]
    words: tuple[str, ...] = ()
    most: int = 4096
    close: Callable[[], None] = lambda: None


@contextmanager
def refusing(*statuses: int) -> Iterator[None]:
    """It may be refused, with one of these."""
    try:
        yield
    except ApiError as error:
        if error.status not in statuses:
            raise


# -- events in


class Kept:
    """Stands where the appender does: what is stored is read back, as the engine and the lake read it."""

    def __init__(self) -> None:
        self._group = Group()

    def room(self) -> Group:
        self._group = Group()
        return self._group

    async def stored(self, group: Group, size: int) -> None:
        assert group is self._group
        for part, draft in group.parts():
            entry = decode(draft.encode(VOCABULARY.fingerprint, history=part.history, kind=part.kind))
            assert [entry.name(i) for i in range(len(entry))] == draft.names
            assert [entry.join(k) for k in range(len(entry.join_at))] == [name for _, name in draft.joins]
            assert entry.value.tolist() == draft.value
            assert unpack_raw(draft.encode_raw()) == draft.raw
            rows = Rows(part.partition, VOCABULARY)
            rows.add(b"1-0", entry, {b"r": draft.encode_raw()}, lake_rows.Codebook())
            assert len(rows) == len(draft)


def _auth() -> Auth:
    auth = Auth(SimpleNamespace())  # type: ignore[arg-type]  # never asked
    auth._by_header[LOGIN] = (float("inf"), b"main")
    return auth


def _parts(store: Store) -> Any:
    told = {"auth": _auth(), "client": None, "clock": None, "settings": None, "store": store, "vocabulary": VOCABULARY}
    return SimpleNamespace(appender=Kept(), intake=Intake(VOCABULARY, store), **told)


def _sent(door: Any, body: bytes, *headers: tuple[bytes, bytes]) -> tuple[int, bytes]:
    """What a door of plain ASGI answers to a POST; it has nothing to wait for."""
    answer: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        answer.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"authorization", LOGIN), *headers]}
    asking = door(scope, receive, send)
    try:
        asking.send(None)
    except StopIteration as ended:
        return int(ended.value), b"".join(message.get("body", b"") for message in answer)
    raise AssertionError("expected an answer at once")


def _answered(status: int, body: bytes) -> None:
    assert status in {200, 400, 413, 415}, (status, body)
    told = json.loads(body)
    assert status == 200 or told["field"], body


def events() -> Target:
    """One call and batches, at every door, on both clocks; the first byte says which."""
    doors = [ingest.Ingest(_parts(store)).door(kind) for store in (WALL, LOG) for kind in ingest.ROUTES.values()]

    def take(data: bytes) -> None:
        _answered(*_sent(doors[data[0] % len(doors)], data[1:]) if data else (400, b'{"field":"x"}'))

    calls = [msgspec.json.encode(call) for call in CALLS]
    batch = b'{"batch":[' + b",".join(calls) + b'],"sentAt":"2026-01-01T00:00:00Z"}'
    paths = list(ingest.ROUTES)
    seeds = [bytes([paths.index(f"/v1/{call['type']}")]) + raw for call, raw in zip(CALLS, calls, strict=True)]
    seeds += [bytes([clock * len(paths) + paths.index("/v1/batch")]) + batch for clock in (0, 1)]
    return Target(take, seeds, (*WORDS, "NaN", "\\ud800", "1e400", "anon:"), 8192)


CALLS: list[dict[str, Any]] = [
    {"type": "track", "userId": "ada", "event": "Session Ended", "properties": {"minutes": 3.5}, "messageId": "m"},
    {"type": "track", "anonymousId": "v", "event": "Document Viewed", "timestamp": "2026-01-01T00:00:00.000Z"},
    {"type": "identify", "userId": 5, "anonymousId": "v", "traits": {"property_count": 2, "address": "a"}},
    {"type": "page", "userId": "ada", "name": "p", "properties": {}},
    {"type": "group", "userId": "ada", "groupId": "g", "traits": {}, "originalTimestamp": "2026-01-01T00:00:00+01:00"},
    {"type": "alias", "userId": "ada", "previousId": "b", "writeKey": "k"},
]
WORDS = ("type", "track", "identify", "event", "userId", "anonymousId", "messageId", "properties", "traits", "batch",
         "timestamp", "originalTimestamp", "sentAt", "writeKey", "context", "minutes", "property_count")  # fmt: skip


def zipped() -> Target:
    """A body that says it is gzip."""
    door = ingest.Ingest(_parts(WALL)).door(None)

    def take(data: bytes) -> None:
        _answered(*_sent(door, data, (b"content-encoding", b"gzip")))
        with refusing(400, 413):
            assert len(unzip(data, 100)) <= 100

    return Target(take, [gzip.compress(b'{"batch":[{"type":"page","userId":"a"}]}'), gzip.compress(b"0" * 600_000)])


def salvage() -> Target:
    """A batch that is no JSON, taken apart by its brackets."""

    def take(data: bytes) -> None:
        found = split(data)
        if found is not None:
            assert sum(map(len, found[1])) + len(found[0]) <= len(data)

    body = b'{"a":"]","batch" : [{"type":"track","x":NaN},[1,"\\"]"],7] ,"sentAt":"x"}'
    return Target(take, [body, b'{"batch":[]}', b'{"batch":[{"x":"\xff"}]}'], ("batch", '\\"', "[", "]"), 16_384)


# -- features and scores


class Replies:
    """Stands where the store's connection does: each HMGET and HGETALL is answered from `cells`, one after another."""

    connected = True

    def __init__(self, cells: list[bytes | None]) -> None:
        self._cells = cells

    def send(self, commands: bytes, count: int, then: Any) -> None:
        reader = hiredis.Reader()
        reader.feed(commands)
        then([self._reply(reader.gets()) for _ in range(count)])

    def _reply(self, command: list[bytes]) -> list[Any]:
        if command[0] == b"HGETALL":
            return []
        return [self._cells[i % len(self._cells)] if self._cells else None for i in range(len(command) - 2)]


class Now:
    """Stands where the log's clock does."""

    def question(self) -> bytes:
        return b""

    def now_us(self) -> int:
        return 1_772_366_400_000_000


def _read(body: bytes, cells: list[bytes | None]) -> None:
    found: list[Any] = []
    with refusing(404, 413, 422):
        Reader(VOCABULARY, Replies(cells), Now()).begin(b"main", body, found.append)  # type: ignore[arg-type]
        (answer,) = found
        assert isinstance(answer, bytes), answer
        json.loads(answer)


def asked_features() -> Target:
    """The body of `/get-online-features`."""
    seeds: list[dict[str, Any]] = [
        {"entities": {"user_id": ["ada", "bob"]}, "features": ["user_features:session_count_30d"]},
        {"entities": {"user_id": [1]}, "feature_service": "likely_to_sell", "full_feature_names": True},
        {"entities": {"user_id": ["a"], "lead_id": ["l"]}, "features": ["lead_crm:source_quality"]},
    ]
    words = ("entities", "features", "feature_service", "full_feature_names", "user_id", "user", "likely_to_sell",
             "user_finances:home_value", "user_features@latest:session_count_30d")  # fmt: skip
    return Target(lambda data: _read(data, []), [msgspec.json.encode(seed) for seed in seeds], words)


def stored_features() -> Target:
    """What stands in Redis where a feature should, written past us: told as something, or as null."""
    body = b'{"entities":{"user_id":["a"]},"features":["user_finances:home_value","user_features:session_count_30d"]}'

    def take(data: bytes) -> None:
        _read(body, [cell or None for cell in data.split(b"|")])

    double, stamp = struct.pack("<Bd", 0x29, 1.5), b"\x08\xc0\xd8\xfe\xcb\x06\x10\x80\x9d\xca\x86\x01"
    return Target(take, [stamp + b"|" + double, b"\x08\x01|\x12\x02ab|\x38\x01", b"\x20\xff\xff\x01|\x35abcd"])


def pushed() -> Target:
    """The bodies of `/push` and `/write-to-online-store`; the first byte says which."""
    writing = feast_write.Writing(_parts(WALL))
    own = writing.own
    push = feast_write.Answer(feast_write._push, "push_source_name", writing.sources, own.push_source, b"", 202)
    write = feast_write.Answer(feast_write._write, "feature_view_name", writing.views, own.name, b"", 200)

    def take(data: bytes) -> None:
        with refusing(400, 404, 409, 413):
            (write if data[:1] == b"w" else push).rows(b"main", data[1:], history=False)

    df: dict[str, list[Any]] = {
        "user_id": ["ada", 5],
        "event_timestamp": ["2026-03-02T10:00:00Z", 1_700_000_000_000_000_000],
        "home_value": [410_000.0, None],
        "credit_enquiries_90d": [1, 2.0],
    }
    by_index = {name: dict(enumerate(column)) for name, column in df.items()}
    seeds: list[dict[str, Any]] = [
        {"push_source_name": "user_finances_push", "df": df, "to": "offline"},
        {"push_source_name": "user_finances_push", "df": by_index},
        {"feature_view_name": "user_finances", "df": df},
    ]
    encoded = [(b"w" if "feature_view_name" in seed else b"p") + msgspec.json.encode(seed) for seed in seeds]
    return Target(take, encoded, (*df, *seeds[0], "feature_view_name", "user_finances", "user_finances_push"))


def scores() -> Target:
    """The body of `/v1/score/{model}`; the first byte says of which."""
    inputs = [Inputs(service, VOCABULARY) for service in VOCABULARY.services]

    def take(data: bytes) -> None:
        with refusing(404, 422):
            read_score(data[1:], inputs[data[0] % len(inputs)] if data else inputs[0])

    seeds = [b'\0{"id":"ada","features":{"session_count_30d":12},"explain":true}', b'\0{"instances":[{"id":1}]}']
    return Target(take, seeds, ("id", "features", "instances", "explain", "session_count_30d", "NaN", "1e39"))


def tensors() -> Target:
    """The body of `/v2/models/{name}/infer`, as JSON alone and with bytes behind it."""
    names = ("a", "b")

    def take(data: bytes) -> None:
        head, _, body = data.partition(b"\n")
        with refusing(400):
            told, behind = parse(body, head or None)
            wanted(told)
            assert features(told, behind, names).shape[1] == len(names)

    tensor = {"name": "features", "shape": [2, 2], "datatype": "FP32"}
    plain = json.dumps({"inputs": [{**tensor, "data": [[1, 2], [3, 4]]}], "outputs": [{"name": "raw"}]}).encode()
    binary = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": 16}}]}).encode()
    seeds = [b"\n" + plain, b"%d\n%b%b" % (len(binary), binary, np.ones(4, "<f4").tobytes())]
    words = ("inputs", "outputs", "name", "features", "shape", "datatype", "FP64", "data", "parameters", "raw",
             "binary_data_size", "binary_data", "binary_data_output", "classification")  # fmt: skip
    return Target(take, seeds, words)


# -- everything else that a client sends


def queries() -> Target:
    """A query; the first byte says at which door."""
    doors = [alerts.LIST_READERS, alerts.STREAM_READERS, deliveries.READERS, alert_stats.READERS, webhook_tries.TRIES,
             read_marks.BY]  # fmt: skip

    def take(data: bytes) -> None:
        scope = {"type": "http", "query_string": data[1:], "headers": []}
        with refusing(400):
            asked(Request(scope), doors[data[0] % len(doors)] if data else doors[0])

    seeds = [
        b"\0limit=5&since=2026-01-01T00:00:00Z&min_score=0.5&cursor=1-2",
        b"\1after=17.4&steps=true&status=DELIVERED",
    ]
    words = (*alerts.LIST_READERS, *alerts.STREAM_READERS, "PENDING", "CRITICAL", "true", "%00", "+", "%ff")
    return Target(take, seeds, words, 512)


def heads() -> Target:
    """The head of a request, as the shortcut reads it."""
    shortcuts = Shortcuts({"/get-online-features": lambda *_: True}, Requests())

    def take(data: bytes) -> None:
        _without_upgrade(data)
        shortcuts.head(data.partition(b"\r\n\r\n")[0])
        shortcuts._heads.clear()

    head = b"POST /get-online-features HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-type: application/json"
    return Target(take, [head, head + b"\r\nupgrade: h2c\r\nauthorization: \t Basic eA=="], most=3000)


def connections() -> Target:
    """Whatever comes over a connection, in pieces."""
    words = ("HTTP/1.1", "content-length: ", "transfer-encoding: chunked", "0\r\n\r\n", "connection: close", "\r\n",
             "upgrade", "expect: 100-continue")  # fmt: skip
    wire = fuzz_wire.Wire()
    return Target(wire.take, fuzz_wire.seeds(), words, 2048, wire.close)


def tokens() -> Target:
    """Links in messages, addresses for replies, ids of predictions."""
    ids = PredictionIds(7)

    def take(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        LINKS.read(text, "open", "click", "unsubscribe")
        LINKS.replied(text)
        ids.read(b"main", text)

    links = [LINKS.token(Said("click", DELIVERY, "/alerts/al_1")), LINKS.reply_address(DELIVERY)]
    issued = ids.issue(b"main", "likely_to_sell", 1_700_000_000_000, 3)
    return Target(take, [text.encode() for text in (*links, issued, f"{issued}.2")], most=1200)


def replies() -> Target:
    """An answer to a mail, whole or taken apart."""

    def take(data: bytes) -> None:
        reply_mail.read(data, LINKS, 5)
        with refusing(422):
            told = decoded(data, ReplyTold)
            reply_mail.answered(LINKS, told.to, f"{told.references} {told.in_reply_to}")
            reply_mail.own_words(told.text)

    to = LINKS.reply_address(DELIVERY)
    mail = f"From: Ann <ann@example.org>\r\nTo: {to}\r\nSubject: Re\r\nContent-Type: text/plain; charset=utf-8\r\n"
    parts = f"To: {to}\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nyes\r\n> no\r\n--b--\r\n"
    told = msgspec.json.encode({"to": [to], "text": "yes", "in_reply_to": f"<{DELIVERY}@x>"})
    words = ("Content-Type: ", "boundary=", "charset=", "base64", "quoted-printable", "=?utf-8?b?", "Auto-Submitted: ")
    return Target(take, [mail.encode() + b"\r\nyes\r\n", parts.encode(), told], words)


def urls() -> Target:
    """Where somebody wants to be told."""

    def take(data: bytes) -> None:
        with suppress(RefusedError):
            check_url(data.decode("utf-8", "replace"))

    seeds = [b"https://hooks.example.com/path?a=b", b"http://[2606:4700::1111]:8080/", b"https://0x7f.1/"]
    return Target(take, seeds, ("https://", "localhost", "127.0.0.1", "::ffff:", "xn--"), 2100)


# -- what comes from Redis: read, or an error of ours that says why not


def entries() -> Target:
    """Entries of the log."""

    def take(data: bytes) -> None:
        with suppress(ValueError):
            entry = lake_rows.read(data)
            assert entry is None or len(entry.name_ends) == len(entry)

    draft = Draft()
    draft.add(1, b"main/ada", 2, 3, PUSHED, 4, b"{}")
    draft.traits.append((0, 1, 2))
    draft.joins.append((0, b"main/bob"))
    seeds = [draft.encode(5), draft.encode(5, history=True, kind=Kind.PUSH), tick(1, 2)]
    return Target(take, seeds, most=1024)


class Book:
    """Stands where Redis does: it knows no layout but today's."""

    def hget(self, name: str, key: str) -> None:
        return None

    def lrange(self, name: str, first: int, last: int) -> list[bytes]:
        return []


def states() -> Target:
    """A person's state: the hot value and the cold one."""
    plan = Plan(VOCABULARY)
    layouts = Layouts(plan, Book())
    head = layouts.head

    def take(data: bytes) -> None:
        size = data[0] % 64 if data else 0
        with suppress(StateError, ValueError, struct.error):  # of another version, or cut short
            rows, names, closed = layouts.read([data[1 : 1 + size] + bytes(8 * plan.hot)], [data[1 + size :]])
            assert (len(rows), len(names), len(closed)) == (1, 1, 1)

    cold = layouts.cold(b"main/ada", struct.pack("<q", 5))
    return Target(take, [bytes([len(head)]) + head + cold], most=512)


def streams() -> Target:
    """Rows on their way to the lake, and what else stands in streams; the first byte says what."""
    sets: dict[int, list[scored.Member]] = {}
    kinds: list[Callable[[bytes], object]] = [
        lambda data: served.decode(_fields(data, b"p", b"f", b"s")),
        lambda data: logged.decode(_fields(data, b"m", b"t", b"f")),
        lambda data: outcome_events.decode({b"o": data}),
        lambda data: scored.read([data], sets),
        lambda data: redo.decode(data).count,
    ]

    def take(data: bytes) -> None:
        with suppress(ValueError, MemoryError):  # a size that zstd is told and nobody has
            kinds[data[0] % len(kinds) if data else 0](data[1:])

    return Target(take, list(_stream_seeds()), ("model", "inputs", "ids", "view", "features"))


def _fields(data: bytes, *names: bytes) -> dict[bytes, bytes]:
    return dict(zip(names, data.split(b"|"), strict=False))


def _stream_seeds() -> Iterator[bytes]:
    rows = served.ServedRows(b"1-0", 7, np.ones(1, np.uint64), np.ones(1, np.int64), np.ones((1, 2)), [b"main/ada"])
    yield b"\0" + b"1-0|" + served._encode(7, rows)
    yield b"\2" + msgspec.json.encode([outcome_events.OutcomeEvent("main/ada", "Sold", 5, 6)])
    yield b"\3" + struct.pack("<Iq2f", 7, 5, 0.5, 0.25)
    yield b"\4" + redo.Redo(1, b"*1\r\n", [b"k"], "d").encoded()


TARGETS: dict[str, Callable[[], Target]] = {
    made.__name__: made
    for made in (
        *(events, zipped, salvage, asked_features, stored_features, pushed, scores, tensors),
        *(queries, heads, connections, tokens, replies, urls, entries, states, streams),
    )
}
