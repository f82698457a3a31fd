"""Faults after which nothing can be whole: an alarm, a shut door, a loss that is counted, and a way back.

Each makes the loss under load, holds what is told of it to what the tap saw, takes the way back, and goes on.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from feature_repo import keys
from flows.partition import entry_id
from flows.store import connect
from tests.faults import gone
from tests.faults.found import Found, Lacking
from tests.faults.gone import Entries, alarmed, at_once, calls, metric, not_in_the_lake, number, rebuilt
from tests.faults.kills import PROCESSES
from tests.faults.site import PARTITIONS, Site
from tests.faults.trouble import Trouble, missing

SEED_BITS = 30
EMPTIED, BACK = "does not hold our store", "the store went back in time"
NEVER = 3600  # seconds: a lake that writes nothing by itself
SOCKETS = shutil.ignore_patterns("*.sock")
Once: TypeAlias = Callable[[Site, random.Random, Found], None]


def again_and_again(once: Once, budget: float, dice: random.Random, place: Path, **settings: Any) -> Found:
    """A Site a run; `once` makes the fault and judges."""
    if lacks := missing():
        raise Lacking(lacks)
    found, until = Found(notes={"counted_loss": 0}), time.monotonic() + budget
    while not found.runs or time.monotonic() < until:
        here = place / str(found.runs)
        here.mkdir()
        site = Site(here, dice.getrandbits(SEED_BITS), Trouble(here), **settings)
        try:
            site.start()
            site.write()
            site.let_through(dice.randint(100, 400))
            once(site, dice, found)
            found.runs += 1
        finally:
            site.close()
        shutil.rmtree(here)
    return found


def emptied(budget: float, dice: random.Random, place: Path) -> Found:
    """FLUSHALL; then whatever was in it is to be had from the lake alone."""
    return again_and_again(_emptied, budget, dice, place, lake_seconds=dice.choice([1, NEVER]))


def _emptied(site: Site, dice: random.Random, found: Found) -> None:
    if dice.random() < 0.7:
        site.kill(PROCESSES["lake"])  # with what it had read
    at_once(site, ("FLUSHALL",))
    held = len(site.tap.logged())
    if dice.random() < 0.5:
        gone.eventually(site.problem, "an emptied store is ready")
        site.kill(PROCESSES["api"])  # one that begins must not make a new store of it
    else:
        said = alarmed(site, EMPTIED)
        assert number(said) == held == metric(site, "telltale_events_gone"), f"{said}, in truth {held}"
    alarmed(site, EMPTIED)
    with closing(connect(site.settings)) as client:
        site.tap.read(client)
    _rebuild_and_judge(site, found)


def older(budget: float, dice: random.Random, place: Path) -> Found:
    """A copy of the store's files, made while it ran, in the place of what came of them."""
    return again_and_again(_older, budget, dice, place, lake_seconds=dice.choice([1, NEVER]))


def _older(site: Site, dice: random.Random, found: Found) -> None:
    store, copy = site.settings.home / "store", site.settings.home / "copy"
    shutil.copytree(store, copy, ignore=SOCKETS)
    site.let_through(dice.randint(50, 300))
    site.rest()
    _die_at_once(site)
    shutil.rmtree(store)
    copy.rename(store)
    site.begin()
    said = _refused(site, BACK)
    with closing(connect(site.settings)) as client:
        lacks = _beyond(site, {p: _end(client, p) for p in range(PARTITIONS)})
    assert number(said) == lacks == metric(site, "telltale_events_gone"), f"{said}, in truth {lacks}"
    _rebuild_and_judge(site, found)


def older_partition(budget: float, dice: random.Random, place: Path) -> Found:
    """One partition's keys as they were, under an API and an engine that live on; people's states are newer."""
    return again_and_again(_older_partition, budget, dice, place)


def _older_partition(site: Site, dice: random.Random, found: Found) -> None:
    p = dice.randrange(PARTITIONS)
    with closing(connect(site.settings)) as client:
        names = sorted(client.keys(f"tt:{{{p}}}:*"))
        then = at_once(site, *(("DUMP", name) for name in names))
        end = [each.entry for each in site.tap.logged() if each.partition == p][-1]
        site.let_through(dice.randint(50, 300))
        restore = [("RESTORE", name, 0, dump, "REPLACE") for name, dump in zip(names, then, strict=True) if dump]
        at_once(site, *restore)
    lacks = _beyond(site, {q: end if q == p else b"9999999999999-0" for q in range(PARTITIONS)})
    said = alarmed(site, BACK)
    assert number(said) == lacks == metric(site, "telltale_events_gone"), f"{said}, in truth {lacks}"
    with closing(connect(site.settings)) as client:
        site.tap.read(client)
    _rebuild_and_judge(site, found)


def trimmed(budget: float, dice: random.Random, place: Path) -> Found:
    """XTRIM beyond the engine's position, and the lake's, while both stand still."""
    return again_and_again(_trimmed, budget, dice, place)


def _trimmed(site: Site, dice: random.Random, found: Found) -> None:
    for name in ("engine", "lake"):
        site.kill(PROCESSES[name], signal.SIGSTOP)
    site.let_through(dice.randint(50, 200))
    reached, poorer = _trim(site)
    before = dict.fromkeys((each.partition, each.entry) for each in site.tap.logged())
    for name in ("engine", "lake"):
        if dice.random() < 0.5:
            site.kill(PROCESSES[name])
        site.kill(PROCESSES[name], signal.SIGCONT)
    site.let_through(100)
    site.rest()
    lost, unkept = _told_of_the_trim(site)
    sets = [_last(site, before, counts, positions) for counts, positions in zip((lost, unkept), reached, strict=True)]
    assert "are lost" in gone.run(site, "doctor", "--accept-loss")
    gone.eventually(lambda: not site.problem(), "not ready, though the loss was accepted")
    found.notes["histories_lost"] = int(found.notes.get("histories_lost", 0)) + len(poorer)
    _judge(site, found, sets[0], sets[1], sum(lost), poorer)


