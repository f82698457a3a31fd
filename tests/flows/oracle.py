"""What the features of one organisation's people must be: computed from scratch, by their descriptions, each time.

Plain Python over the list of all events ever received. Shares no code with the window engine: its own days,
its own duplicates, its own arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import isclose, nan
from typing import Literal

import msgspec

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOURS_KEPT = 24  # a messageId counts again after that
TILES_KEPT = 90
DAY_MS = 24 * 60 * 60 * 1000
Outcome = Literal["processed", "duplicate", "unknown", "late"]
IDENTIFY = "identify"  # counts in no window, and is never late
BY_PERSON = (
    "document_access",
    "document_download",
    "document_share",
    "email_open",
    "email_click",
    "calculator_use",
    "property_value_check",
    "comparable_view",
    "market_report_view",
    "profile_update",
    "session",
)


class Happened(msgspec.Struct, frozen=True):
    """One event that counted."""

    event: str
    tag: str | None
    value: int
    ts: int
    day: int
    hour: int


class Told(msgspec.Struct):
    """What one trait stands at: its value, since when, and when it last became another one."""

    value: float | int
    ts: int
    changed: int = 0


def moment(ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=ms)


def day_of(ms: int) -> int:
    return moment(ms).date().toordinal()


def hour_of(ms: int) -> int:
    return day_of(ms) * 24 + moment(ms).hour


class Person:
    """One person, as of `now` (ms since 1970)."""

    def __init__(self) -> None:
        self.now = 0
        self.events: list[Happened] = []
        self.traits: dict[str, Told] = {}

    # -- what comes

    def pass_time(self, now: int) -> None:
        self.now = max(self.now, now)

    def happen(self, now: int, ts: int, event: str, tag: str | None, value: int) -> bool:
        """Count one event; False when it comes too late to count."""
        self.pass_time(now)
        ts = min(ts, now)
        if day_of(ts) <= day_of(now) - TILES_KEPT:
            return False
        self.events.append(Happened(event, tag, value, ts, day_of(ts), hour_of(ts)))
        return True

    def tell(self, now: int, ts: int, trait: str, value: float) -> None:
        """The latest timestamp wins, then the later in the log."""
        self.pass_time(now)
        ts = min(ts, now)
        known = self.traits.get(trait)
        if known is None:
            self.traits[trait] = Told(value, ts)
        elif ts >= known.ts:
            changed = known.changed if known.value == value else ts
            self.traits[trait] = Told(value, ts, changed)

    def absorb(self, other: Person, now: int) -> None:
        """This person turned out to be that other one, too."""
        self.pass_time(max(now, other.now))
        self.events += other.events
        for trait, told in other.traits.items():
            self.tell(self.now, told.ts, trait, told.value)
            self.traits[trait].changed = max(self.traits[trait].changed, told.changed)

    # -- windows

    def within(self, names: Iterable[str], days: int = 0, hours: int = 0, tag: str | None = None) -> list[Happened]:
        """Events of these types in the last `days` UTC days, today's included, or `hours` clock hours."""
        today, this_hour, wanted = day_of(self.now), hour_of(self.now), set(names)
        return [
            e
            for e in self.events
            if e.event in wanted
            and tag in (None, e.tag)
            and (e.day > today - days if days else e.hour > this_hour - hours)
        ]

    def count(self, event: str, days: int = 0, hours: int = 0, tag: str | None = None) -> int:
        return len(self.within([event], days, hours, tag))

    def last(self, names: Iterable[str], tag: str | None = None) -> int:
        """When one of these last happened; 0 = never."""
        wanted = set(names)
        return max((e.ts for e in self.events if e.event in wanted and tag in (None, e.tag)), default=0)

    def minutes(self, days: int) -> float:
        return sum(e.value for e in self.within(["session"], days)) / 1000

    def trait(self, name: str) -> float:
        return self.traits[name].value if name in self.traits else nan

    # -- features

    def features(self) -> dict[str, float]:
        """All 45, by name."""
        strengths = self.strengths()
        found: dict[str, float] = {
            **self._documents(),
            **self._email(),
            **self._platform(),
            **self._property(),
            **self._life(),
            **{f"{name}_strength": strength for _, name, strength in strengths},
            **self._trends(),
        }
        for family in ("document", "email", "platform"):
            found[f"{family}_signal_count"] = sum(s > 0.3 for f, _, s in strengths if f == family)
        found["total_signal_strength"] = sum(s for _, _, s in strengths)
        return found

    def _documents(self) -> dict[str, float]:
        return {
            "doc_access_count_30d": self.count("document_access", 30),
            "doc_download_count_30d": self.count("document_download", 30),
            "doc_share_count_30d": self.count("document_share", 30),
            "doc_access_per_week": self.count("document_access", 90) * 7 / 90,
            "days_since_doc_access": self._days_since(self.last(["document_access"])),
            "doc_access_decline_30d": self._decline(),
        }

    def _decline(self) -> float:
        lately, both = self.count("document_access", 30), self.count("document_access", 60)
        return ((both - lately) - lately) / both if both else 0.0

    def _email(self) -> dict[str, float]:
        return {
            "email_open_rate_90d": self._by_sent(self.count("email_open", 90), 90),
            "email_click_rate_90d": self._by_sent(self.count("email_click", 90), 90),
            "refinance_email_clicks_90d": self.count("email_click", 90, tag="refinance"),
            "market_report_views_30d": self.count("market_report_view", 30),
            "email_engagement_momentum": self._engagement(30) - self._engagement(90),
        }

    def _by_sent(self, acts: int, days: int) -> float:
        return min(acts / max(self.count("email_sent", days), 1), 1.0)

    def _engagement(self, days: int) -> float:
        return self._by_sent(len(self.within(["email_open", "email_click"], days)), days)

    def _platform(self) -> dict[str, float]:
        visits = self.count("session", 30)
        return {
            "value_check_count_30d": self.count("property_value_check", 30),
            "calculator_use_count_30d": self.count("calculator_use", 30),
            "comparable_views_30d": self.count("comparable_view", 30),
            "session_count_30d": visits,
            "avg_session_minutes_30d": self.minutes(30) / visits if visits else 0.0,
            "days_since_last_visit": self._days_since(self.last(["session"])),
            "visits_per_week": self.count("session", 90) * 7 / 90,
        }

    def _property(self) -> dict[str, float]:
        owned, bought = self.trait("property_count"), self.trait("home_purchase_date")
        value, owed = self.trait("property_value"), self.trait("mortgage_balance")
        known, indebted = value == value, owed == owed  # noqa: PLR0124 # not NaN
        return {
            "property_count": owned if owned == owned else 0.0,  # noqa: PLR0124
            "home_ownership_years": max(self.now - bought, 0) / DAY_MS / 365.25 if bought == bought else 0.0,  # noqa: PLR0124
            "estimated_equity": (value - (owed if indebted else 0.0)) if known else 0.0,
            "loan_to_value": min(max(owed / value, 0.0), 2.0) if known and indebted and value > 0 else 0.0,
        }

    def _life(self) -> dict[str, float]:
        return {
            "address_change_recent": self._changed("address", "address"),
            "job_change_recent": self._changed("job", "job_title"),
            "marital_status_change_recent": self._changed("marital_status", "marital_status"),
        }

    def _changed(self, field: str, trait: str) -> float:
        told = self.traits[trait].changed if trait in self.traits else 0
        latest = max(told, self.last(["profile_update"], field))
        return float(latest > 0 and self.now - latest < 90 * DAY_MS)

    def _trends(self) -> dict[str, float]:
        return {
            "login_frequency_slope_30d": self._slope(),
            "active_days_30d": len({e.day for e in self.within(BY_PERSON, 30)}),
            "mean_days_between_sessions": self._gap(),
            "event_type_diversity_30d": len({e.event for e in self.within(BY_PERSON, 30)}),
            "hours_since_last_event": self._days_since(self.last(BY_PERSON)) * 24,
        }

    def _slope(self) -> float:
        """Least squares by the textbook: one point a day."""
        today = day_of(self.now)
        visits = [e.day for e in self.within(["session"], 30)]
        daily = [visits.count(today - 29 + i) for i in range(30)]
        mean_x, mean_y = 14.5, sum(daily) / 30
        above = sum((x - mean_x) * (y - mean_y) for x, y in enumerate(daily))
        return above / sum((x - mean_x) ** 2 for x in range(30))

    def _gap(self) -> float:
        days = sorted({e.day for e in self.within(["session"], 90)})
        gaps = [later - earlier for earlier, later in pairwise(days)]
        return sum(gaps) / len(gaps) if gaps else 90.0

    def _days_since(self, at: int) -> float:
        return min(max(self.now - at, 0) / DAY_MS, 365.0) if at else 365.0

    # -- signals

    def strengths(self) -> list[tuple[str, str, float]]:
        """(family, signal, strength) of all 11."""
        return [
            ("document", "document_access_spike", self._spike()),
            ("document", "document_download_pattern", self._risen("document_download")),
            ("document", "document_sharing", self._half(self.count("document_share", 30), 2)),
            ("document", "dormant_reactivation", self._reawakened()),
            ("email", "high_email_engagement", self._engaged()),
            ("email", "refinance_interest", self._refinancing()),
            ("email", "market_report_interest", self._half(self.count("market_report_view", 30), 3)),
            ("platform", "value_checks", self._risen("property_value_check")),
            ("platform", "calculator_use", self._risen("calculator_use")),
            ("platform", "comparable_research", self._researched()),
            ("platform", "profile_updates", self._half(self.count("profile_update", 30), 2)),
        ]

    def confidence(self) -> float:
        """How sure the signals are together: each by how much there is to see, weighed by its strength."""
        sure = {name: self._half(seen, half) for name, (half, seen) in self._evidence().items()}
        strengths = {name: strength for _, name, strength in self.strengths()}
        return sum(s * sure[name] for name, s in strengths.items()) / (sum(strengths.values()) or 1)

    def _evidence(self) -> dict[str, tuple[int, int]]:
        """(events at which a signal is half sure, events that it sees, some in two windows)."""
        both = {name: self.count(name, 30) + self.count(name, 90) for name in BY_PERSON}
        reads = [self.count("document_access", days) for days in (7, 90)]
        return {
            "document_access_spike": (6, self.count("document_access", hours=24) + sum(reads)),
            "document_download_pattern": (4, both["document_download"]),
            "document_sharing": (2, self.count("document_share", 30)),
            "dormant_reactivation": (6, sum(len(self.within(BY_PERSON, days)) for days in (7, 37, 90)) + reads[0]),
            "high_email_engagement": (8, sum(self.count(f"email_{act}", 30) for act in ("open", "click", "sent"))),
            "refinance_interest": (
                4,
                len(self.within(["email_click", "email_open"], 90, tag="refinance")) + self.count("calculator_use", 90),
            ),
            "market_report_interest": (3, self.count("market_report_view", 30)),
            "value_checks": (4, both["property_value_check"]),
            "calculator_use": (3, both["calculator_use"]),
            "comparable_research": (4, self.count("comparable_view", 30)),
            "profile_updates": (2, self.count("profile_update", 30)),
        }

    @staticmethod
    def _half(amount: float, half: float) -> float:
        return amount / (amount + half)

    def _spike(self) -> float:
        week, quarter = self.count("document_access", 7), self.count("document_access", 90)
        usual = (quarter - week) * 7 / 83
        excess = max(week - usual, 0)
        burst = self._half(self.count("document_access", hours=24), 4)
        return min(excess / (excess + 1 + usual) + burst / 10, 1)

    def _risen(self, event: str) -> float:
        lately, quarter = self.count(event, 30), self.count(event, 90)
        usual = (quarter - lately) / 2
        return self._half(lately, 2 + usual / 2)

    def _reawakened(self) -> float:
        week, five, quarter = (len(self.within(BY_PERSON, days)) for days in (7, 37, 90))
        if not week or five > week or quarter == five:
            return 0.0
        return self._half(week + self.count("document_access", 7), 2)

    def _engaged(self) -> float:
        opens, clicks, sent = (self.count(f"email_{act}", 30) for act in ("open", "click", "sent"))
        return min((opens + 2 * clicks) / (max(sent, opens) * 3 + 2), 1)

    def _refinancing(self) -> float:
        clicks, opens = (self.count(f"email_{act}", 90, tag="refinance") for act in ("click", "open"))
        return self._half(2 * clicks + opens / 2 + self.count("calculator_use", 90) / 2, 3)

    def _researched(self) -> float:
        views = self.count("comparable_view", 30)
        return self._half(views + (self.minutes(30) / 120 if views else 0), 5)


