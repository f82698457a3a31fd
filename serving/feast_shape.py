"""What a request for online features asks, worked out once: which commands read it, which names answer it."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import msgspec

from feature_repo.declare import Entity, View
from feature_repo.layout import PROJECT, entity_key, field, timestamp_field
from feature_repo.vocabulary import Vocabulary
from serving.errors import MAX_SHOWN, ApiError
from serving.feast_messages import FeaturesRequest

MANY = 0.3  # share of an entity's fields from which HGETALL costs the store less than HMGET
MAX_ORDERS = 1000  # orders of fields in a hash that are remembered
_LENGTH = struct.Struct("<I")

Row = Sequence[bytes | None]
Pick = Callable[[list[Any]], Row]


class Part(msgspec.Struct, frozen=True):
    """The features of one view: in a row its `_ts` stands at `start`, their values behind it."""

    view: str
    names: tuple[str, ...]
    start: int
    ttl_us: int

    @property
    def stop(self) -> int:
        return self.start + 1 + len(self.names)


class Group(msgspec.Struct, frozen=True):
    """All that is asked of one entity, which is one hash. `given`: the key of `entities` that holds its values."""

    given: str
    head: bytes
    prefix: bytes
    tail: bytes
    parts: tuple[Part, ...]
    pick: Pick

    def command(self, value: bytes) -> bytes:
        """Reads what is stored under this value of the join key."""
        key = b"%b%b%b%b" % (self.prefix, _LENGTH.pack(len(value)), value, PROJECT.encode())
        return b"%b$%d\r\n%b\r\n%b" % (self.head, len(key), key, self.tail)


class Shape(msgspec.Struct, frozen=True):
    """A request but for its entities' values. `order`: the place of each feature among those of the groups' parts."""

    echoed: tuple[tuple[str, bool], ...]  # keys of `entities` to tell again, and whether they are text
    groups: tuple[Group, ...]
    order: tuple[int, ...] | None  # None: as they stand
    metadata: bytes
    width: int  # features


class Shapes:
    """Works shapes out. `vocabulary` says what there is."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._fields = {view.name: {f.name for f in view.fields} for view in vocabulary.views.values()}
        self._services = {s.name: vocabulary.stored(s) for s in vocabulary.services}
        self._keys = {e.join_key: e for e in vocabulary.entities} | {e.name: e for e in vocabulary.entities}

    def made(self, asked: FeaturesRequest) -> Shape:
        """Raises ApiError 404 for what does not exist, 422 for what cannot be answered."""
        found = [self._resolved(reference) for reference in self._references(asked)]
        names = [f"{view.name}__{name}" if asked.full_feature_names else name for view, name in found]
        _refuse_same(names, full=asked.full_feature_names)
        views = {view.name: view for view, _ in found}
        wanted = {v: tuple(name for view, name in found if view.name == v) for v in views}
        given = {self._keys[key].name: key for key in asked.entities if key in self._keys}
        groups = self._groups(views, wanted, given)
        stand = [(p.view, name) for g in groups for p in g.parts for name in p.names]
        place = {pair: i for i, pair in enumerate(stand)}
        order = tuple(place[view.name, name] for view, name in found)
        read = {self._vocabulary.entity_of(view).name for view in views.values()}
        echoed = tuple((key, entity in read) for entity, key in given.items())
        joins = [self._keys[key].join_key for key, _ in echoed]
        metadata: dict[str, Any] = {"feature_names": [*joins, *names]}
        if asked.include_feature_view_version_metadata:
            metadata["feature_view_metadata"] = [{"name": name} for name in views]
        as_they_stand = order == tuple(range(len(order)))
        return Shape(echoed, groups, None if as_they_stand else order, msgspec.json.encode(metadata), len(names))

    def _references(self, asked: FeaturesRequest) -> Sequence[str]:
        if asked.feature_service:
            if asked.feature_service not in self._services:
                raise _nothing("feature_service", f"no feature service {asked.feature_service!r}", self._services)
            return self._services[asked.feature_service]
        try:
            references = msgspec.json.decode(asked.features, type=list[str])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise ApiError(422, "expected a list of `view:feature`", "features") from None
        if not references:
            raise ApiError(422, "expected `features` or a `feature_service`, got neither", "features")
        if wrong := next((r for r in references if ":" not in r), None):
            raise ApiError(422, f"expected `view:feature`, got {wrong[:MAX_SHOWN]!r}", "features")
        return references

    def _resolved(self, reference: str) -> tuple[View, str]:
        """`view@latest:feature` is Feast's other way to say it."""
        view_name, _, name = reference.partition(":")
        view_name = view_name.removesuffix("@latest") if ":" in reference else self._vocabulary.view
        name = name or reference
        view = self._vocabulary.views.get(view_name)
        if view is None:
            raise _nothing("features", f"no feature view {view_name!r}", self._vocabulary.views)
        if name not in self._fields[view.name]:
            raise _nothing("features", f"no feature {name!r} in {view_name}", [f.name for f in view.fields])
        return view, name

    def _groups(
        self, views: dict[str, View], wanted: dict[str, tuple[str, ...]], given: dict[str, str]
    ) -> tuple[Group, ...]:
        of: dict[str, list[View]] = {}
        for view in views.values():
            of.setdefault(view.entity, []).append(view)
        for name in of:
            if name not in given:
                join_key = self._keys[name].join_key
                raise ApiError(422, f"{of[name][0].name} is of a {name}: expected values of {join_key}", "entities")
        return tuple(self._group(self._keys[name], given[name], group, wanted) for name, group in of.items())

    def _group(self, entity: Entity, given: str, views: list[View], wanted: dict[str, tuple[str, ...]]) -> Group:
        parts: list[Part] = []
        fields: list[bytes] = []
        for view in views:
            parts.append(Part(view.name, wanted[view.name], len(fields), view.ttl_days * 86_400_000_000))
            fields += [timestamp_field(view.name), *(field(view.name, name) for name in wanted[view.name])]
        present = sum(len(v.fields) + 1 for v in self._vocabulary.views.values() if v.entity == entity.name)
        whole = len(fields) > MANY * present and len(fields) > 1
        head, tail = (b"*2\r\n$7\r\nHGETALL\r\n", b"") if whole else _hmget(fields)
        prefix = entity_key(entity.join_key, b"").removesuffix(PROJECT.encode())[: -_LENGTH.size]
        return Group(given, head, prefix, tail, tuple(parts), _from_all(fields) if whole else list)


