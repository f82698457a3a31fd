"""Telling what is gone after a fault that no store survives whole, and judging what is left.

The tap saw every entry. What is in the lake after a rebuild, or was not trimmed, must count once; the rest must have
been told, to the event.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from contextlib import closing
from functools import partial
from typing import Any, TypeAlias

import duckdb
import redis

from feature_repo import keys
from flows.alert import MIN_CONFIDENCE
from flows.entry import Kind, decode
from flows.store import connect, open_store
from serving.client import Closed, Turned
from serving.metrics_read import values
from serving.supervisor import environment
from tests.faults import judge
from tests.faults.engines import until_counted
from tests.faults.judge import Verdict
from tests.faults.ledger import Client
from tests.faults.site import CHECKS, Site
from tests.faults.tap import Logged
from tests.faults.told import checking, told
from tests.flows import streams_made as made
from tests.running_up import TELLTALE

PATIENCE_S = 60.0
TOGETHER = 50  # calls of a batch
STAYS_S = 2.0  # for which it is looked whether an alarm goes on
Entries: TypeAlias = set[tuple[int, bytes]]


def eventually(so: Callable[[], Any], what: str, patience: float = PATIENCE_S) -> Any:
    """What it gives as soon as that is something."""
    deadline = time.monotonic() + patience
    while not (found := so()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return found


def at_once(site: Site, *commands: tuple[Any, ...]) -> list[Any]:
    """These commands, in one transaction with the tap's last look: it has seen all that came before them."""
    tap = site.tap
    with closing(connect(site.settings)) as client, tap._lock, client.pipeline(transaction=True) as pipe:
        names = list(tap._last)
        for name in names:
            pipe.xrange(name, b"(" + bytes(tap._last[name]))
        for command in commands:
            pipe.execute_command(*command)
        replies = pipe.execute()
        for name, entries in zip(names, replies, strict=False):
            for entry, fields in entries:
                tap._take(int(str(name).partition("{")[2].partition("}")[0]), entry, fields)
                tap._last[name] = entry
    return list(replies[len(names) :])


def number(text: str) -> int:
    """How many events it says are gone. AssertionError where it says none."""
    found = re.search(r"(\d+) accepted events", text)
    assert found, f"expected a number of accepted events, got {text!r}"
    return int(found[1])


def alarmed(site: Site, words: str) -> str:
    """`/readyz` says so and goes on saying it, doctor and the logs too, and meanwhile nothing is acknowledged."""
    said = str(eventually(lambda: words in (now := site.problem()) and now, f"/readyz never says {words!r}"))
    before, until = len(site.ledger), time.monotonic() + STAYS_S
    while time.monotonic() < until:
        said = site.problem()
        assert words in said, f"it does not go on saying {words!r}, but {said!r}"
        time.sleep(0.2)
    assert len(site.ledger) == before, f"{len(site.ledger) - before} events acknowledged by a store that is not whole"
    assert words in (found := run(site, "doctor")), f"doctor does not say {words!r}: {found}"
    for name in ("api", "engine"):
        eventually(partial(logged, site, name, words), f"{name}.log does not say {words!r}")
    return said


def logged(site: Site, name: str, words: str) -> bool:
    """Each process has a log, and so each engine."""
    return any(words in log.read_text() for log in (site.settings.home / "logs").glob(f"{name}*.log"))


def metric(site: Site, name: str) -> int:
    """Its sum over all series."""

    def read() -> str:
        try:
            with closing(site.door()) as door:
                return door.text("/metrics")
        except (Closed, Turned):
            return ""

    return int(sum(values(str(eventually(read, "/metrics stays away")), name)))