class Oracle:
    """All people of one store, and which messages it has had."""

    def __init__(self) -> None:
        self.people: dict[str, Person] = {}
        self.outcomes: dict[str, int] = {"processed": 0, "duplicate": 0, "unknown": 0, "late": 0}
        self._first_seen: dict[object, int] = {}

    def person(self, name: str) -> Person:
        return self.people.setdefault(name, Person())

    def receive(
        self,
        name: str,
        now: int,
        ts: int,
        event: str | None,
        *,
        message: object,
        tag: str | None = None,
        value: int = 0,
        traits: Iterable[tuple[str, float]] = (),
    ) -> Outcome:
        """One event in log order; `event` None = unknown to the vocabulary, `traits` are (name, value)."""
        outcome = self._receive(name, now, ts, event, message=message, tag=tag, value=value, traits=list(traits))
        self.outcomes[outcome] += 1
        return outcome

    def _receive(
        self,
        name: str,
        now: int,
        ts: int,
        event: str | None,
        *,
        message: object,
        tag: str | None,
        value: int,
        traits: list[tuple[str, float]],
    ) -> Outcome:
        if self._had(message, now):
            return "duplicate"
        if event is None:
            return "unknown"
        counted = event == IDENTIFY or self.person(name).happen(now, ts, event, tag, value)
        for trait, told in traits:
            self.person(name).tell(now, ts, trait, told)
        return "processed" if counted else "late"

    def _had(self, message: object, now: int) -> bool:
        """Whether the message came before, within the horizon; it counts by the minute."""
        minute = now // 60_000
        first = self._first_seen.get(message)
        if first is not None and minute - first <= HOURS_KEPT * 60:
            return True
        self._first_seen[message] = minute
        return False


def unlike(found: dict[str, float | None], expected: dict[str, float]) -> dict[str, tuple[float | None, float]]:
    """Features that are not what they must be: name -> (found, expected). The last bits may differ."""
    return {
        name: (found.get(name), value)
        for name, value in expected.items()
        if not isclose(_number(found.get(name)), value, rel_tol=1e-12, abs_tol=1e-12)
    }


def _number(value: float | None) -> float:
    return nan if value is None else value
