"""Quiet hours, days and digests in a person's own zone."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.local_time import HOUR_MS, Quiet, day_of, local, next_at, next_hour, quiet_until

ZONES = [
    ZoneInfo(name) for name in ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe")
]
BERLIN = ZoneInfo("Europe/Berlin")
moments = st.integers(1_700_000_000_000, 1_800_000_000_000)
minutes = st.integers(0, 1439)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("now", "end"),
    [
        ("2026-03-28T21:59:59+01:00", None),
        ("2026-03-28T22:00+01:00", "2026-03-29T07:00+02:00"),  # the night that lacks an hour
        ("2026-03-29T06:59:59+02:00", "2026-03-29T07:00+02:00"),
        ("2026-03-29T07:00+02:00", None),
        ("2026-10-25T02:30+02:00", "2026-10-25T07:00+01:00"),  # the night that has one twice
        ("2026-10-25T02:30+01:00", "2026-10-25T07:00+01:00"),
    ],
)
def test_a_night_ends_in_the_morning_whatever_the_clocks_do(now: str, end: str | None) -> None:
    """22:00 to 07:00, across both changes of the year."""
    assert quiet_until(ms(now), Quiet(22 * 60, 7 * 60), BERLIN) == (ms(end) if end else None)


def test_a_minute_shown_twice_is_quiet_twice_and_one_skipped_ends_an_hour_later() -> None:
    """02:30 comes twice in October, and never on the last Sunday of March."""
    assert quiet_until(ms("2026-10-25T02:10+01:00"), Quiet(0, 150), BERLIN) == ms("2026-10-25T02:30+01:00")
    assert quiet_until(ms("2026-03-29T03:10+02:00"), Quiet(0, 150), BERLIN) == ms("2026-03-29T03:30+02:00")


@given(moments, minutes, minutes, st.sampled_from(ZONES))
def test_what_the_wall_clock_says_is_quiet_is_quiet(now: int, start: int, until: int, zone: ZoneInfo) -> None:
    """Away from the days on which clocks change."""
    if start == until or len({local(now + d * HOUR_MS, zone).utcoffset() for d in range(-48, 49, 12)}) > 1:
        return
    minute = local(now, zone).hour * 60 + local(now, zone).minute
    inside = start <= minute < until if start < until else minute >= start or minute < until
    end = quiet_until(now, Quiet(start, until), zone)
    assert (end is not None) == inside
    if end is not None:
        assert now < end <= now + 24 * HOUR_MS
        assert local(end, zone).hour * 60 + local(end, zone).minute == until


@given(moments, minutes, st.sampled_from(ZONES))
def test_the_next_digest_is_ahead_and_no_more_than_a_day_away(now: int, minute: int, zone: ZoneInfo) -> None:
    """A day of up to 25 hours, and an hour more where the minute is skipped."""
    assert now < next_at(now, minute, zone) <= now + 26 * HOUR_MS
    assert now < next_hour(now, zone) <= now + HOUR_MS
    assert local(next_hour(now, zone), zone).minute in {0, 30}  # Lord Howe moves its clocks by half an hour


@given(moments, minutes, st.integers(1, 3), st.sampled_from(ZONES))
def test_a_digest_some_days_later_falls_on_that_date(now: int, minute: int, days: int, zone: ZoneInfo) -> None:
    """By the calendar there, not by 24 hours."""
    assert day_of(next_at(now, minute, zone, days), zone) == day_of(now, zone) + days


def test_a_date_is_the_persons_own() -> None:
    """At half past eleven at night in UTC it is tomorrow in Kathmandu."""
    now = ms("2026-06-01T23:30+00:00")
    assert day_of(now, ZoneInfo("Asia/Kathmandu")) == day_of(now, ZoneInfo("UTC")) + 1
    assert datetime.fromordinal(day_of(now, ZoneInfo("UTC"))).date() == datetime.fromtimestamp(now / 1000, UTC).date()
