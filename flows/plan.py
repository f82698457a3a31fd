"""From declarations to arrays: which numbers a person's row holds, and how features come out of them.

A row is int64 and kept in Redis as it is: `now`, `origin` (see `eras.py`), the open tile's counters, last moments,
traits, episodes. Beside it, recomputed from the closed tiles: a sum for each window.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from feature_repo.declare import ANY, Aggregate, Array, Derived, Last, Node, Strength, TraitChanged, TraitValue
from feature_repo.finish import DAY, HOUR
from feature_repo.vocabulary import Vocabulary, VocabularyError

LACKING = -1 << 32  # bits of `origin` that count the absorbed people who lack something; the others: see `eras.py`
MOST_COLUMNS = 256  # a closed tile names its column in a byte
Done = list[Array]  # the columns of the steps so far


class Column(msgspec.Struct, frozen=True):
    """What is counted in tiles: events of these types, or their values."""

    events: tuple[str, ...]
    tag: str | None
    value: bool
    hourly: bool


class Window(msgspec.Struct, frozen=True):
    """A sum over the closed tiles of one column; `kind` as in `Aggregate.measure`, sums and counts alike "sum"."""

    column: int
    kind: str
    length: int


class Kept(msgspec.Struct, frozen=True):
    """A column: how many tiles of it are kept, and of which event types."""

    tiles: int
    events: tuple[str, ...]


class Counted(msgspec.Struct, frozen=True):
    """What a row holds, by name: columns; and last moments (with their event types) and traits (with none)."""

    columns: dict[str, Kept]
    others: dict[str, tuple[str, ...]]

    def keep(self, slot: str) -> int:
        """Tiles kept of a column; 0 where it is not counted."""
        return self.columns[slot].tiles if slot in self.columns else 0


class Ragged:
    """Lists of different lengths, one a code: `lengths[code]`, `flat[starts[code] : ...]`."""

    def __init__(self, lists: list[list[int]]) -> None:
        self.lengths = np.array([len(x) for x in lists] + [0], np.int64)
        self.starts = np.concatenate(([0], np.cumsum(self.lengths)))[:-1]
        self.flat = np.array([i for x in lists for i in x], np.int64)

    def expand(self, codes: Array) -> tuple[Array, Array]:
        """(index into `codes`, member) of each member of each code's list."""
        lengths = self.lengths[codes]
        at = np.repeat(np.arange(len(codes)), lengths)
        ends = np.cumsum(lengths)
        inner = np.arange(len(at)) - np.repeat(ends - lengths, lengths)
        return at, self.flat[self.starts[codes][at] + inner]