def _hmget(fields: list[bytes]) -> tuple[bytes, bytes]:
    """The command before its key, and after."""
    tail = b"".join([b"$%d\r\n%b\r\n" % (len(name), name) for name in fields])
    return b"*%d\r\n$5\r\nHMGET\r\n" % (len(fields) + 2), tail


def _from_all(fields: list[bytes]) -> Pick:
    """Takes the values of these fields out of replies to HGETALL, whose order most hashes share."""
    known: dict[bytes, Callable[[list[Any]], Row]] = {}

    def pick(reply: list[Any]) -> Row:
        order = b"".join(reply[::2])
        take = known.get(order)
        if take is None:
            if len(known) > MAX_ORDERS:
                known.clear()
            take = known[order] = _taker({name: 2 * i + 1 for i, name in enumerate(reply[::2])}, fields)
        return take(reply)

    return pick


def _taker(places: dict[bytes, int], fields: list[bytes]) -> Callable[[list[Any]], Row]:
    if all(name in places for name in fields):
        return itemgetter(*(places[name] for name in fields))
    found = [places.get(name) for name in fields]
    return lambda reply: [None if at is None else reply[at] for at in found]


def _refuse_same(names: list[str], *, full: bool) -> None:
    same = sorted(name for name, count in Counter(names).items() if count > 1)
    if same:
        way = "" if full else ": ask for full_feature_names"
        raise ApiError(422, f"asked for more than once: {', '.join(same)[:MAX_SHOWN]}{way}", "features")


def _nothing(field_: str, what: str, there: Any) -> ApiError:
    return ApiError(404, f"there is {what[:MAX_SHOWN]}; there are {', '.join(there)[:600]}", field_)
