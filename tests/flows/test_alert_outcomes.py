"""What became of alerts: recorded once, corrected by further records, and counted exactly as it stands."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from flows import alert_outcomes, alert_status, alert_tally
from flows.alert_outcomes import Outcome, Record, Recorded
from flows.alert_status import STATUSES
from flows.alert_store import AlertStore, alerts
from flows.alert_tally import JUDGEMENTS, MEASURES, tallies
from tests.flows.made_alerts import alert
from tests.flows.sql_stores import store

__all__ = ["store"]

ONE = alert(1).id
SOLD = Outcome(outcome="TRUE_POSITIVE", converted=True, value=9_000.0, at=5_000_000)


def tell(store: AlertStore, told: Outcome, *ids: str, at: int = 7_000_000, who: str = "ann") -> list[Recorded]:
    with store.writing() as connection:
        return alert_outcomes.record(connection, ids or [ONE], told, who=who, at=at, organisation="acme")


def all_records(store: AlertStore) -> list[Record]:
    with store.engine.connect() as connection:
        return list(alert_outcomes.after(connection, 0, 100))


def steps(store: AlertStore, id_: str = ONE) -> list[str]:
    with store.engine.connect() as connection:
        return [step.to_status for step in alert_status.history(connection, id_)]


def test_the_same_again_is_not_recorded_again(store: AlertStore) -> None:
    """Whoever says it; the answer is that of the first time."""
    store.insert([alert(1)])
    (first,), (again,) = tell(store, SOLD), tell(store, SOLD, at=8_000_000, who="bob")
    assert (first.new, again.new) == (True, False)
    assert again.records == first.records == all_records(store)
    assert (again.records[0].who, again.records[0].corrects) == ("ann", None)


def test_a_correction_is_a_record_that_says_of_which(store: AlertStore) -> None:
    """Nothing is overwritten; the last one counts, and the stream that learns gets them in the order of the commits."""
    store.insert([alert(1)])
    tell(store, SOLD)
    (found,) = tell(store, Outcome(outcome="FALSE_POSITIVE", feedback="it was the neighbour"))
    latest, first = found.records
    assert (latest.outcome, latest.corrects, first.corrects) == ("FALSE_POSITIVE", first.seq, None)
    assert all_records(store) == [first, latest]
    assert first.seq < latest.seq


@pytest.mark.parametrize(
    ("was", "way"),
    [
        ("PENDING", ["DELIVERED", "ACKNOWLEDGED", "CONVERTED"]),
        ("DELIVERED", ["ACKNOWLEDGED", "CONVERTED"]),
        ("ACKNOWLEDGED", ["CONVERTED"]),
        ("DISMISSED", []),
        ("EXPIRED", []),
    ],
)
def test_a_conversion_takes_each_step(store: AlertStore, was: Any, way: list[str]) -> None:
    """To CONVERTED by the allowed steps alone; an alert that has ended stays, and the outcome is kept all the same."""
    store.insert([alert(1, status=was)])
    (found,) = tell(store, SOLD)
    assert (steps(store), found.status) == (way, way[-1] if way else was)
    assert found.new


def test_a_withheld_alert_has_an_outcome_and_no_steps(store: AlertStore) -> None:
    """Nobody was told of it: what became of the person counts, and the alert stays where it is."""
    store.insert([alert(1, withheld=True)])
    (found,) = tell(store, SOLD)
    assert (found.new, found.moved, steps(store)) == (True, False, [])


def test_what_happened_before_the_score_is_refused(store: AlertStore) -> None:
    """Such a time cannot be what was predicted; the others of the same call are recorded."""
    store.insert([alert(1, scored_at=5_000_001), alert(2)])
    late, fine = tell(store, SOLD, ONE, alert(2).id)
    assert (late.refused is None, late.records) == (False, [])
    assert fine.new


@pytest.mark.parametrize(
    ("told", "field"),
    [
        (Outcome(outcome="FALSE_POSITIVE", converted=True), "converted"),
        (Outcome(outcome="TRUE_NEGATIVE", converted=True), "converted"),
        (Outcome(outcome="TRUE_POSITIVE", value=5.0), "value"),
        (Outcome(outcome="TRUE_POSITIVE", at=5), "at"),
    ],
)
def test_what_contradicts_itself_says_so(told: Outcome, field: str) -> None:
    """A false alarm that converts, a worth or a time of what did not happen."""
    assert told.contradiction is not None
    assert told.contradiction[0] == field
    assert SOLD.contradiction is None


def test_two_who_tell_at_once_leave_one_chain(store: AlertStore) -> None:
    """Each record corrects the one before it, whoever comes first."""
    store.insert([alert(1)])
    told = [Outcome(outcome="TRUE_POSITIVE", notes=str(n)) for n in range(20)]
    both = [
        threading.Thread(target=lambda mine=mine: [tell(store, one) for one in mine])
        for mine in (told[::2], told[1::2])
    ]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    records = all_records(store)
    assert len(records) == 20
    assert [r.corrects for r in records] == [None, *(r.seq for r in records[:-1])]


def tallied(store: AlertStore) -> dict[tuple[Any, ...], tuple[float, ...]]:
    """What the tallies hold, without rows that are empty by now."""
    with store.engine.connect() as connection:
        rows = connection.execute(sa.select(tallies)).all()
    return {tuple(row[:6]): tuple(row[6:]) for row in rows if row[6]}


def counted(store: AlertStore) -> dict[tuple[Any, ...], tuple[float, ...]]:
    """The same from the alerts themselves, one at a time."""
    sums: dict[tuple[Any, ...], list[float]] = {}
    with store.engine.connect() as connection:
        rows = connection.execute(sa.select(*alert_tally.FACTS)).mappings().all()
    for one in map(alert_tally.read, rows):
        for span, place in ((span, place) for span in (672, 24, 1) for place in alert_tally.places(one)):
            start = one.scored_at - one.scored_at % (span * 3_600_000)
            total = sums.setdefault((one.organisation, span, start, *place), [0.0] * len(MEASURES))
            for i, measure in enumerate(alert_tally.measured(one)):
                total[i] += measure
    return {key: tuple(total) for key, total in sums.items()}


def same(found: dict[tuple[Any, ...], tuple[float, ...]], expected: dict[tuple[Any, ...], tuple[float, ...]]) -> None:
    """Sums of doubles, whose order may differ."""
    assert found.keys() == expected.keys()
    for key, measures in expected.items():
        assert found[key] == pytest.approx(measures, abs=1e-6), key


@pytest.mark.parametrize("seed", range(4))
def test_tallies_are_what_counting_gives(store: AlertStore, seed: int) -> None:
    """After any inserts, steps, outcomes and corrections, in any order, whatever of them is refused."""
    rng = random.Random(seed)
    ids: list[str] = []
    for turn in range(60):
        made = [
            alert(
                100 * turn + n,
                type=rng.choice(["LIKELY_TO_SELL", "LIKELY_TO_BUY"]),
                priority=rng.choice(["HIGH", "LOW"]),
                score=rng.random(),
                withheld=rng.random() < 0.2,
                scored_at=rng.randrange(90 * 86_400_000),
            )
            for n in range(rng.randrange(4))
        ]
        store.insert(made + made[:1])
        ids += [one.id for one in made]
        some = rng.sample(ids, min(len(ids), 5))
        if rng.random() < 0.5:
            with store.writing() as connection:
                alert_status.move(connection, some, rng.choice(STATUSES), who="ann", at=rng.randrange(10**10))
        else:
            converted = rng.random() < 0.5
            tell(store, Outcome(outcome=rng.choice(JUDGEMENTS), converted=converted, value=7.5 * converted), *some)
    same(tallied(store), counted(store))


def test_a_new_table_of_tallies_is_filled_from_the_alerts_that_there_are(store: AlertStore) -> None:
    """A database of a version without it has the same sums after it was opened."""
    store.insert([alert(n, scored_at=n * 10**7, withheld=n % 7 == 0) for n in range(200)])
    tell(store, SOLD, *(alert(n).id for n in range(0, 200, 3)))
    before = tallied(store)
    tallies.drop(store.engine)
    store.create()
    same(tallied(store), before)


def test_statuses_are_counted_once(store: AlertStore) -> None:
    """The sum over the statuses is the number of alerts, without the withheld."""
    store.insert([alert(n, withheld=n % 5 == 0) for n in range(20)])
    with store.writing() as connection:
        alert_status.move(connection, [alert(n).id for n in range(12)], "DELIVERED", who="ann", at=5)
    by = Counter[str]()
    for key, measures in tallied(store).items():
        if key[1] == 24 and key[4] == "status":
            by[key[5]] += int(measures[0])
    assert by == {"DELIVERED": 9, "PENDING": 7}


def test_the_row_has_what_was_told_last(store: AlertStore) -> None:
    """So that statistics need not look further."""
    store.insert([alert(1)])
    tell(store, SOLD)
    columns = alerts.c.outcome, alerts.c.converted, alerts.c.value, alerts.c.converted_at
    with store.engine.connect() as connection:
        assert tuple(connection.execute(sa.select(*columns)).one()) == ("TRUE_POSITIVE", True, 9_000.0, 5_000_000)
    tell(store, msgspec.structs.replace(SOLD, outcome="FALSE_POSITIVE", converted=False, value=None, at=None))
    with store.engine.connect() as connection:
        assert tuple(connection.execute(sa.select(*columns)).one()) == ("FALSE_POSITIVE", False, None, None)
