"""What the learner takes from the lake: people sampled, whoever they are, and predictions by id."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from feature_repo.declare import Service
from feature_repo.moments import microseconds, milliseconds
from feature_repo.training_sets import EVENT_TIMESTAMP
from feature_repo.vocabulary import Vocabulary
from flows import predictions
from flows.lake_read import LakeReader, Window
from flows.learners.example import Example
from flows.learning_items import Item, Position, Read, Seen, Told
from flows.learning_rows import Row, begun
from flows.learning_versions import DAY, Versions

EVERY_S = 30.0  # between two looks
SOON_S = 5.0  # ... while something waits for the next
SHARE = 0.1  # of the time that looks take at most then: 0.6 s of 300,000 rows of a day
EVERY_DAYS = 7  # one score of each person followed: of one model, the next one the next time
_SAMPLED = """
    WITH sampled AS (
        SELECT * FROM served
        WHERE ({since}) AND (CAST((uid >> 8) % {days} AS BIGINT) + epoch_ms({at}) // {day}) % {days} = 0
        QUALIFY row_number() OVER (PARTITION BY uid, epoch_ms({at}) // {day} ORDER BY created) = 1
    )
    SELECT * FROM sampled QUALIFY row_number() OVER (PARTITION BY "partition" ORDER BY created, {at}, uid) <= {most}
    ORDER BY created, {at}, uid
"""
_SINCE = '("partition" = {p} AND (epoch_us(created), epoch_ms({at}), uid) > ({us}, {ms}, {uid}::UBIGINT))'
_NAMED = "SELECT * FROM predictions WHERE prediction_id IN (SELECT unnest(?))"


class Place(NamedTuple):
    """Of a row among those of its partition: rows of one flush are all of one moment."""

    created: int  # us
    at: int = 0  # ms
    uid: int = 0

    @classmethod
    def of(cls, row: dict[str, Any]) -> Place:
        return cls(microseconds(row["created"]), milliseconds(row[EVENT_TIMESTAMP]), row["uid"])

    @classmethod
    def told(cls, place: str) -> Place:
        return cls(*map(int, place.split()))

    def __str__(self) -> str:
        return " ".join(map(str, self))


class Sampling:
    """Of the people whose features the lake keeps as served, each one's first score of every seventh day."""

    def __init__(self, lake: LakeReader, vocabulary: Vocabulary, versions: Versions, partitions: int) -> None:
        self._lake, self._vocabulary, self._versions = lake, vocabulary, versions
        self._models = [service for service in vocabulary.services if service.alert]
        self._found: dict[int, list[dict[str, Any]]] = {p: [] for p in range(partitions)}
        self._full: set[int] = set()
        self._looked, self._took = float("-inf"), 0.0

    def rows(self, partition: int) -> list[dict[str, Any]]:
        """As they were found at the last look, in their order."""
        return self._found[partition]

    def more(self, partition: int) -> bool:
        """Whether there were more at the last look."""
        return partition in self._full

    def is_due(self, after: dict[int, Place], *, soon: bool) -> bool:
        """Whether to look for what was written since, by partition."""
        lacking = any(not self._found[p] or Place.of(self._found[p][-1]) <= after[p] for p in self._full)
        pause = min(max(SOON_S, self._took / SHARE), EVERY_S) if soon else EVERY_S
        return lacking or time.monotonic() - self._looked > pause

    def look(self, after: dict[int, Place], most: int) -> None:
        """At what was written since; `most` of each partition."""
        self._looked = time.monotonic()
        if self._models:
            self._look(after, most)
        self._took = time.monotonic() - self._looked

    def _look(self, after: dict[int, Place], most: int) -> None:
        told = [_SINCE.format(p=p, at=EVENT_TIMESTAMP, us=o.created, ms=o.at, uid=o.uid) for p, o in after.items()]
        query = _SAMPLED.format(since=" OR ".join(told), days=EVERY_DAYS, at=EVENT_TIMESTAMP, day=DAY, most=most)
        found = self._lake.served(query, Window(since=min(after.values()).created // 1000)).to_pylist()
        self._found = {p: [] for p in after}
        for row in found:
            self._found[row["partition"]].append(row)
        self._full = {p for p, rows in self._found.items() if len(rows) == most}

    def seen(self, row: dict[str, Any]) -> Seen | None:
        """Its score by one model; None where that was not asked, or is not known any more."""
        at = milliseconds(row[EVENT_TIMESTAMP])
        service = self._models[((row["uid"] >> 8) + at // DAY) // EVERY_DAYS % len(self._models)]
        model, score = service.name, row.get(f"{service.name}__score")
        version, number = row.get(f"{model}__version"), row.get(f"{model}__calibration") or 0
        names = self._versions.names(model, version) if score is not None and version else None
        raw = self._versions.raw(model, number, score) if names is not None and score is not None else None
        if names is None or score is None or raw is None or not all(name in row for name in names):
            return None
        example = Example(
            id=f"sm_{row['uid']:016x}_{at // DAY}",
            organisation=row["organisation"],
            user=row["user"],
            model=model,
            version=str(version),
            at=at,
            raw=raw,
            score=score,
            features=self._features(service, names, row),
            names=names,
            source="sample",
            calibration=number,
        )
        return Seen(example, self._versions.until(model, str(version), at))

    def _features(self, service: Service, names: Sequence[str], row: dict[str, Any]) -> tuple[float, ...]:
        """As the model was given them: defaults for what was null."""
        return tuple(self._vocabulary.default(name) if row[name] is None else row[name] for name in names)


class Samples:
    """One partition's."""

    def __init__(self, rank: int, partition: int, sampling: Sampling) -> None:
        self.name = f"samples:{partition}"
        self._rank, self._partition, self._sampling = rank, partition, sampling

    def read(self, after: Position, most: int) -> Read:
        items, latest, start = [], after.time, Place.told(after.place or "0")
        for row in self._sampling.rows(self._partition):
            place = Place.of(row)
            if place <= start:
                continue
            seen = self._sampling.seen(row)
            latest = max(latest, milliseconds(row[EVENT_TIMESTAMP]))
            items.append(Item(latest, self._rank, str(place), (seen,) if seen else ()))
            if len(items) == most:
                return Read(items, more=True)
        return Read(items, self._sampling.more(self._partition))


def answered(lake: LakeReader, versions: Versions, told: Iterable[Told], since: int | None) -> dict[str, Row]:
    """The predictions that these outcomes are of, by id, as far as the lake (or what waits for it) has them."""
    ids = [one.id for one in told]
    if not ids:
        return {}
    found = lake.predictions(_NAMED, since, [ids]).to_pylist()
    rows = [row for one in found if (row := _answered(one, versions))]
    return {row.id: row for row in rows}


def _answered(one: dict[str, Any], versions: Versions) -> Row | None:
    model, version = one["model"], one["version"]
    names, number = versions.names(model, version), one.get("calibration") or 0
    raw = versions.raw(model, number, one["probability"])
    if names is None or raw is None:
        return None
    columns = predictions.columns(predictions.Head(model, version, "", "", names))
    example = Example(
        id=one["prediction_id"],
        organisation=one["organisation"],
        user=one["entity_id"] or "",
        model=model,
        version=version,
        at=milliseconds(one["at"]),
        raw=raw,
        score=one["probability"],
        features=tuple(one[column] for column in columns),
        names=names,
        source="prediction",
        calibration=number,
    )
    return begun(example, 0)
