"""The verdict on a site: LOST, DOUBLED and PHANTOM events and alerts, by the clients' ledger, the log, and an oracle.

An event that a client was told is stored must be in the log, count once in features and counters as the oracle has
it, and be in the lake; one that was refused must be nowhere. An alert must be in SQL once, for those of whom the oracle
says so, and have reached the webhook at least once under its id.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

import duckdb
import msgspec
import redis

from feature_repo import keys
from flows.alert import MIN_CONFIDENCE
from flows.store import Store, connect, open_store
from tests.faults.engines import until_counted
from tests.faults.found import Found
from tests.faults.mortal import is_poison
from tests.faults.site import CHECKS, Site
from tests.faults.tap import Logged
from tests.faults.told import checking, told
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.flows.oracle import Oracle, unlike

PATIENCE_S = 60.0
SLACK_DAYS = 3  # midnights that a run may cross, by the clock or since the clock was moved


class Verdict(msgspec.Struct):
    """Sets that must be empty, by what is wrong with whom; `events`: how many the log holds."""

    events: int
    lost: dict[str, str] = {}
    doubled: dict[str, str] = {}
    phantom: dict[str, str] = {}

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.phantom)

    def add_to(self, found: Found) -> None:
        """To what the runs before found; the first that is wrong in words."""
        found.events += self.events
        found.lost += len(self.lost)
        found.doubled += len(self.doubled)
        found.phantom += len(self.phantom)
        if not self.clean:
            found.notes.setdefault("first", str(self)[:500])

    def __str__(self) -> str:
        sets = {"lost": self.lost, "doubled": self.doubled, "phantom": self.phantom}
        return ", ".join(f"{name} {len(found)}: {list(found.items())[:3]}" for name, found in sets.items() if found)


def verdict(site: Site) -> Verdict:
    """Once nothing is under way any more; writers must have been held or ended."""
    with closing(connect(site.settings)) as client:
        store = open_store(client)
        until_counted(client, store, quiet=3)
        site.tap.read(client)
        logged = site.tap.logged()
        found = Verdict(len(logged))
        _of_the_log(site, logged, found)
        worked, set_aside = _parted(client, logged, found)
        oracle = told((each.now, each.call) for each in worked)
        oracle.outcomes["quarantined"] = set_aside
        _of_counters(made.counts(client, store), oracle, found)
        _of_features(client, oracle, found)
        _of_the_lake(site, client, store, logged, found)
        _of_alerts(site, client, oracle, found)
    return found


def _of_the_log(site: Site, logged: list[Logged], found: Verdict) -> None:
    there = {each.call["messageId"] for each in logged}
    found.lost |= dict.fromkeys(site.ledger.acknowledged - there, "acknowledged, not in the log")
    found.phantom |= dict.fromkeys(site.ledger.refused & there, "refused, but in the log")
    unheard = there - site.ledger.acknowledged - site.ledger.undetermined
    found.phantom |= dict.fromkeys(unheard, "in the log, but nobody sent it")


def _parted(client: redis.Redis, logged: list[Logged], found: Verdict) -> tuple[list[Logged], int]:
    """(calls that are worked, how many others): entries with a poisonous call are set aside whole, and no other."""
    entries: dict[tuple[int, bytes], list[str]] = {}
    for each in logged:
        entries.setdefault((each.partition, each.entry), []).append(each.call.get("userId") or "")
    poisonous = {at for at, users in entries.items() if any(map(is_poison, users))}
    dead = {(int(fields[b"partition"]), fields[b"id"]) for _, fields in client.xrange(keys.DEAD)}
    found.lost |= {f"entry {at}": "set aside, though nothing is wrong with it" for at in dead - poisonous}
    found.phantom |= {f"entry {at}": "poisonous, and yet not set aside" for at in poisonous - dead}
    worked = [each for each in logged if (each.partition, each.entry) not in dead]
    return worked, len(logged) - len(worked)


def _of_counters(counts: dict[str, int], oracle: Oracle, found: Verdict) -> None:
    """Each counter by itself; accepted = all outcomes, since nothing waits."""
    accepted = counts.pop("accepted", 0)
    if accepted != sum(counts.values()):
        found.lost["accepted"] = f"{accepted} accepted, {sum(counts.values())} accounted for"
    for name, expected in oracle.outcomes.items():
        if (count := counts.get(name, 0)) != expected:
            which = found.lost if count < expected else found.doubled
            which[f"counter {name}"] = f"{count}, expected {expected}"


def _of_features(client: redis.Redis, oracle: Oracle, found: Verdict) -> None:
    for user, person in oracle.people.items():
        at, features = _served(client, user)
        if at < person.now:
            found.lost[user] = f"written as of {at}, something happened at {person.now}"
        person.pass_time(at)
        for name, (value, expected) in unlike(features, person.features()).items():
            which = found.lost if value is None or value < expected else found.doubled
            which[f"{user} {name}"] = f"{value}, expected {expected}"


def _served(client: redis.Redis, user: str) -> tuple[int, dict[str, float | None]]:
    """As of when, and what; a tick may write them as we look."""
    at = -1
    while at != (at := made.feature_time(client, VOCABULARY, user)):
        features = made.features(client, VOCABULARY, user)
    return at, features


def _of_the_lake(site: Site, client: redis.Redis, store: Store, logged: list[Logged], found: Verdict) -> None:
    """It is filled a little later than the features; a message that came again is there again."""

    def whole() -> bool:
        ends = [client.xrevrange(keys.log(p), count=1) for p in range(store.partitions)]
        reached = [client.get(keys.lake_position(p)) for p in range(store.partitions)]
        return all(not end or end[0][0] == at for end, at in zip(ends, reached, strict=True))

    if not _eventually(whole):
        found.lost["lake"] = "it did not come to the end of the log"
        return
    expected = Counter(each.call["messageId"] for each in logged)
    there = _in_the_lake(site)
    found.lost |= {f"{id_} in the lake": f"{there[id_]} of {n}" for id_, n in expected.items() if there[id_] < n}
    found.doubled |= {f"{id_} in the lake": f"{n} of {expected[id_]}" for id_, n in there.items() if n > expected[id_]}


def _in_the_lake(site: Site) -> Counter[str]:
    """Message id -> how often; from another tool than ours, when no file goes as it looks."""
    files = str(site.settings.lake / "events" / "**" / "*.parquet")
    query = "SELECT message_id, count(*) FROM read_parquet(?) WHERE message_id <> '' GROUP BY 1"
    for _ in range(20):
        with duckdb.connect() as db, suppress(duckdb.IOException):
            return Counter(dict(db.execute(query, [files]).fetchall()))
        time.sleep(0.2)
    return Counter()


def _of_alerts(site: Site, client: redis.Redis, oracle: Oracle, found: Verdict) -> None:
    must = {user for user in checking(oracle, 30, CHECKS) if oracle.person(user).confidence() >= MIN_CONFIDENCE}
    may = checking(oracle, 30 + SLACK_DAYS, CHECKS)
    _eventually(lambda: not client.xlen(keys.ALERTS) and {a["id"] for a in site.alerts()} <= site.delivered())
    alerts, delivered = site.alerts(), site.delivered()
    users = Counter(alert["user"] for alert in alerts)
    found.lost |= {f"alert of {user}": "not in SQL" for user in must - users.keys()}
    found.lost |= {a["id"]: "alert not delivered" for a in alerts if a["id"] not in delivered}
    found.doubled |= {f"alert of {user}": f"{n} alerts" for user, n in users.items() if n > 1}
    found.phantom |= {f"alert of {user}": "nobody had it coming" for user in users.keys() - may}
    found.phantom |= dict.fromkeys(delivered - {a["id"] for a in alerts}, "delivered, but in no table")


def _eventually(so: Callable[[], Any]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
