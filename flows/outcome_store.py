"""What became of predictions, in SQL beside the alerts. Nothing is overwritten: a correction is another record."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from flows import database
from flows.database import metadata

TRIES = 5  # others may record the same prediction at the same moment

outcomes = sa.Table(
    "outcomes",
    metadata,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("prediction_id", sa.String(256), nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("organisation", sa.Text, nullable=False),
    sa.Column("model", sa.String(128), nullable=False),
    sa.Column("predicted_at", sa.BigInteger, nullable=False),
    sa.Column("outcome", sa.SmallInteger, nullable=False),
    sa.Column("value", sa.Double),
    sa.Column("at", sa.BigInteger),
    sa.Column("notes", sa.Text),
    sa.Column("recorded_at", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("prediction_id", "revision"),
    sa.Index("outcomes_by_model", "organisation", "model", "seq"),
    sqlite_autoincrement=True,
)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One record. Times are ms since 1970: `predicted_at` and `recorded_at` by our clock, `at` as told (None: not)."""

    prediction_id: str
    organisation: str
    model: str
    predicted_at: int
    outcome: int
    value: float | None
    at: int | None
    notes: str | None
    recorded_at: int

    def says(self, other: Outcome) -> bool:
        """Whether it says what the other one says."""
        return (self.outcome, self.value, self.at, self.notes) == (other.outcome, other.value, other.at, other.notes)


def record(engine: sa.Engine, new: Outcome) -> list[Outcome]:
    """Stores a record unless the latest says the same; returns all of the prediction, latest first."""
    for _ in range(TRIES):
        known = of_prediction(engine, new.prediction_id, new.organisation)
        if known and known[0].says(new):
            return known
        row = msgspec.structs.asdict(new) | {"revision": len(known)}
        try:
            with engine.begin() as connection:
                database.one_by_one(connection)  # who learns reads them by `seq`
                connection.execute(outcomes.insert(), row)
        except sa.exc.IntegrityError:  # somebody else was first: what did they say?
            continue
        return [new, *known]
    raise sa.exc.OperationalError("record", None, Exception(f"{TRIES} others recorded {new.prediction_id} meanwhile"))


def of_prediction(engine: sa.Engine, prediction: str, organisation: str) -> list[Outcome]:
    """All records of a prediction, latest first."""
    mine = outcomes.c.prediction_id == prediction, outcomes.c.organisation == organisation
    columns = [outcomes.c[name] for name in Outcome.__struct_fields__]
    with engine.connect() as connection:
        found = connection.execute(sa.select(*columns).where(*mine).order_by(outcomes.c.revision.desc())).mappings()
        return [Outcome(**row) for row in found]
