"""A row of an external view as the log and the lake keep it: what was pushed, of whom, and when it was so."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

import msgspec

from feature_repo.declare import Value, View
from feature_repo.moments import microseconds
from feature_repo.vocabulary import Vocabulary

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Push(msgspec.Struct, tag_field="type", tag="push"):
    """`id`: of the entity within its organisation. `timestamp`: ISO 8601, UTC. `to` offline: never served."""

    view: str
    id: str
    timestamp: str
    features: dict[str, Value | None]
    to: Literal["online", "offline"] = "online"

    @property
    def at(self) -> int:
        """Microseconds since 1970."""
        return microseconds(datetime.fromisoformat(self.timestamp))


encode = msgspec.json.Encoder().encode
_NUMBERS = {int, float, type(None)}
decode = msgspec.json.Decoder(Push).decode


def encoded(
    view: str, to: str, ids: Sequence[str], timestamps: Sequence[str], features: dict[str, list[Value | None]]
) -> list[bytes]:
    """The same bytes as `encode` of each row of one view; `features`: columns."""
    values = {name.replace("%", "%%"): msgspec.Raw(b"%b") for name in features}
    row = encode(Push(view.replace("%", "%%"), "%b", "%b", cast("dict[str, Any]", values), cast("Any", to)))
    columns = _texts(ids), [each.encode() for each in timestamps], *map(_values, features.values())
    return [row % each for each in zip(*columns, strict=True)]


def _texts(texts: Sequence[str]) -> list[bytes]:
    """As JSON has them between its quotes."""
    together = "".join(texts)
    if together.isprintable() and not {'"', "\\"} & set(together):
        return [each.encode() for each in texts]
    return [encode(each)[1:-1] for each in texts]


def _values(column: list[Value | None]) -> list[bytes]:
    """Each as JSON."""
    if set(map(type, column)) <= _NUMBERS:
        return encode(column)[1:-1].split(b",")
    return list(map(encode, column))


def moment(us: int) -> str:
    """The `timestamp` of microseconds since 1970."""
    return (_EPOCH + timedelta(microseconds=us)).isoformat(timespec="microseconds")


def identity_of(vocabulary: Vocabulary, view: View, id_: str) -> str:
    """Who an entity is within its organisation, in log and lake: people go by their id, others by `entity:id`."""
    return id_ if view.entity == vocabulary.entity else f"{view.entity}:{id_}"


def traits(vocabulary: Vocabulary, push: Push) -> dict[str, Value]:
    """What a row tells of a person as if by `identify`; a field that is null tells nothing."""
    view = vocabulary.views.get(push.view)
    if view is None or push.to == "offline":
        return {}
    given = ((field.trait, push.features.get(field.name)) for field in view.fields if field.trait)
    return {trait: value for trait, value in given if value is not None}
