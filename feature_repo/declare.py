"""What a domain can say: event types, traits, windowed aggregates, features, signals.

Everything here is a frozen struct. A domain lists them (`events.py`, `users.py`, `signals.py`,
`services.py`); `vocabulary.py` turns the lists into the arrays that the window engine runs on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec
import numpy as np

Array = np.ndarray[Any, Any]
Value = float | int | str  # of a feature


class EventType(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of thing that a person does.

    `segment`: the "Object Action" names under which Segment sends it. `value`: the numeric property
    that `Sum` adds up, kept as `round(value * scale)`. `tag`: a property with few values, of which
    `tags` can be counted apart. `role`: behaviour counts as activity if it is `by_person` (being sent a
    mail is not), an interaction feeds the models to come, an outcome is a label and never a feature.
    """

    name: str
    description: str
    segment: tuple[str, ...] = ()
    value: str | None = None
    unit: str = "events"
    scale: int = 1000
    tag: str | None = None
    tags: tuple[str, ...] = ()
    role: Literal["behaviour", "interaction", "outcome"] = "behaviour"
    by_person: bool = True


class Trait(msgspec.Struct, frozen=True, kw_only=True):
    """One fact about a person, told by `identify`.

    `kind`: a number; a date (ISO 8601), kept as milliseconds since 1970; or a text, of which only a
    fingerprint is kept, enough to notice that it changed.
    """

    name: str
    description: str
    kind: Literal["number", "date", "text"] = "number"
    unit: str = ""


class Entity(msgspec.Struct, frozen=True, kw_only=True):
    """Something that features are of. Stored under `organisation/value` of its join key."""

    name: str
    join_key: str
    description: str


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a view that outside data fills.

    `trait`: what is pushed here is told as this trait too, as if by `identify`, so that features made of the
    trait move. A number tells a number, a text a text; a date cannot be told so. `default`: stands for it in a
    model's inputs while it is not known, or expired; the store itself holds null then.
    """

    name: str
    description: str
    unit: str = ""
    kind: Literal["number", "integer", "text"] = "number"
    trait: str | None = None
    default: float = 0.0


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """A number that only the request for a score can give: the hour at which a mail is to leave, its words.

    No store holds it, so Feast does not know it. `default` stands where the request leaves it out.
    """

    name: str
    description: str
    default: float
    unit: str = ""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Features of an entity that live and are read together: one Feast feature view.

    `external`: filled by whoever pushes; else by the flow alone. A value older than `ttl_days` counts as expired.
    """

    name: str
    entity: str
    fields: tuple[Field, ...]
    description: str
    owner: str
    ttl_days: int
    external: bool = True

    @property
    def push_source(self) -> str:
        """Under which name Feast's `/push` knows it."""
        return f"{self.name}_push"


class Aggregate(msgspec.Struct, frozen=True):
    """A windowed value over tiles: `count` and `sum` add, `days` counts the tiles that have any,
    `first` is the first such tile (0 = none), `moment` is the sum of tile number x count.
    """

    measure: Literal["count", "sum", "days", "first", "moment"]
    events: tuple[str, ...]
    tag: str | None
    days: int
    hours: int

    @property
    def hourly(self) -> bool:
        return self.hours > 0

    @property
    def length(self) -> int:
        """Window length in tiles: hours up to a day, else UTC days."""
        return self.hours or self.days


class Last(msgspec.Struct, frozen=True):
    """Milliseconds since 1970 of the latest of these events; 0 = never."""

    events: tuple[str, ...]
    tag: str | None = None


class TraitValue(msgspec.Struct, frozen=True):
    """The latest value of a number or date trait; NaN = never told."""

    name: str


class TraitChanged(msgspec.Struct, frozen=True):
    """Milliseconds since 1970 at which a trait last took another value; 0 = never."""

    name: str


class Derived(msgspec.Struct, frozen=True):
    """`fn(now, *inputs)` over columns, one element a person.

    Only + - * /, comparisons, minimum, maximum and where: they round the same however many rows are
    worked at once, which exp, log and powers do not.
    """

    fn: Callable[..., Array]
    inputs: tuple[Node, ...]


class Strength(msgspec.Struct, frozen=True):
    """The strength of a signal, 0-1."""

    signal: str


Node = Aggregate | Last | TraitValue | TraitChanged | Derived | Strength

ANY = ("*",)  # every behaviour of the person


def _names(event: str | tuple[str, ...]) -> tuple[str, ...]:
    return (event,) if isinstance(event, str) else event


def Count(event: str | tuple[str, ...], *, days: int = 0, hours: int = 0, tag: str | None = None) -> Aggregate:  # noqa: N802
    return Aggregate("count", _names(event), tag, days, hours)


def Sum(event: str | tuple[str, ...], *, days: int = 0, hours: int = 0, tag: str | None = None) -> Aggregate:  # noqa: N802
    return Aggregate("sum", _names(event), tag, days, hours)


def ActiveDays(event: str | tuple[str, ...], *, days: int) -> Aggregate:  # noqa: N802
    return Aggregate("days", _names(event), None, days, 0)


def FirstDay(event: str | tuple[str, ...], *, days: int) -> Aggregate:  # noqa: N802
    return Aggregate("first", _names(event), None, days, 0)


def Moment(event: str | tuple[str, ...], *, days: int) -> Aggregate:  # noqa: N802
    return Aggregate("moment", _names(event), None, days, 0)


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One column of the online store. `default` stands when nothing is known.

    It is null only for people known before it was declared, until their history is whole (flows/eras.py).
    """

    name: str
    unit: str
    window: str
    default: float
    description: str
    of: Node


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """A pattern that a person would call telling.

    `strength` and `confidence` are functions of the `evidence` counts, 0-1; `events` are the types
    whose events made it.
    """

    name: str
    family: str
    window: str
    description: str
    says: str
    events: tuple[str, ...]
    evidence: dict[str, Aggregate]
    strength: Callable[..., Array]
    confidence: Callable[..., Array]


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A model's input list, in order. `alert`: the alert type that its score may open; `advice`: what to do then.

    A feature of the flow's view goes by its name, one of another view as `view:feature`, what the request gives as
    `request:input`. The stream scores an alert model from the flow's view alone. `telling`: inputs that may rank the
    outcome nearly by themselves; training takes any other that does for a leak.
    """

    name: str
    features: tuple[str, ...]
    description: str
    alert: str | None = None
    advice: str = ""
    outcome: str | None = None
    telling: tuple[str, ...] = ()