def run(site: Site, *words: str) -> str:
    """What a command prints."""
    done = subprocess.run(
        [*TELLTALE, *words], env=environment(site.settings), capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def rebuilt(site: Site) -> int:
    """The way back that doctor names, but for the start; how many events it says are lost."""
    site.end()
    (site.settings.home / "store").rename(site.settings.home / "store-that-was")
    said = run(site, "rebuild")
    assert "rebuilt:" in said, said
    return 0 if "lost: nothing" in said else number(said)


def calls(logged: Iterable[Logged], entries: Entries) -> int:
    return sum((each.partition, each.entry) in entries for each in logged)


def not_in_the_lake(site: Site) -> Entries:
    """Entries that the tap saw and the lake's files do not hold; while nothing runs."""
    files = sorted(map(str, (site.settings.lake / "events").rglob("*.parquet")))
    query = 'SELECT DISTINCT "partition", entry_id FROM read_parquet(?)'
    with duckdb.connect() as db:
        held = {(p, entry.encode()) for p, entry in db.execute(query, [files]).fetchall()} if files else set()
    return {(each.partition, each.entry) for each in site.tap.logged()} - held


def heirs(trimmed: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> set[str]:
    """Users to whom what somebody anonymous had done was on its way in these entries: it went with them."""
    entries = (decode(fields[b"e"]) for _, fields in trimmed)
    return {entry.name(0).decode().partition("/")[2] for entry in entries if entry.kind == Kind.ABSORB}


def verdict(site: Site, gone: Entries, unkept: Entries, lost: int, poorer: Collection[str] = ()) -> Verdict:
    """Beyond the loss that was told: of the entries `gone` nothing may count, those `unkept` may not be in the lake.

    `poorer`: users of whom less may be known.
    """
    _stir(site, gone)
    with closing(connect(site.settings)) as client:
        store = open_store(client)
        until_counted(client, store, quiet=3)
        site.tap.read(client)
        logged = site.tap.logged()
        worked = [each for each in logged if (each.partition, each.entry) not in gone]
        found = Verdict(len(logged))
        judge._of_the_log(site, logged, found)
        oracle = told((each.now, each.call) for each in worked)
        oracle.outcomes["lost"] = lost
        judge._of_counters(made.counts(client, store), oracle, found)
        for user in poorer:
            oracle.people.pop(user, None)
        judge._of_features(client, oracle, found)
        kept = [each for each in logged if (each.partition, each.entry) not in unkept]
        judge._of_the_lake(site, client, store, kept, found)
        _of_alerts(site, client, logged, worked, found)
    found.lost = {what: why for what, why in found.lost.items() if what.removeprefix("alert of ") not in poorer}
    return found


def _must(worked: list[Logged]) -> set[str]:
    oracle = told((each.now, each.call) for each in worked)
    return {user for user in checking(oracle, 30, CHECKS) if oracle.person(user).confidence() >= MIN_CONFIDENCE}


def _stir(site: Site, gone: Entries) -> None:
    """Everybody does something once more: an alert that was lost on its way to SQL comes with the next event."""
    worked = [each for each in site.tap.logged() if (each.partition, each.entry) not in gone]
    users = sorted({user for each in worked if (user := each.call.get("userId"))})
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    call = {"type": "track", "event": "Document Viewed", "timestamp": stamp}
    with closing(site.door()) as door:
        client = Client(door, site.ledger, site.dice)
        for low in range(0, len(users), TOGETHER):
            some = users[low : low + TOGETHER]
            client.send([call | {"userId": user, "messageId": f"stirred-{user}"} for user in some], until_told=True)


def _of_alerts(site: Site, client: redis.Redis, logged: list[Logged], worked: list[Logged], found: Verdict) -> None:
    """Those of lost events may be there, if they had come as far as SQL."""
    may = checking(told((each.now, each.call) for each in logged), 30 + judge.SLACK_DAYS, CHECKS)
    judge._eventually(lambda: not client.xlen(keys.ALERTS) and {a["id"] for a in site.alerts()} <= site.delivered())
    alerts = site.alerts()
    users = Counter(alert["user"] for alert in alerts)
    found.lost |= {f"alert of {user}": "not in SQL" for user in _must(worked) - users.keys()}
    found.lost |= {a["id"]: "alert not delivered" for a in alerts if a["id"] not in site.delivered()}
    found.doubled |= {f"alert of {user}": f"{n} alerts" for user, n in users.items() if n > 1}
    found.phantom |= {f"alert of {user}": "nobody had it coming" for user in users.keys() - may}
