"""Which of a person's events made a signal: those that its counts count."""

from __future__ import annotations

from datetime import datetime

import msgspec

from feature_repo.declare import Aggregate, Signal
from feature_repo.finish import DAY, HOUR
from feature_repo.vocabulary import KEEP_DAYS, Vocabulary
from flows.lake_read import LakeReader, Window

_NEWEST = """
    SELECT message_id, event, tag, name, least(ts, logged_at) AS ts
    FROM events
    WHERE event IS NOT NULL AND logged_at <= make_timestamptz(? * 1000)
    QUALIFY row_number() OVER (PARTITION BY event, tag ORDER BY least(ts, logged_at) DESC, logged_at DESC) <= ?
    ORDER BY 5 DESC
"""


class Event(msgspec.Struct, frozen=True):
    """One event of a person, as counted."""

    message_id: str | None
    event: str
    tag: str | None
    name: str | None
    ts: datetime


def recent(lake: LakeReader, user: str, at: int, most: int) -> list[Event]:
    """The events that were counted as of `at` (ms) within the longest window, newest first; of a kind at most `most`.

    `user` is `organisation/user`.
    """
    window = Window(users=lake.selves(user), since=(at // DAY - KEEP_DAYS + 1) * DAY)
    return [Event(**row) for row in lake.sql(_NEWEST, window, [at, most]).to_pylist()]


def made(signal: Signal, vocabulary: Vocabulary, events: list[Event], at: int) -> list[Event]:
    """Those that the signal's evidence counts as of `at`."""
    telling = vocabulary.members(signal.events)
    counts = [(a, vocabulary.members(a.events)) for a in signal.evidence.values()]
    return [
        e for e in events if e.event in telling and any(e.event in names and _counted(a, e, at) for a, names in counts)
    ]


def _counted(a: Aggregate, event: Event, at: int) -> bool:
    tile = HOUR if a.hourly else DAY
    open_since = at // tile - a.length + 1
    return a.tag in (None, event.tag) and int(event.ts.timestamp() * 1000) // tile >= open_since
