"""An example on its way: seen, then labelled, perhaps corrected; and how it lies in SQL."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from flows.alert_table import alerts
from flows.learners.example import Example, Source
from flows.learning_tables import examples
from flows.learning_versions import Versions

DAY = 86_400_000
GRACE = DAY  # after a horizon's end until nothing is taken to have come about: events come late


class Body(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What SQL does not hold of a prediction or a sample elsewhere."""

    raw: float
    score: float
    calibration: int
    features: tuple[float, ...]


class Row(msgspec.Struct, kw_only=True, gc=False):
    """`label` None: not known yet; `revision` -1 then. `due`: when it is taken for 0, ms; None: never, or it is known.

    `new`, `changed`: since SQL was read. `predicted`: by learner.
    """

    id: str
    organisation: str
    user: str
    model: str
    version: str
    source: Source
    at: int
    until: int
    due: int | None
    withheld: bool
    label: int | None
    why: str | None
    revision: int
    predicted: dict[str, float | None]
    raw: float
    score: float
    calibration: int
    features: tuple[float, ...]
    names: tuple[str, ...]
    new: bool = False
    changed: bool = False

    def example(self) -> Example:
        """Without its label."""
        return Example(
            id=self.id,
            organisation=self.organisation,
            user=self.user,
            model=self.model,
            version=self.version,
            at=self.at,
            raw=self.raw,
            score=self.score,
            features=self.features,
            names=self.names,
            source=self.source,
            until=self.until,
            calibration=self.calibration,
            withheld=self.withheld,
        )


class Line(msgspec.Struct, frozen=True, gc=False):
    """A line of the journal: a label that is learned."""

    row: Row
    revision: int
    label: int
    was: int | None
    label_at: int
    why: str

    def example(self) -> Example:
        told = {"label": self.label, "label_at": self.label_at, "revision": self.revision, "was": self.was}
        return msgspec.structs.replace(self.row.example(), **told)


def begun(example: Example, until: int) -> Row:
    """Of a score that is seen for the first time."""
    told = {name: getattr(example, name) for name in _SHARED}
    return Row(
        **told,
        until=until,
        due=until + GRACE if until else None,
        label=None,
        why=None,
        revision=-1,
        predicted={},
        new=True,
    )


_SHARED = tuple(name for name in Example.__struct_fields__ if name in Row.__struct_fields__ and name not in {
    "until", "label", "revision", "predicted"
})  # fmt: skip
COLUMNS = ("id", "organisation", "user", "model", "version", "source", "at", "until", "due", "withheld", "label", "why",
           "revision")  # fmt: skip
_JOINED = examples.outerjoin(alerts, alerts.c.id == examples.c.id)
SELECT = sa.select(examples, alerts.c.score, alerts.c.calibration, alerts.c.features).select_from(_JOINED)
_floats = msgspec.json.Decoder(tuple[float, ...]).decode
_predicted = msgspec.json.Decoder(dict[str, float | None]).decode
_body = msgspec.msgpack.Decoder(Body).decode


def values(row: Row) -> dict[str, Any]:
    """As SQL takes a new one."""
    told = {name: getattr(row, name) for name in COLUMNS}
    body = None if row.source == "alert" else Body(row.raw, row.score, row.calibration, row.features)
    encoded = None if body is None else msgspec.msgpack.encode(body)
    return told | {"predicted": msgspec.json.encode(row.predicted).decode(), "body": encoded}


def read(found: sa.RowMapping, versions: Versions) -> Row | None:
    """As SQL told it; None where what it is made of is gone (an alert that was erased), or cannot be told any more."""
    names, body = versions.names(found["model"], found["version"]), _told(found, versions)
    if body is None or names is None or len(names) != len(body.features):
        return None
    told = {name: found[name] for name in COLUMNS}
    return Row(
        **told,
        predicted=_predicted(found["predicted"]),
        raw=body.raw,
        score=body.score,
        calibration=body.calibration,
        features=body.features,
        names=names,
    )


def _told(found: sa.RowMapping, versions: Versions) -> Body | None:
    if found["body"] is not None:
        return _body(found["body"])
    if found["features"] is None:
        return None
    raw = versions.raw(found["model"], found["calibration"], found["score"])
    return None if raw is None else Body(raw, found["score"], found["calibration"], _floats(found["features"]))
