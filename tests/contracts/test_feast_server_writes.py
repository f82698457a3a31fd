"""Our writing doors answer as Feast's own server does, and leave the same bytes, for the same request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from feature_repo.layout import entity_key
from feature_repo.settings import Settings
from flows.store import connect, embedded
from tests.feast_serve import feast_serve, room
from tests.live import ORGANISATION, Live, live

NOW = datetime.now(UTC).replace(microsecond=1000)
VALUES = {"days_since_contact": [1.5, -0.0], "engagement_score": [40.0, None], "source_quality": [1e-300, 0.25]}
WHOLE = {"credit_enquiries_90d": [3, None], "home_value": [410_000, 2.5], "mortgage_balance": [None, 0]}


class Both:
    """Ours and Feast's, over one store."""

    def __init__(self, ours: Live, theirs: Live, client: redis.Redis) -> None:
        self.ours, self.theirs, self.client = ours, theirs, client

    def ask(
        self, path: str, name: dict[str, str], key: str, ids: list[str], columns: dict[str, Any], **more: Any
    ) -> Any:
        """Both answers, and the rows as stored; theirs are of other entities, and have the organisation already."""
        answers, rows = [], []
        for server, prefix, mine in ((self.ours, "", "ours-"), (self.theirs, f"{ORGANISATION}/", "theirs-")):
            df = {key: [f"{prefix}{mine}{id_}" for id_ in ids], **columns}
            answer = server.post(path, {**name, "df": df, **more})
            answers.append((answer.status, answer.body))
            rows.append([self.client.hgetall(entity_key(key, f"{ORGANISATION}/{mine}{id_}".encode())) for id_ in ids])
        return answers, rows


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    server = embedded(settings.home)
    try:
        with closing(connect(settings)) as client:
            copy = room(tmp_path_factory.mktemp("clone"), settings)
            with live(settings, "serving.feature_server") as ours, feast_serve(copy, settings) as theirs:
                yield Both(ours, theirs, client)
    finally:
        server.stop()


def stamps(*at: Any) -> dict[str, list[Any]]:
    return {"event_timestamp": list(at), "created": [NOW.isoformat()] * len(at)}


LATER, ISO = (NOW + timedelta(seconds=1)).isoformat(), NOW.isoformat()
MOMENTS = {
    "iso": (ISO, LATER),
    "naive": ("2026-03-02 10:00:00", "2026-03-02 10:00:01"),
    "zone": ("2026-03-02T10:00:00.123456+02:00", "2026-03-02T10:00:00.000001+02:00"),
    "nanoseconds": (1_772_445_600_123_456_789, 1_772_445_600_000_000_001),
}


@pytest.mark.parametrize("kind", MOMENTS)
def test_pushes_are_answered_and_stored_alike(both: Both, kind: str) -> None:
    """However the moments are spelled; nulls and zeros of either sign included."""
    name = {"push_source_name": "lead_crm_push"}
    answers, rows = both.ask("/push", name, "lead_id", [f"{kind}1", f"{kind}2"], {**stamps(*MOMENTS[kind]), **VALUES})
    assert answers[0] == answers[1] == (200, b"")
    assert rows[0] == rows[1]
    assert all(rows[0])


def test_writes_are_answered_and_stored_alike(both: Both) -> None:
    """Whole numbers for doubles, integers of which one is null, a column that the view does not have."""
    name, columns = {"feature_view_name": "user_finances"}, {**stamps(ISO, LATER), **WHOLE, "unheard_of": ["x", "y"]}
    answers, rows = both.ask("/write-to-online-store", name, "user_id", ["w1", "w2"], columns)
    assert answers[0] == answers[1] == (200, b"null")
    assert rows[0] == rows[1]
    assert all(rows[0])


@pytest.mark.parametrize("order", [(ISO, LATER), (LATER, ISO), (ISO, ISO)])
def test_of_one_entity_the_newest_stays(both: Both, order: tuple[str, str]) -> None:
    """In one batch, whichever comes first; of equally new ones the first."""
    name, ids = {"push_source_name": "lead_crm_push"}, [f"twice{order[0][-8:]}{order[1][-8:]}"] * 2
    _, rows = both.ask("/push", name, "lead_id", ids, {**stamps(*order), **VALUES})
    assert rows[0] == rows[1]


@pytest.mark.parametrize("columns", [{}, {name: [None, None] for name in VALUES}])
def test_of_nothing_nothing_is_stored(both: Both, columns: dict[str, Any]) -> None:
    """No rows at all, or nulls alone."""
    ids = ["none1", "none2"] if columns else []
    df = {**stamps(*[ISO] * len(ids)), **(columns or {name: [] for name in VALUES})}
    answers, rows = both.ask("/push", {"push_source_name": "lead_crm_push"}, "lead_id", ids, df)
    assert answers[0] == answers[1] == (200, b"")
    assert rows[0] == rows[1] == [{}] * len(ids)


def test_what_feast_answers_with_a_fault_is_the_callers(both: Both) -> None:
    """Where Feast says 500 or passes it over, we say what is wrong."""
    good = {**stamps(ISO, ISO), **VALUES}
    asked = {
        "a column of texts": {**good, "engagement_score": ["high", "low"]},
        "no moments": {name: values for name, values in good.items() if name != "event_timestamp"},
        "a column too few": {name: values for name, values in good.items() if name != "source_quality"},
        "columns of unlike length": {**good, "source_quality": [1.0]},
    }
    for what, columns in asked.items():
        answers, rows = both.ask("/push", {"push_source_name": "lead_crm_push"}, "lead_id", ["f1", "f2"], columns)
        assert [status // 100 for status, _ in answers] == [4, 5], what
        assert rows[0] == [{}, {}]