def _trim(site: Site) -> tuple[tuple[list[bytes], list[bytes]], set[str]]:
    """The positions of engine and lake by then; who was about to inherit an anonymous history."""
    each, n = range(PARTITIONS), PARTITIONS
    ask = [("GET", name(p)) for name in (keys.position, keys.lake_position) for p in each]
    whole = [("XRANGE", keys.log(p), "-", "+") for p in each]
    replies = at_once(site, *ask, *whole, *(("XTRIM", keys.log(p), "MAXLEN", 0) for p in each))
    engine, lake = replies[:n], replies[n : 2 * n]
    beyond = [
        (entry, fields)
        for position, entries in zip(engine, replies[2 * n : 3 * n], strict=True)
        for entry, fields in entries
        if entry_id(entry) > entry_id(position or b"0-0")
    ]
    return (engine, lake), gone.heirs(beyond)


def _told_of_the_trim(site: Site) -> tuple[list[int], list[int]]:
    """By partition, what is said to be lost to the engine, and to the lake: everywhere the same."""
    with closing(connect(site.settings)) as client:
        gone.eventually(lambda: _accounted_for(client), "what was trimmed is never accounted for")
        lost = [int(client.hget(keys.counts(p), "lost") or 0) for p in range(PARTITIONS)]
        unkept = [int(client.hget(keys.lake_counts(p), "missing") or 0) for p in range(PARTITIONS)]
    said = gone.run(site, "doctor")
    for problem in (site.problem(), said):
        assert f"{sum(lost)} accepted events" in problem, problem
        assert f"{sum(unkept)} accepted events" in problem, problem
    assert gone.logged(site, "engine", "are lost")
    assert gone.logged(site, "lake", "are not in the lake")
    assert sum(lost) == metric(site, "telltale_events_lost_total")
    assert sum(unkept) == metric(site, "telltale_lake_missing_total")
    return lost, unkept


def _accounted_for(client: Any) -> bool:
    """By the engine and by the lake, all that was accepted."""
    for p in range(PARTITIONS):
        counts = {name: int(count) for name, count in client.hgetall(keys.counts(p)).items()}
        accepted = counts.pop(b"accepted", 0)
        if accepted != sum(counts.values()) or accepted != sum(map(int, client.hvals(keys.lake_counts(p)))):
            return False
    return True


def _last(site: Site, before: dict[tuple[int, bytes], None], counts: list[int], positions: list[bytes]) -> Entries:
    """The last of the entries trimmed that hold so many events: those before them were in memory already."""
    sizes: dict[tuple[int, bytes], int] = {}
    for each in site.tap.logged():
        at = each.partition, each.entry
        sizes[at] = sizes.get(at, 0) + 1
    found: Entries = set()
    for p, count in enumerate(counts):
        beyond = [at for at in before if at[0] == p and entry_id(at[1]) > entry_id(positions[p] or b"0-0")]
        left = count
        while left > 0:
            assert beyond, f"partition {p}: {count} told as lost, more than was trimmed"
            left -= sizes[beyond[-1]]
            found.add(beyond.pop())
        assert not left, f"partition {p}: {count} told as lost, which is no number of whole entries"
    return found


def _die_at_once(site: Site) -> None:
    """Everything is killed, once the tap has seen all that was acknowledged."""
    site.kill("up", signal.SIGSTOP)
    with closing(connect(site.settings)) as client:
        site.tap.read(client)
    site.vanish()


def _refused(site: Site, words: str) -> str:
    """The alarm of a site that begins, and whose clients try."""
    gone.eventually(lambda: words in site.problem(), f"/readyz never says {words!r}")
    site.write()
    try:
        return alarmed(site, words)
    finally:
        site.rest()


def _end(client: Any, partition: int) -> bytes:
    return bytes(client.xinfo_stream(keys.log(partition))["last-generated-id"])


def _beyond(site: Site, ends: dict[int, bytes]) -> int:
    """Calls that the tap saw after these entries."""
    return sum(entry_id(each.entry) > entry_id(ends[each.partition]) for each in site.tap.logged())


def _rebuild_and_judge(site: Site, found: Found) -> None:
    at = time.monotonic()
    site.rest()
    lost = rebuilt(site)
    unkept = not_in_the_lake(site)
    truth = calls(site.tap.logged(), unkept)
    assert lost == truth, f"`telltale rebuild` says that {lost} events are lost, in truth {truth}"
    site.settings = msgspec.structs.replace(site.settings, lake_seconds=1)
    site.begin()
    _until_ready(site)
    found.recovery_s.append(time.monotonic() - at)
    _judge(site, found, unkept, unkept, lost)


def _until_ready(site: Site) -> None:
    try:
        site.until_ready()
    except (AssertionError, OSError) as error:
        raise AssertionError(f"not ready after the rebuild: {site.problem()}") from error


def _judge(site: Site, found: Found, lost: Entries, unkept: Entries, told: int, poorer: Collection[str] = ()) -> None:
    site.write()
    site.let_through(200)
    site.recovered()
    site.rest()
    now = gone.verdict(site, lost, unkept, told, poorer)
    now.add_to(found)
    found.notes["counted_loss"] = int(found.notes["counted_loss"]) + told
    assert now.clean, str(now)
