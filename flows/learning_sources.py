"""Where what the learner learns comes from: alerts, what was recorded of them and of predictions, outcome events."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec
import redis
import sqlalchemy as sa

from feature_repo import keys
from flows import alert_outcomes, alert_status, alert_tally, outcome_events
from flows.alert_table import alerts
from flows.learners.example import Example
from flows.learning_items import Happened, Item, Position, Read, Seen, Told, Unreadable, What
from flows.learning_versions import Versions
from flows.outcome_store import outcomes

LOOK_S = 1.0  # between two looks for outcomes of predictions, of which there are no more at once
_ALERT = [
    alerts.c[name]
    for name in ("seq", "id", "organisation", "user", "model", "model_version", "score", "calibration", "features",
                 "scored_at", "withheld")
]  # fmt: skip
_features = msgspec.json.Decoder(tuple[float, ...]).decode


class Alerts:
    """Each is an example from the moment at which it is stored."""

    name = "alerts"

    def __init__(self, rank: int, engine: sa.Engine, versions: Versions) -> None:
        self._rank, self._engine, self._versions = rank, engine, versions

    def read(self, after: Position, most: int) -> Read:
        query = sa.select(*_ALERT).where(alerts.c.seq > int(after.place or 0)).order_by(alerts.c.seq).limit(most)
        found = [(row["seq"], row["scored_at"], (self.seen(row),)) for row in _rows(self._engine, query)]
        return _numbered(self._rank, after, found, most)

    def named(self, ids: list[str]) -> list[Seen]:
        """Those of these names that are there and can be read."""
        if not ids:
            return []
        found = _rows(self._engine, sa.select(*_ALERT).where(alerts.c.id.in_(ids)).order_by(alerts.c.seq))
        return [seen for row in found if isinstance(seen := self.seen(row), Seen)]

    def seen(self, row: sa.RowMapping) -> What:
        model, version = row["model"], row["model_version"]
        names, features = self._versions.names(model, version), _features(row["features"])
        if names is None or len(names) != len(features):
            return Unreadable("alert", row["id"], "unknown version")
        raw = self._versions.raw(model, row["calibration"], row["score"])
        if raw is None:
            return Unreadable("alert", row["id"], "unknown calibration")
        example = Example(
            id=row["id"],
            organisation=row["organisation"],
            user=row["user"],
            model=model,
            version=version,
            at=row["scored_at"],
            raw=raw,
            score=row["score"],
            features=features,
            names=names,
            source="alert",
            calibration=row["calibration"],
            withheld=bool(row["withheld"]),
        )
        return Seen(example, self._versions.until(model, version, row["scored_at"]))


class AlertOutcomes:
    """What was recorded of alerts: 1 where what was predicted came about, whoever did it."""

    name = "alert_outcomes"

    def __init__(self, rank: int, engine: sa.Engine) -> None:
        self._rank, self._engine = rank, engine

    def read(self, after: Position, most: int) -> Read:
        told = alert_outcomes.outcomes
        columns = [told.c[name] for name in ("seq", "alert_id", "organisation", "outcome", "at", "recorded_at")]
        query = sa.select(*columns).where(told.c.seq > int(after.place or 0)).order_by(told.c.seq).limit(most)
        found = [(row["seq"], row["recorded_at"], (_judged(row),)) for row in _rows(self._engine, query)]
        return _numbered(self._rank, after, found, most)


def _judged(row: sa.RowMapping) -> Told:
    return Told(
        source="alert",
        id=row["alert_id"],
        organisation=row["organisation"],
        label=int(row["outcome"] in alert_tally.RIGHT),
        at=row["at"],
        recorded_at=row["recorded_at"],
    )


class AlertSteps:
    """An alert that became CONVERTED came about, unless its outcome was told otherwise."""

    name = "alert_steps"

    def __init__(self, rank: int, engine: sa.Engine) -> None:
        self._rank, self._engine = rank, engine

    def read(self, after: Position, most: int) -> Read:
        told = alert_status.changes
        columns = [told.c[name] for name in ("seq", "alert_id", "organisation", "at", "to_status")]
        query = sa.select(*columns).where(told.c.seq > int(after.place or 0)).order_by(told.c.seq).limit(most)
        found = [(row["seq"], row["at"], _stepped(row)) for row in _rows(self._engine, query)]
        return _numbered(self._rank, after, found, most)


def _stepped(row: sa.RowMapping) -> tuple[What, ...]:
    if row["to_status"] != "CONVERTED":
        return ()
    whose = row["alert_id"], row["organisation"]
    return (
        Told(source="alert", id=whose[0], organisation=whose[1], label=1, at=None, recorded_at=row["at"], weak=True),
    )


class PredictionOutcomes:
    """What was recorded of predictions; asked for once a second, since each look asks the lake for theirs."""

    name = "outcomes"

    def __init__(self, rank: int, engine: sa.Engine) -> None:
        self._rank, self._engine = rank, engine
        self._found, self._read_at = Read([], more=True), 0.0

    def read(self, after: Position, most: int) -> Read:
        if not self._found.more and time.monotonic() - self._read_at < LOOK_S:
            return Read([item for item in self._found.items if int(item.place) > int(after.place or 0)])
        self._found, self._read_at = self._asked(after, most), time.monotonic()
        return self._found

    def _asked(self, after: Position, most: int) -> Read:
        query = sa.select(outcomes).where(outcomes.c.seq > int(after.place or 0)).order_by(outcomes.c.seq).limit(most)
        found = [(row["seq"], row["recorded_at"], (_told(row),)) for row in _rows(self._engine, query)]
        return _numbered(self._rank, after, found, most)


def _told(row: sa.RowMapping) -> Told:
    return Told(
        source="prediction",
        id=row["prediction_id"],
        organisation=row["organisation"],
        label=row["outcome"],
        at=row["at"],
        recorded_at=row["recorded_at"],
        scored_at=row["predicted_at"],
        model=row["model"],
    )


class OutcomeEvents:
    """What the engine counted of one partition."""

    def __init__(self, rank: int, client: redis.Redis, partition: int) -> None:
        self.name = f"events:{partition}"
        self._rank, self._client, self._partition = rank, client, partition

    def read(self, after: Position, most: int) -> Read:
        """An entry is never split."""
        start = after.place if after.place and not self._went_back(after.place) else ""
        found: Any = self._client.xrange(keys.outcomes(self._partition), f"({start}" if start else "-", count=most)
        items, latest = [], after.time
        for id_, fields in found:
            latest = max(latest, int(id_.partition(b"-")[0]))
            items.append(Item(latest, self._rank, id_.decode(), self._events(id_, fields)))
        return Read(items, len(found) == most)

    def learned(self, place: str) -> None:
        """What is learned need not wait any more."""
        ms, _, number = place.partition("-")
        self._client.xtrim(keys.outcomes(self._partition), minid=f"{ms}-{int(number) + 1}", approximate=False)

    def _events(self, id_: bytes, fields: dict[bytes, bytes]) -> tuple[What, ...]:
        try:
            return tuple(Happened(told.person, told.event, told.ts) for told in outcome_events.decode(fields))
        except ValueError:
            return (Unreadable("event", f"{self.name} {id_.decode()}", "unreadable"),)

    def _went_back(self, place: str) -> bool:
        """Redis was lost, and its stream began anew: what it holds was not read, and nothing is learned twice."""
        if not self._client.exists(keys.outcomes(self._partition)):
            return False
        told: Any = self._client.xinfo_stream(keys.outcomes(self._partition))
        return _order(told["last-generated-id"].decode()) < _order(place)


def _order(id_: str) -> tuple[int, int]:
    ms, _, number = id_.partition("-")
    return int(ms), int(number)


def _numbered(rank: int, after: Position, found: Sequence[tuple[int, int, tuple[What, ...]]], most: int) -> Read:
    """Of rows as (`seq`, time, what it is)."""
    items, latest = [], after.time
    for seq, at, what in found:
        latest = max(latest, at)
        items.append(Item(latest, rank, str(seq), what))
    return Read(items, len(found) == most)


def _rows(engine: sa.Engine, query: sa.Select[Any]) -> list[sa.RowMapping]:
    with engine.connect() as connection:
        return list(connection.execute(query).mappings())
