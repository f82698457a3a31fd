"""What of the accepted events is gone is noticed, counted to the event, and said until somebody has accepted it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows import losses
from flows.engine import Engine
from flows.entry import tick
from flows.gaps import unworked
from flows.high_mark import End, HighMark, forget, marked
from flows.lake import Lake
from flows.lake_store import claim
from flows.losses import WentBack
from flows.partition import EntryId
from flows.store import Store, create
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.flows.ground import Ground, event
from tests.flows.made_logs import Log, track
from tests.flows.streams_made import START


def mark(settings: Settings, store: Store, *accepted: int) -> None:
    """What an API acknowledged, by partition."""
    high = HighMark(settings, store)
    high.raise_to([End(count, EntryId(START, i)) for i, count in enumerate(accepted)])
    high.close()


def acknowledged(client: redis.Redis, *accepted: int) -> None:
    for p, count in enumerate(accepted):
        client.hset(keys.counts(p), "accepted", count)


def look(engine: Engine) -> None:
    """As after a second."""
    engine._gaps._looked = 0.0
    made.drain(engine)


# -- the mark


def test_the_mark_is_the_highest_of_all_who_append(settings: Settings, store: Store) -> None:
    """Each has a file; who begins goes on from what the others marked."""
    mark(settings, store, 5, 0, 7, 0)
    mark(msgspec.structs.replace(settings, port=9), store, 6, 0, 7, 1)
    known = marked(settings.home)
    assert known is not None
    assert [end.accepted for end in known.ends] == [6, 0, 7, 1]
    assert known.ends[2].entry == EntryId(START, 2)
    assert known.store == store
    assert HighMark(settings, store).ends == known.ends


def test_the_mark_of_another_store_or_one_cut_off_says_nothing(settings: Settings, store: Store) -> None:
    mark(settings, store, 5, 0, 7, 0)
    assert marked(settings.home, store.seed + 1) is None
    path = settings.home / "marks" / str(settings.port)
    path.write_bytes(path.read_bytes()[:50])
    assert marked(settings.home) is None
    forget(settings.home)
    assert not path.exists()


def test_a_home_that_cannot_be_written_does_without_a_mark(tmp_path: Path, settings: Settings, store: Store) -> None:
    (tmp_path / "file").write_bytes(b"")
    high = HighMark(msgspec.structs.replace(settings, home=tmp_path / "file"), store)
    high.raise_to([End(1)] * 4)
    assert high.ends[0].accepted == 1


# -- a store that went back


def test_a_store_that_has_what_was_acknowledged_opens(client: redis.Redis, settings: Settings, store: Store) -> None:
    """Or more, as after a kill between append and mark."""
    mark(settings, store, 5, 0, 7, 0)
    acknowledged(client, 5, 2, 9, 0)
    assert losses.opened(client, settings) == losses.created(client, settings) == store
    assert losses.problems(client, settings, store) == []


def test_a_store_restored_older_is_refused(client: redis.Redis, settings: Settings, store: Store) -> None:
    """With the number of events that it lacks, by partition."""
    mark(settings, store, 5, 0, 7, 0)
    acknowledged(client, 2, 4, 3, 0)
    with pytest.raises(WentBack, match=r"went back in time .*, 7 accepted events \(partition 0: 3, partition 2: 4\)"):
        losses.opened(client, settings)


def test_a_store_that_was_emptied_is_refused(client: redis.Redis, settings: Settings, store: Store) -> None:
    """Nobody makes a new one in its place; what was in it is known."""
    mark(settings, store, 5, 0, 7, 0)
    client.flushall()
    for opens in (losses.opened, losses.created):
        with pytest.raises(WentBack, match=r"does not hold our store any more.* 12 accepted events"):
            opens(client, settings)
    assert losses.once_held(settings) == store
    assert not client.exists(keys.STORE)


def test_a_lake_without_its_store_is_enough_to_refuse(log: Log, settings: Settings) -> None:
    """Where nothing was marked: a Telltale of before there was a mark."""
    with claim(settings.lake, log.store):
        pass
    log.client.flushall()
    with pytest.raises(WentBack, match="does not hold our store any more"):
        losses.created(log.client, settings)
    assert losses.once_held(settings) == log.store


def test_another_store_than_ours_is_told_to_who_runs(client: redis.Redis, settings: Settings, store: Store) -> None:
    client.flushall()
    create(client, settings)
    now = losses.standing(client, store)
    assert "is another one" in losses.went_back(store, [End()] * 4, now)


def test_an_accepted_loss_is_counted_and_said_no_more(client: redis.Redis, settings: Settings, store: Store) -> None:
    mark(settings, store, 5, 0, 7, 0)
    acknowledged(client, 2, 0, 3, 0)
    (said,) = losses.accepted(client, settings)
    assert "7 accepted events" in said
    assert losses.problems(client, settings, store) == []
    assert losses.opened(client, settings) == store
    counts = made.counts(client, store)
    assert (counts["accepted"], counts["lost"]) == (12, 7)
    assert losses.accepted(client, settings) == []


# -- a log that was trimmed


def test_what_was_trimmed_before_it_was_worked_is_lost(ground: Ground) -> None:
    """Counted once, with what is left all accounted for; said until an operator accepts it."""
    engine = ground.engine()
    made.post(ground.client, ground.store, VOCABULARY, [event(f"u{i}", START, i) for i in range(9)])
    gone = [ground.client.xlen(keys.log(p)) for p in range(4)]
    for p in range(4):
        ground.client.xtrim(keys.log(p), maxlen=0)
    ground.post(*[event(f"u{i}", START + 1, 9 + i) for i in range(4)])
    for _ in range(3):
        look(engine)
    counts = ground.counts()
    assert any(gone)
    assert (counts["accepted"], counts["processed"], counts["lost"]) == (13, 4, 9)
    (said,) = losses.problems(ground.client, ground.settings, ground.store)
    assert "9 accepted events" in said
    losses.accepted(ground.client, ground.settings)
    assert losses.problems(ground.client, ground.settings, ground.store) == []
    look(engine)
    assert ground.counts()["lost"] == 9


def test_nothing_is_lost_while_it_waits_or_is_in_memory(ground: Ground) -> None:
    """An engine that has counted and not written looks at nothing; nor does one whose epoch is over."""
    engine = ground.engine()
    ground.post(*[event(f"u{i}", START, i) for i in range(9)])
    made.step(engine, write=False)
    for p in range(4):
        ground.client.xtrim(keys.log(p), maxlen=0)
    engine._gaps._looked = 0.0
    made.step(engine, write=False)
    assert "lost" not in ground.counts()
    for p, mine in engine.partitions.items():
        assert unworked(engine._slices, p, mine.position, mine.epoch - 1) == 0
    look(engine)
    assert ground.counts()["processed"] == 9
    assert "lost" not in ground.counts()


# -- the lake


def flushed(settings: Settings, client: redis.Redis, store: Store) -> None:
    """A life of the lake, with a look at what is missing at its end."""
    lake = Lake(settings, client, store, lambda: 0.0)
    lake.recover()
    while (batches := lake.read()) and batches[0]:
        lake.take(batches)
    lake.flush()
    lake._gaps._looked = 0.0
    lake.take([[]])
    lake.close()


def test_what_the_lake_never_got_is_missing(log: Log, settings: Settings) -> None:
    """Counted once; ticks are no events, and what came before the lake's first life is its own to read."""
    client, store = log.client, log.store
    _append(log, "ann", 3)
    flushed(settings, client, store)
    _append(log, "ann", 2)
    p = log.uid("acme/ann") % 4
    client.xtrim(keys.log(p), maxlen=0)
    client.xadd(keys.log(p), {"e": tick(1, 2)}, id=f"{START + 50}-*")
    for _ in range(2):
        flushed(settings, client, store)
    standing = losses.standing(client, store).partitions[p]
    assert (standing.accepted, standing.missing) == (5, 2)
    assert "2 accepted events" in losses.unknown(losses.standing(client, store))[0]


def test_a_lake_of_before_misses_nothing(log: Log, settings: Settings) -> None:
    """A store that did not count what its lake has: all until now."""
    _append(log, "ann", 3)
    flushed(settings, log.client, log.store)
    p = log.uid("acme/ann") % 4
    log.client.delete(keys.lake_counts(p))
    _append(log, "ann", 2)
    for _ in range(2):
        flushed(settings, log.client, log.store)
    assert losses.standing(log.client, log.store).partitions[p].missing == 0
    assert log.client.hget(keys.lake_counts(p), "events") == b"5"


def _append(log: Log, user: str, events: int) -> None:
    """As the door does, with their count."""
    p = log.uid(f"acme/{user}") % 4
    at = int(log.client.hget(keys.counts(p), "accepted") or 0)
    for i in range(events):
        log.append(START + at + i, track(user, f"m{at + i}", "Document Viewed"))
        log.client.hincrby(keys.counts(p), "accepted", 1)
