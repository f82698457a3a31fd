"""From what was read to what is learned: outcomes meet the scores that they are of."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable
from typing import TypeAlias

import msgspec

from flows.entry import ANONYMOUS
from flows.learning_items import Bound, Due, Happened, Item, Seen, Told, Unreadable, What
from flows.learning_rows import Line, Row, begun

DUE_RANK = 1 << 20  # what falls due comes after all that was told at that time


class First(msgspec.Struct, frozen=True, gc=False):
    """A score that is seen for the first time: the learners say what they make of it."""

    row: Row


Step: TypeAlias = First | Line


class Aside(msgspec.Struct):
    """What was not learned, of one reason and source."""

    count: int
    last_id: str


class World:
    """The examples that a batch is about. `aside`: by (reason, source); `gone`: ended, and nobody can read them."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self.rows: dict[str, Row] = {}
        self.people: dict[tuple[str, str], list[Row]] = {}
        self.aside: dict[tuple[str, str], Aside] = {}
        self.gone: list[str] = []
        for row in rows:
            self.add(row)

    def add(self, row: Row) -> None:
        if row.id not in self.rows:
            self.rows[row.id] = row
            self.people.setdefault((row.organisation, row.user), []).append(row)

    def set_aside(self, reason: str, source: str, id_: str) -> None:
        told = self.aside.setdefault((reason, source), Aside(0, id_))
        told.count, told.last_id = told.count + 1, id_


class Joining:
    """`models`: which models' labels an outcome event is. `identified`: who an anonymous person (`organisation/user`)
    turned out to be, and when that was said (ms); None: it is not known.
    """

    def __init__(self, models: dict[str, tuple[str, ...]], identified: Callable[[str], tuple[str, int] | None]) -> None:
        self._models, self._identified = models, identified

    def steps(self, items: list[Item], world: World, end: Bound) -> list[Step]:
        """In the order of the items; what falls due within, up to `end`, in between."""
        order = itertools.count(len(items))
        queue = [(item.time, item.rank, n, item.what) for n, item in enumerate(items)]
        heapq.heapify(queue)
        steps: list[Step] = []
        while queue:
            _, _, _, what = heapq.heappop(queue)
            for one in what:
                for step in self._of(world, one):
                    steps.append(step)
                    if isinstance(step, First) and (due := step.row.due) and (due, DUE_RANK) <= end:
                        heapq.heappush(queue, (due, DUE_RANK, next(order), (Due(step.row.id, step.row.source),)))
        return steps

    def _of(self, world: World, what: What) -> Iterable[Step]:
        match what:
            case Seen():
                return self._seen(world, what)
            case Told():
                return self._told(world, what)
            case Happened():
                return self._happened(world, what)
            case Due():
                return self._due(world, what)
            case Unreadable():
                world.set_aside(what.reason, what.source, what.id)
                return ()

    def _seen(self, world: World, what: Seen) -> Iterable[Step]:
        if what.example.id not in world.rows:
            row = begun(what.example, what.until)
            world.add(row)
            yield First(row)

    def _told(self, world: World, what: Told) -> Iterable[Step]:
        row = world.rows.get(what.id)
        if row is None or row.organisation != what.organisation:
            world.set_aside("unknown", what.source, what.id)
            return
        if reason := _wrong(row, what):
            world.set_aside(reason, what.source, what.id)
            return
        if what.weak and row.why == "told":
            return
        if row.new and row.revision < 0 and row.source == "prediction" and not row.predicted:
            yield First(row)
        if row.label == what.label:
            if row.why in ("horizon", "status") and not what.weak:
                row.why, row.changed = "told", True  # somebody confirms it
        else:
            at = what.recorded_at if what.at is None else what.at
            yield _learned(row, what.label, at, "status" if what.weak else "told")

    def _happened(self, world: World, what: Happened) -> Iterable[Step]:
        organisation, _, user = what.person.partition("/")
        models = self._models.get(what.event, ())
        about = [row for row in world.people.get((organisation, user), ()) if row.model in models]
        if not about:
            world.set_aside("nobody", "event", what.person)
        for row in sorted(about, key=lambda row: (row.at, row.id)):
            if row.at < what.ts <= row.until and row.label != 1:
                yield _learned(row, 1, what.ts, "event")

    def _due(self, world: World, what: Due) -> Iterable[Step]:
        row = world.rows.get(what.id)
        if row is None:
            world.set_aside("unknown", what.source, what.id)
            world.gone.append(what.id)
        elif row.label is None and self._is_another(row):
            row.due, row.changed = None, True
            world.set_aside("identified", what.source, what.id)
        elif row.label is None:
            yield _learned(row, 0, row.until, "horizon")

    def _is_another(self, row: Row) -> bool:
        """Whether what they did within the horizon is told of another name, so that a 0 is not known."""
        if not row.user.startswith(ANONYMOUS):
            return False
        found = self._identified(f"{row.organisation}/{row.user}")
        return found is not None and found[1] <= row.until


def _wrong(row: Row, told: Told) -> str:
    """Why a label is not learned; empty: it is."""
    if type(told.label) is not int or told.label not in (0, 1):
        return "wrong type"
    if told.at is not None and told.at < row.at:
        return "before the score"
    if row.why == "event" and told.label == 0:
        return "contradiction"  # it did come about, within the horizon
    return ""


def _learned(row: Row, label: int, at: int, why: str) -> Line:
    was, row.revision = row.label, row.revision + 1
    row.label, row.why, row.due, row.changed = label, why, None, True
    return Line(row, row.revision, label, was, at, why)