class Plan:
    """The row layout and the evaluation of one vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.columns: list[Column] = []
        self.windows: list[Window] = []
        self.lasts: list[Last] = []
        self.steps: list[Callable[[Any, Done], Array]] = []
        self._step_of: dict[Node, int] = {}
        self.alerts = tuple(s for s in vocabulary.services if s.alert)
        self._signals = {s.name: s for s in vocabulary.signals}
        self.feature_steps = [self._step(feature.of) for feature in vocabulary.features]
        self.signal_steps = [self._step(Strength(signal.name)) for signal in vocabulary.signals]
        self._lay_out()
        self._route()

    def step(self, node: Node) -> int:
        """Index of a node's column among the steps."""
        return self._step_of[node]

    def _step(self, node: Node) -> int:
        """Add a node's evaluation after its inputs', once; returns its index."""
        if node not in self._step_of:
            evaluation = self._evaluation(node)
            self._step_of[node] = len(self.steps)
            self.steps.append(evaluation)
        return self._step_of[node]

    def _evaluation(self, node: Node) -> Callable[[Any, Done], Array]:
        """The function (view, columns so far) -> this node's column."""
        match node:
            case Derived(fn, inputs):
                at = [self._step(each) for each in inputs]
                return lambda view, done: fn(view.now, *(done[i] for i in at))
            case Strength(name):
                signal = self._signals[name]
                at = [self._step(each) for each in signal.evidence.values()]
                return lambda view, done: signal.strength(*(done[i] for i in at))
            case Aggregate():
                window, scale = self._window(node), self._scale(node)
                return _scaled(window, scale)
            case Last():
                last = _index(self.lasts, Last(self.vocabulary.members(node.events), node.tag))
                return lambda view, done: view.last(last)
            case TraitValue(name):
                trait = self.vocabulary.trait_id[name]
                return lambda view, done: view.trait(trait)
            case TraitChanged(name):
                trait = self.vocabulary.trait_id[name]
                return lambda view, done: view.changed(trait)

    def _window(self, a: Aggregate) -> int:
        events = self.vocabulary.members(a.events)
        column = _index(self.columns, Column(events, a.tag, a.measure == "sum", a.hourly))
        kind = "sum" if a.measure in ("sum", "count") else a.measure
        return _index(self.windows, Window(column, kind, a.length))

    def _scale(self, a: Aggregate) -> float:
        if a.measure != "sum":
            return 1.0
        scales = {self.vocabulary.event[name].scale for name in self.vocabulary.members(a.events)}
        if len(scales) > 1:
            raise ValueError(f"a sum over {a.events} needs one scale, got {sorted(scales)}")
        return float(scales.pop())

    def _lay_out(self) -> None:
        c, k = len(self.columns), len(self.vocabulary.traits)
        if c > MOST_COLUMNS:
            raise VocabularyError([f"the features count {c} things apart, expected at most {MOST_COLUMNS}"])
        self.origin = 1
        self.today = 2
        self.last = self.today + c
        self.trait = self.last + len(self.lasts)
        self.told = self.trait + k
        self.changed = self.told + k
        self.episode = self.changed + k  # for each alert type: when it last opened; is it open
        self.hot = self.episode + 2 * len(self.alerts)
        self.hourly = np.array([x.hourly for x in self.columns], bool)
        self.is_value = np.array([x.value for x in self.columns], bool)
        self.unit = np.where(self.hourly, HOUR, DAY)
        self.tick = HOUR if self.hourly.any() else DAY  # a row rolls when this passes
        self.window_column = np.array([w.column for w in self.windows], np.int64)
        self.window_length = np.array([w.length for w in self.windows], np.int64)
        self.window_kind = np.array([_KINDS.index(w.kind) for w in self.windows], np.int64)
        lengths = [[w.length for w in self.windows if w.column == i] for i in range(c)]
        self.keep = np.array([max(x, default=1) for x in lengths], np.int64)

    def _route(self) -> None:
        """Which columns, and which last moments, an event code adds to."""
        codes = self.vocabulary.codes
        wanted = [[i for i, x in enumerate(self.columns) if _takes(x.events, x.tag, c)] for c in codes]
        self.columns_of = Ragged(wanted)
        self.lasts_of = Ragged([[i for i, x in enumerate(self.lasts) if _takes(x.events, x.tag, c)] for c in codes])
        self.windows_of = Ragged(
            [
                [i for i, w in enumerate(self.windows) if w.column == c and w.length > 1]
                for c in range(len(self.columns))
            ]
        )

    @property
    def slots(self) -> list[str]:
        """A name for each number of the hot part: how a row written under another layout is read."""
        traits, alerts = self.vocabulary.traits, self.alerts
        return [
            "now",
            "origin",
            *self.column_slots,
            *map(self._last_slot, self.lasts),
            *(f"{part}:{t.name}" for part in ("trait", "told", "changed") for t in traits),
            *(f"{part}:{s.alert}" for s in alerts for part in ("opened", "open")),
        ]

    @property
    def column_slots(self) -> list[str]:
        return [f"open:{self._spelled(c.events)}:{c.tag}:{self._measure(c)}:{c.hourly}" for c in self.columns]

    def _last_slot(self, last: Last) -> str:
        return f"last:{self._spelled(last.events)}:{last.tag}"

    def trait_slot(self, trait: int) -> str:
        return f"trait:{self.vocabulary.traits[trait].name}:{self.vocabulary.traits[trait].kind}"

    @property
    def counted(self) -> Counted:
        """What rows of this plan hold."""
        kept = zip(self.column_slots, self.keep.tolist(), self.columns, strict=True)
        lasts = {self._last_slot(x): x.events for x in self.lasts}
        traits = {self.trait_slot(i): () for i in range(len(self.vocabulary.traits))}
        return Counted({slot: Kept(tiles, c.events) for slot, tiles, c in kept}, lasts | traits)

    def column(self, of: Aggregate) -> int:
        """Which column a window is of."""
        return self.windows[self._window(of)].column

    def other(self, of: Last | TraitValue | TraitChanged) -> str:
        """The name in `Counted.others` of a last moment or a trait."""
        if isinstance(of, Last):
            return self._last_slot(Last(self.vocabulary.members(of.events), of.tag))
        return self.trait_slot(self.vocabulary.trait_id[of.name])

    def _spelled(self, events: tuple[str, ...]) -> str:
        """Event types in a slot's name: ANY stays itself, so that its history outlives a new event type."""
        return "|".join(ANY if events == self.vocabulary.members(ANY) else events)

    def _measure(self, column: Column) -> str:
        """What is added up: events, or values at a scale, without which they cannot be read."""
        return f"values x {self.vocabulary.event[column.events[0]].scale}" if column.value else "events"


_KINDS = ("sum", "days", "first", "moment")
DAYS, FIRST, MOMENT = range(1, 4)


def _scaled(window: int, scale: float) -> Callable[[Any, Done], Array]:
    if scale == 1:
        return lambda view, done: view.window(window)
    return lambda view, done: view.window(window) / scale


def _takes(events: tuple[str, ...], tag: str | None, code: Any) -> bool:
    return code.event in events and tag in (None, code.tag)


def _index(items: list[Any], item: Any) -> int:
    if item not in items:
        items.append(item)
    return items.index(item)
