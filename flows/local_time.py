"""A person's own time: quiet hours, days, and when a digest is due, in their zone, also where its clocks change.

Instants are milliseconds since 1970. Minutes are of the local day, 0 to 1,439.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import msgspec

HOUR_MS = 3_600_000


class Quiet(msgspec.Struct, frozen=True):
    """From the minute `start` to the minute `until`, not included; over midnight where that is the smaller one."""

    start: int
    until: int


def local(ms: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone)


def day_of(ms: int, zone: ZoneInfo) -> int:
    """The date there, as days since the year 1."""
    return local(ms, zone).toordinal()


def instant(day: date, minute: int, zone: ZoneInfo, *, last: bool = False) -> int:
    """When clocks there show that minute.

    Where they show it twice, the first or the `last` time; where they skip it, later by as much as they skip.
    """
    wall = datetime.combine(day, time(minute // 60, minute % 60), zone)
    first = round(wall.timestamp() * 1000)
    return max(first, round(wall.replace(fold=1).timestamp() * 1000)) if last else first


def quiet_until(ms: int, quiet: Quiet, zone: ZoneInfo) -> int | None:
    """The end of the quiet hours in which `ms` lies; None outside of them. A minute shown twice is quiet twice."""
    today = local(ms, zone).date()
    for began in (today - timedelta(days=1), today):
        ends = began + timedelta(days=quiet.until <= quiet.start)
        end = instant(ends, quiet.until, zone, last=True)
        if instant(began, quiet.start, zone) <= ms < end:
            return end
    return None


def next_hour(ms: int, zone: ZoneInfo) -> int:
    """When clocks there next show a full hour; after `ms`."""
    now = local(ms, zone)
    past = (now.minute * 60 + now.second) * 1000 + ms % 1000
    return ms + HOUR_MS - past


def next_at(ms: int, minute: int, zone: ZoneInfo, days: int = 0) -> int:
    """When clocks there next show `minute`, after `ms`; with `days`, that minute of the date so many days later."""
    today = local(ms, zone).date()
    if days:
        return instant(today + timedelta(days=days), minute, zone)
    found = (instant(today + timedelta(days=d), minute, zone) for d in range(3))
    return next(at for at in found if at > ms)
