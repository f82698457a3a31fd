"""A small domain whose vocabulary changes, calls as a door of any of its versions appends them, and what should be."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import redis
import xxhash

from feature_repo import finish, keys
from feature_repo.declare import (
    ANY,
    ActiveDays,
    Count,
    Derived,
    EventType,
    Feature,
    FirstDay,
    Last,
    Node,
    Sum,
    Trait,
    TraitChanged,
    TraitValue,
)
from feature_repo.traits import bits
from feature_repo.vocabulary import SILENT, UNKNOWN, Vocabulary
from flows.entry import Draft
from flows.plan import Plan
from flows.store import Store
from flows.windows import Table

DAY = 86_400_000
START = 1_760_000_000_000 // DAY * DAY
VIEW = EventType(name="view", description="looked")
BUY = EventType(name="buy", description="bought", value="price", scale=100, tag="kind", tags=("big",))
PLAIN_BUY = EventType(name="buy", description="bought")
TOUR = EventType(name="tour", description="toured")
SIZE = Trait(name="size", description="how large")
PLAN = Trait(name="plan", description="which plan", kind="text")

OF: dict[str, Node] = {
    "views_7d": Count("view", days=7),
    "views_30d": Count("view", days=30),
    "views_90d": Count("view", days=90),
    "views_6h": Count("view", hours=6),
    "views_24h": Count("view", hours=24),
    "first_view_30d": FirstDay("view", days=30),
    "view_days_14d": ActiveDays("view", days=14),
    "since_view": Derived(finish.days_since(365.0), (Last(("view",)),)),
    "buys_30d": Count("buy", days=30),
    "spent_30d": Sum("buy", days=30),
    "big_buys_60d": Count("buy", days=60, tag="big"),
    "tours_30d": Count("tour", days=30),
    "since_tour": Derived(finish.days_since(365.0), (Last(("tour",)),)),
    "any_30d": Count(ANY, days=30),
    "tours_by_views": Derived(finish.rate, (Count("tour", days=20), Count("view", days=20))),
    "size": Derived(finish.known(0.0), (TraitValue("size"),)),
    "new_plan": Derived(finish.within_days(90), (TraitChanged("plan"),)),
}


def domain(events: tuple[EventType, ...], names: tuple[str, ...], traits: tuple[Trait, ...] = ()) -> Vocabulary:
    features = tuple(
        Feature(name=name, unit="", window="", default=0.0, description=name, of=OF[name]) for name in names
    )
    return Vocabulary(cast(ModuleType, SimpleNamespace(EVENTS=events, FEATURES=features, TRAITS=traits)))


OLD = domain((VIEW, PLAIN_BUY), ("views_7d", "since_view", "buys_30d", "any_30d"))
MORE = domain(
    (VIEW, BUY, TOUR),
    (
        "views_7d",
        "views_30d",
        "views_6h",
        "first_view_30d",
        "since_view",
        "buys_30d",
        "spent_30d",
        "tours_30d",
        "any_30d",
        "size",
    ),
    (SIZE,),
)
MOST = domain((TOUR, BUY, VIEW), tuple(OF), (PLAN, SIZE))
OTHER = domain(
    (VIEW, TOUR), ("views_90d", "view_days_14d", "since_tour", "tours_by_views", "any_30d", "new_plan"), (PLAN,)
)
VOCABULARIES = {"old": OLD, "more": MORE, "most": MOST, "other": OTHER}


class Call(msgspec.Struct, frozen=True):
    """What somebody sent, at log time `now`."""

    user: str
    now: int
    ts: int
    mid: int
    event: str | None = None
    price: float | None = None
    kind: str | None = None
    traits: dict[str, Any] = {}

    @property
    def raw(self) -> bytes:
        if self.event is None:
            return msgspec.json.encode({"type": "identify", "messageId": str(self.mid), "traits": self.traits})
        properties = {name: x for name, x in (("price", self.price), ("kind", self.kind)) if x is not None}
        body = {"type": "track", "messageId": str(self.mid), "event": self.event, "properties": properties}
        return msgspec.json.encode(body)


def measured(call: Call, v: Vocabulary) -> tuple[int, int]:
    """(code, value) as a door of that vocabulary has them."""
    if call.event is None:
        return SILENT, 0
    event = v.named(call.event)
    if event is None:
        return UNKNOWN, 0
    tag = call.kind if event.tag == "kind" and call.kind in event.tags else None
    return v.code[event.name, tag], round(call.price * event.scale) if event.value and call.price is not None else 0


def told(call: Call, v: Vocabulary) -> list[tuple[int, int]]:
    return [(v.trait_id[n], bits(v.traits[v.trait_id[n]], x)) for n, x in call.traits.items() if n in v.trait_id]


def identity(store: Store, user: str) -> int:
    return xxhash.xxh3_64_intdigest(f"org/{user}".encode(), store.seed)


def _mid(store: Store, call: Call) -> int:
    return xxhash.xxh3_64_intdigest(b"%d" % call.mid, store.seed)


def post(client: redis.Redis, store: Store, v: Vocabulary, calls: list[Call]) -> None:
    """Append calls of one moment as a door of that vocabulary does."""
    client.hset(keys.VOCABULARIES, str(v.fingerprint), v.codebook)
    drafts: dict[int, Draft] = {}
    for call in calls:
        uid = identity(store, call.user)
        draft = drafts.setdefault(uid % store.partitions, Draft())
        code, value = measured(call, v)
        at = draft.add(uid, f"org/{call.user}".encode(), _mid(store, call), call.ts, code, value, call.raw)
        draft.traits += [(at, *trait) for trait in told(call, v)]
    for p, draft in drafts.items():
        fields: Any = {"e": draft.encode(v.fingerprint), "r": draft.encode_raw()}
        client.xadd(keys.log(p), fields, id=f"{calls[0].now}-*")
        client.hincrby(keys.counts(p), "accepted", len(draft))


class Ideal:
    """A table that counted under one vocabulary from the first call on. `joins`: log time, anonymous, user."""

    def __init__(self, v: Vocabulary, calls: list[Call], joins: Iterable[tuple[int, str, str]] = ()) -> None:
        self.vocabulary, self.users = v, dict[str, int]()
        self._plan = Plan(v)
        self._table = Table(self._plan, len(calls) + 100)
        self._joined: dict[str, str] = {}
        due = sorted(joins)
        for call in calls:
            while due and due[0][0] < call.now:
                self._join(*due.pop(0))
            self._receive(call)
        for join in due:
            self._join(*join)

    def _receive(self, call: Call) -> None:
        v, (code, value) = self.vocabulary, measured(call, self.vocabulary)
        if code in {SILENT, UNKNOWN} and not told(call, v):
            return
        row = self._row(call.user)
        columns = (np.array([x], np.int64) for x in (code, value, call.ts, call.now))
        self._table.apply(row, *columns)
        for trait, kept in told(call, v):
            one = (np.array([x], np.int64) for x in (trait, kept, min(call.ts, call.now)))
            self._table.apply_traits(row, *one)
        if call.user in self._joined:
            self._pass_on(call.user, call.now)

    def _join(self, now: int, anonymous: str, user: str) -> None:
        self._joined[anonymous] = user
        self._pass_on(anonymous, now)

    def _pass_on(self, anonymous: str, now: int) -> None:
        row, to = self._row(anonymous), self._row(self._joined[anonymous])
        for each in (row, to):
            self._table.touch(each, np.array([now]))
        hot, (closed,) = self._table.values[row[0], : self._plan.hot].copy(), self._table.closed(row)
        self._table.absorb(int(to[0]), hot, closed)
        self._table.empty(int(row[0]))

    def _row(self, user: str) -> Any:
        return self._table.rows(np.array([self.users.setdefault(user, len(self.users) + 1)], np.uint64))

    def features(self, user: str, at: int) -> dict[str, float]:
        row = self._row(user)
        self._table.touch(row, np.array([at]))
        return dict(zip(self.vocabulary.feature_index, self._table.evaluate(row)[0].tolist(), strict=True))


def random_calls(rng: np.random.Generator, n: int, users: int, days: int) -> list[Call]:
    """Some days of everything, some of it late, some of it of no vocabulary's."""
    now = START + np.sort(rng.integers(0, days * DAY, n))
    made = []
    for i, at in enumerate(now.tolist()):
        late = int(rng.integers(0, 100 * DAY) if rng.random() < 0.2 else rng.integers(-3_600_000, 3_600_000))
        user = f"u{int(rng.zipf(1.4)) % users}"
        name = rng.choice(["view", "view", "buy", "tour", "nothing", "identify"])
        if name == "identify":
            # In time order: a trait told late across a change of vocabulary is not brought to the bit.
            traits = {"size": int(rng.integers(1, 4)), "plan": str(rng.choice(["s", "m", "l"]))}
            made.append(Call(user, at, at, i + 1, traits=traits))
        else:
            kind = str(rng.choice(["big", "small"])) if rng.random() < 0.5 else None
            price = float(rng.integers(1, 9_000)) / 100 if rng.random() < 0.8 else None
            made.append(Call(user, at, at - late, i + 1, str(name), price, kind))
    return made
