"""Where alerts stand: only along the allowed steps, each step told once."""

from __future__ import annotations

import threading
from itertools import product
from typing import Any

import sqlalchemy as sa

from flows import alert_status
from flows.alert import Status
from flows.alert_status import STATUSES, STEPS, Moved, move
from flows.alert_store import AlertStore, Filter
from tests.flows.made_alerts import alert
from tests.flows.sql_stores import store

__all__ = ["store"]

ONE = alert(1).id


def moved(store: AlertStore, to: Status, *ids: str, **more: Any) -> list[Moved]:
    told: dict[str, Any] = {"who": "ann", "at": 7_000, **more}
    with store.engine.begin() as connection:
        return move(connection, ids or [ONE], to, **told)


def steps(store: AlertStore, id_: str = ONE) -> list[tuple[str, str, str, int, str | None]]:
    with store.engine.connect() as connection:
        found = alert_status.history(connection, id_)
    return [(c.from_status, c.to_status, c.who, c.at, c.why) for c in found]


def test_only_the_allowed_steps_are_taken(store: AlertStore) -> None:
    """Of every pair of statuses: any other step leaves alert and history as they were, and says where it stands."""
    pairs = list(product(STATUSES, STATUSES))
    store.insert([alert(n, status=was, status_at=5) for n, (was, _) in enumerate(pairs)])
    for n, (was, to) in enumerate(pairs):
        (found,), id_, allowed = moved(store, to, alert(n).id), alert(n).id, to in STEPS[was]
        stands, at, done = (to, 7_000, True) if allowed else (was, 5, was == to)
        assert found == Moved(id=id_, status=stands, status_at=at, done=done, new=allowed, may=STEPS[stands])
        stored = store.find(id_)
        assert stored is not None
        assert (stored.status, stored.status_at) == (stands, at)
        assert steps(store, id_) == [(was, to, "ann", 7_000, None)] * allowed


def test_the_history_says_who_when_and_why(store: AlertStore) -> None:
    """Each step in its order, as it was told; a name that is too long is cut."""
    store.insert([alert(1)])
    moved(store, "DELIVERED", who="in-app", at=10)
    moved(store, "DISMISSED", who="a" * 999, at=20, why="sold already")
    assert steps(store) == [
        ("PENDING", "DELIVERED", "in-app", 10, None),
        ("DELIVERED", "DISMISSED", "a" * 200, 20, "sold already"),
    ]


def test_many_move_at_once_each_for_itself(store: AlertStore) -> None:
    """Those that may, go; the others say why not, in the order asked; one named twice moves once."""
    store.insert([alert(1), alert(2, status="DISMISSED"), alert(3, organisation="other"), alert(4, withheld=True)])
    ids = [alert(n).id for n in (4, 3, 2, 1, 1)] + ["al_none"]
    found = moved(store, "DELIVERED", *ids, organisation="acme")
    assert [m.status for m in found] == ["PENDING", None, "DISMISSED", "DELIVERED", "DELIVERED", None]
    assert [len(steps(store, id_)) for id_ in ids] == [0, 0, 0, 1, 1, 0]


def test_no_query_names_more_than_a_database_takes(store: AlertStore) -> None:
    """However many move at once, as those of a digest do."""
    store.insert([alert(n) for n in range(1_200)])
    bound: list[int] = []

    def note(_: Any, __: Any, ___: str, given: Any, ____: Any, many: bool) -> None:
        bound.append(0 if many else len(given))

    sa.event.listen(store.engine, "before_cursor_execute", note)
    assert sum(one.new for one in moved(store, "DELIVERED", *(alert(n).id for n in range(1_200)))) == 1_200
    assert 500 <= max(bound) < 999


def test_withheld_alerts_only_expire(store: AlertStore) -> None:
    """Nobody is told of them, so nothing but time moves them."""
    store.insert([alert(1, withheld=True)])
    assert [moved(store, to)[0].new for to in STATUSES] == [to == "EXPIRED" for to in STATUSES]


def test_of_many_who_move_one_wins(store: AlertStore) -> None:
    """Of those who move the same alert at once one takes the step, and the others do not."""
    store.insert([alert(n, status="DELIVERED") for n in range(40)])
    ids, won = [alert(n).id for n in range(40)], dict[str, int]()

    def go(to: Status) -> None:
        won[to] = sum(moved(store, to, id_)[0].new for id_ in ids)

    threads = [threading.Thread(target=go, args=(to,)) for to in ("CONVERTED", "DISMISSED", "EXPIRED")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won["CONVERTED"] == 0  # not from there
    assert won["DISMISSED"] + won["EXPIRED"] == 40
    assert [len(steps(store, id_)) for id_ in ids] == [1] * 40


def test_what_is_rolled_back_did_not_happen(store: AlertStore) -> None:
    """A step stands or falls with the transaction of whoever takes it."""
    store.insert([alert(1)])
    with store.engine.connect() as connection:
        move(connection, [ONE], "DELIVERED", who="in-app", at=1)
        connection.rollback()
    assert steps(store) == []


def test_steps_are_followed_by_number(store: AlertStore) -> None:
    """After a number come those that are newer, of the alerts that the filter keeps, by the status that is new."""
    store.insert([alert(1), alert(2, type="LIKELY_TO_BUY"), alert(3, organisation="other")])
    moved(store, "DELIVERED", *(alert(n).id for n in (1, 2, 3)))
    moved(store, "ACKNOWLEDGED")

    def told(seq: int, **only: Any) -> list[tuple[str, str]]:
        with store.engine.connect() as connection:
            found = alert_status.after(connection, Filter(**only), seq, 10)
        return [(c.alert_id, c.to_status) for c in found]

    assert told(0, organisation="acme") == [
        (ONE, "DELIVERED"),
        (alert(2).id, "DELIVERED"),
        (ONE, "ACKNOWLEDGED"),
    ]
    assert told(3) == [(ONE, "ACKNOWLEDGED")]
    assert told(0, type="LIKELY_TO_BUY", organisation="acme") == [(alert(2).id, "DELIVERED")]
    assert told(0, status="ACKNOWLEDGED") == [(ONE, "ACKNOWLEDGED")]
