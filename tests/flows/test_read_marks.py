"""Who has read what: one number and its exceptions, whoever reads in whatever order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows import read_marks
from flows.alert_store import AlertStore
from flows.read_marks import Reader
from tests.flows.made_alerts import alert

ANN = Reader("acme", "ann")
ALERTS = 6


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AlertStore]:
    opened = AlertStore(f"sqlite:///{tmp_path / 'marks.db'}")
    opened.create()
    opened.insert([alert(n) for n in range(1, ALERTS + 1)])
    yield opened
    opened.close()


steps = st.lists(st.tuples(st.integers(1, ALERTS), st.booleans()) | st.just("all"), max_size=12)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_marks_are_what_was_said_last_of_each_alert(store: AlertStore, told: list[tuple[int, bool] | str]) -> None:
    """One by one, all at once, and back."""
    numbers = range(1, ALERTS + 1)
    expected = dict.fromkeys(numbers, False)
    with store.engine.connect() as connection, connection.begin() as transaction:
        for step in told:
            if isinstance(step, str):
                read_marks.mark_all(connection, ANN, 1)
                expected = dict.fromkeys(numbers, True)
            else:
                number, read = step
                read_marks.mark(connection, ANN, [alert(number).id], 1, read=read)
                expected[number] = read
        assert read_marks.read_of(connection, ANN, list(numbers)) == {n for n, read in expected.items() if read}
        assert read_marks.unread(connection, ANN) == list(expected.values()).count(False)
        transaction.rollback()


def test_a_reader_marks_for_themselves_and_their_organisation_alone(store: AlertStore) -> None:
    """Nor can anybody mark what is another's, or what is kept from all."""
    store.insert([alert(7, organisation="others"), alert(8, withheld=True)])
    with store.writing() as connection:
        ids = [alert(1).id, alert(7).id, alert(8).id, "al_none"]
        assert read_marks.mark(connection, ANN, ids, 1, read=True) == [alert(1).id]
        assert read_marks.unread(connection, ANN) == ALERTS - 1
        assert read_marks.unread(connection, Reader("acme", "bob")) == ALERTS
        assert read_marks.unread(connection, Reader("others", "ann")) == 1


def test_counting_the_unread_reads_no_more_than_it_must(store: AlertStore) -> None:
    """By the organisation's index from the mark on."""
    asked: list[tuple[str, Any]] = []
    with store.engine.connect() as connection:
        sa.event.listen(connection, "before_cursor_execute", lambda *of: asked.append((of[2], of[3])))
        read_marks.unread(connection, ANN)
        query, values = next((query, values) for query, values in asked if "alerts.seq >" in query)
        plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", values)]
    assert any("alerts USING INDEX alerts_by_organisation (organisation=? AND seq>?)" in step for step in plan)
    assert not any(step.startswith("SCAN alerts") for step in plan)
