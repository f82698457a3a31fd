"""What became of alerts, as it was told. Nothing is overwritten: a correction is another record, which says of which.

The stream that learns reads this table by `seq`, which grows in the order of the commits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import sqlalchemy as sa

from flows import alert_status, alert_tally, database
from flows.alert import Judgement, Status
from flows.alert_table import alerts
from flows.alert_tally import RIGHT, Facts

WAY: dict[Status, tuple[Status, ...]] = {  # the steps of an alert that led to a conversion
    "PENDING": ("DELIVERED", "ACKNOWLEDGED", "CONVERTED"),
    "DELIVERED": ("ACKNOWLEDGED", "CONVERTED"),
    "ACKNOWLEDGED": ("CONVERTED",),
}

outcomes = sa.Table(
    "alert_outcomes",
    database.metadata,
    database.number(),
    sa.Column("alert_id", sa.String(64), nullable=False),
    sa.Column("organisation", sa.Text, nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("converted", sa.Boolean, nullable=False),
    sa.Column("value", sa.Double),
    sa.Column("type", sa.Text),
    sa.Column("at", sa.BigInteger),
    sa.Column("feedback", sa.Text),
    sa.Column("notes", sa.Text),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("recorded_at", sa.BigInteger, nullable=False),
    sa.Column("corrects", sa.BigInteger),
    sa.Index("alert_outcomes_of", "alert_id", "seq"),
    sqlite_autoincrement=True,
)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of an alert. `at`: when they converted (ms; None: not told); `type`: how, in words of yours."""

    outcome: Judgement
    converted: bool = False
    value: float | None = None
    type: str | None = None
    at: int | None = None
    feedback: str | None = None
    notes: str | None = None

    @property
    def contradiction(self) -> tuple[str, str] | None:
        """(field, why it cannot be so) of what contradicts itself."""
        if self.converted and self.outcome not in RIGHT:
            return "converted", f"expected false with {self.outcome}: who converted did what was predicted"
        if not self.converted and self.value:
            return "value", "expected none without `converted`: it is the worth of the conversion"
        if not self.converted and self.at is not None:
            return "at", "expected none without `converted`: it is when they did"
        return None


class Record(Outcome, frozen=True, kw_only=True):
    """An outcome as it was recorded: its number, whose, by whom and when, and the number of that which it corrects."""

    seq: int
    alert_id: str
    organisation: str
    who: str
    recorded_at: int
    corrects: int | None


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What came of telling one: the records of the alert, latest first (none: there is no such alert).

    `new`: the latest was recorded now; `moved`: the alert took steps. `refused`: why it cannot be.
    """

    id: str
    records: list[Record]
    status: Status | None = None
    new: bool = False
    moved: bool = False
    refused: str | None = None


def record(
    connection: sa.Connection, ids: Sequence[str], told: Outcome, *, who: str, at: int, organisation: str
) -> list[Recorded]:
    """Records an outcome of each of the organisation's alerts, in this transaction; in the order of `ids`.

    What says the same as the latest record is not recorded again. A conversion takes the alert there, step by step,
    if there is a way from where it stands. `at`: ms since 1970, by the log's time where the store has that.
    """
    database.one_by_one(connection)
    found = {id_: one for id_, one in alert_tally.facts(connection, ids).items() if one.organisation == organisation}
    known = {id_: of_alert(connection, id_) for id_ in found}
    late = {id_ for id_, one in found.items() if told.at is not None and told.at < one.scored_at}
    fresh = [id_ for id_, records in known.items() if id_ not in late and not (records and _same(records[0], told))]
    for id_ in fresh:
        known[id_].insert(0, _insert(connection, id_, found[id_], told, known[id_], who=who, at=at))
    if fresh:
        _count(connection, {id_: found[id_] for id_ in fresh}, told, at)
    moved = _move(connection, [id_ for id_ in fresh if told.converted], who=who, at=at)
    status = {id_: one.status for id_, one in found.items()} | moved
    return [
        Recorded(
            id=id_,
            records=known.get(id_, []),
            status=status.get(id_),
            new=id_ in fresh,
            moved=id_ in moved,
            refused="expected a time after the alert was scored" if id_ in late else None,
        )
        for id_ in ids
    ]


def of_alert(connection: sa.Connection, alert: str) -> list[Record]:
    """All that was told of an alert, latest first."""
    query = sa.select(outcomes).where(outcomes.c.alert_id == alert).order_by(outcomes.c.seq.desc())
    return [Record(**row) for row in connection.execute(query).mappings()]


def after(connection: sa.Connection, seq: int, limit: int) -> Iterator[Record]:
    """Records with a higher number, of all organisations, first to last, at most `limit`."""
    query = sa.select(outcomes).where(outcomes.c.seq > seq).order_by(outcomes.c.seq).limit(limit)
    return (Record(**row) for row in connection.execute(query).mappings())


def _same(one: Outcome, other: Outcome) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in Outcome.__struct_fields__)


def _insert(
    connection: sa.Connection, id_: str, one: Facts, told: Outcome, known: Sequence[Record], *, who: str, at: int
) -> Record:
    row = msgspec.structs.asdict(told) | {
        "alert_id": id_,
        "organisation": one.organisation,
        "who": who,
        "recorded_at": at,
        "corrects": known[0].seq if known else None,
    }
    (seq,) = connection.execute(sa.insert(outcomes).values(row)).inserted_primary_key or (0,)
    return Record(seq=seq, **row)


def _count(connection: sa.Connection, before: dict[str, Facts], told: Outcome, at: int) -> None:
    """The alerts have the outcome that was told last, and so have the tallies."""
    now = {
        "outcome": told.outcome,
        "converted": told.converted,
        "value": told.value,
        "converted_at": (at if told.at is None else told.at) if told.converted else None,
    }
    connection.execute(sa.update(alerts).where(alerts.c.id.in_(before)).values(now))
    after = [msgspec.structs.replace(one, **now) for one in before.values()]
    alert_tally.move(connection, list(before.values()), after)


def _move(connection: sa.Connection, ids: Sequence[str], *, who: str, at: int) -> dict[str, Status]:
    """Takes those that can to CONVERTED; where those stand that took a step."""
    standing = alert_tally.facts(connection, ids) if ids else {}
    moved: dict[str, Status] = {}
    for to in WAY["PENDING"]:
        going = [id_ for id_, one in standing.items() if to in WAY.get(one.status, ())]
        for one in alert_status.move(connection, going, to, who=who, at=at, why="it converted") if going else ():
            if one.new and one.status:
                moved[one.id] = one.status
    return moved
