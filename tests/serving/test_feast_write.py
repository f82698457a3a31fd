"""Features in from outside: what is stored and served, and what is refused and how."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_repo.layout import entity_key, field, read_timestamp_us, read_value, timestamp_field
from feature_repo.moments import microseconds
from feature_repo.traits import bits
from feature_repo.vocabulary import PUSHED, SILENT, Vocabulary
from tests.live import Live
from tests.logged import Log

VOCABULARY = Vocabulary()
QUICK = settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NOW = datetime.now(UTC).replace(microsecond=123456)
THEN = NOW.isoformat()
LEAD = {"days_since_contact": 3, "engagement_score": 40.5, "source_quality": None}
PERSON = {"credit_enquiries_90d": -2, "home_value": 410_000, "mortgage_balance": 1.5}


def frame(key: str, ids: list[Any], values: dict[str, Any], at: Any = THEN) -> dict[str, list[Any]]:
    """The same values for each id."""
    return {key: ids, "event_timestamp": [at] * len(ids), **{name: [v] * len(ids) for name, v in values.items()}}


def push(api: Live, source: str, df: dict[str, Any], **more: Any) -> Any:
    return api.post("/push", {"push_source_name": source, "df": df, **more})


def write(api: Live, view: str, df: dict[str, Any]) -> Any:
    return api.post("/write-to-online-store", {"feature_view_name": view, "df": df})


def leads(api: Live, *ids: Any, at: Any = THEN, **values: Any) -> Any:
    return push(api, "lead_crm_push", frame("lead_id", list(ids), {**LEAD, **values}, at))


def served(log: Log, view: str, id_: str, organisation: str = "main") -> tuple[int, dict[str, Any]]:
    """(moment in microseconds, values) as Feast's hash holds them; (0, {}) where it holds none."""
    found = VOCABULARY.views[view]
    key = entity_key(VOCABULARY.entity_of(found).join_key, f"{organisation}/{id_}".encode())
    there: dict[bytes, bytes] = log.client.hgetall(key)
    if timestamp_field(view) not in there:
        return 0, {}
    values = {f.name: read_value(there[field(view, f.name)]) for f in found.fields}
    return read_timestamp_us(there[timestamp_field(view)]), values


def test_a_push_is_served_at_once(api: Live, log: Log) -> None:
    """Feast's answer, and every value with the moment at which it held, to the microsecond."""
    answer = leads(api, "l1", "l2")
    assert (answer.status, answer.body) == (200, b"")
    for lead in ("l1", "l2"):
        assert served(log, "lead_crm", lead) == (microseconds(NOW), LEAD)


def test_a_write_by_view_is_the_same(api: Live, log: Log) -> None:
    answer = write(api, "lead_crm", frame("lead_id", ["by-view"], LEAD))
    assert (answer.status, answer.body) == (200, b"null")
    assert served(log, "lead_crm", "by-view")[1] == LEAD


def test_a_row_not_newer_than_what_stands_is_passed_over(api: Live, log: Log) -> None:
    """As Feast does: older and equally old ones; in one batch too."""
    earlier, later = ((NOW + timedelta(seconds=s)).isoformat() for s in (-1, 1))
    for at, score in ((THEN, 1), (THEN, 2), (earlier, 3)):
        assert leads(api, "stale", at=at, engagement_score=score).status == 200
    assert served(log, "lead_crm", "stale")[1]["engagement_score"] == 1
    df = frame("lead_id", ["stale"] * 3, LEAD)
    df |= {"event_timestamp": [earlier, later, THEN], "engagement_score": [7, 8, 9]}
    assert push(api, "lead_crm_push", df).status == 200
    assert served(log, "lead_crm", "stale")[1]["engagement_score"] == 8


def test_other_entities_are_kept_for_the_lake(api: Live, log: Log) -> None:
    """One row in a partition's log under `entity:id`, counted as accepted."""
    before = log.accepted()
    leads(api, "kept")
    (event,) = log.events("lead:kept")
    assert event.json == {
        "type": "push",
        "view": "lead_crm",
        "id": "kept",
        "timestamp": THEN,
        "features": LEAD,
        "to": "online",
    }
    assert (event.code, event.ts, log.accepted()) == (SILENT, microseconds(NOW) // 1000, before + 1)


def test_a_persons_row_is_an_event_that_tells_traits(api: Live, log: Log) -> None:
    """Without an engine the answer comes after a second and says that the person is not scored yet."""
    began = time.monotonic()
    answer = push(api, "user_finances_push", frame("user_id", ["push-told"], PERSON))
    assert (answer.status, answer.body) == (202, b"")
    assert 1 <= time.monotonic() - began < 3
    (event,) = log.events("push-told")
    told = {name: VOCABULARY.traits[VOCABULARY.trait_id[name]] for name in ("property_value", "mortgage_balance")}
    assert event.code == PUSHED
    assert event.traits == {
        VOCABULARY.trait_id["property_value"]: bits(told["property_value"], 410_000),
        VOCABULARY.trait_id["mortgage_balance"]: bits(told["mortgage_balance"], 1.5),
    }
    assert served(log, "user_finances", "push-told") == (microseconds(NOW), {**PERSON, "home_value": 410_000.0})


def test_a_write_that_is_not_worked_yet_is_200(api: Live) -> None:
    """Since Feast's remote store takes anything else for a failure."""
    answer = write(api, "user_finances", frame("user_id", ["late"], PERSON))
    assert (answer.status, answer.body) == (200, b"null")


def test_offline_is_for_the_lake_alone(api: Live, log: Log) -> None:
    """Nothing is served, and a person's traits are not told."""
    answer = push(api, "user_finances_push", frame("user_id", ["push-off"], PERSON), to="offline")
    assert answer.status == 200
    assert served(log, "user_finances", "push-off") == (0, {})
    (event,) = log.events("push-off")
    assert (event.code, event.traits, event.json["to"]) == (SILENT, {}, "offline")


@pytest.mark.parametrize("to", ["online", "online_and_offline"])
def test_online_is_served(api: Live, log: Log, to: str) -> None:
    push(api, "lead_crm_push", frame("lead_id", [to], LEAD), to=to)
    assert served(log, "lead_crm", to)[1] == LEAD


def test_organisations_are_apart(api: Live, log: Log) -> None:
    leads(api, "mine")
    assert served(log, "lead_crm", "mine", "other") == (0, {})


@pytest.mark.parametrize(
    ("at", "us"),
    [
        ("2024-01-01 00:00:00", 1_704_067_200_000_000),
        ("2024-01-01T02:00:00+02:00", 1_704_067_200_000_000),
        ("2024-01-01T00:00:00.123456789Z", 1_704_067_200_123_456),
        (1_704_067_200_123_456_789, 1_704_067_200_123_456),
    ],
)
def test_moments_are_read_as_pandas_does(api: Live, log: Log, at: Any, us: int) -> None:
    """UTC where they name no zone; whole numbers are nanoseconds, of which Feast keeps microseconds."""
    leads(api, f"moment-{at}", at=at)
    assert served(log, "lead_crm", f"moment-{at}")[0] == us


def test_columns_may_come_by_index(api: Live, log: Log) -> None:
    """As pandas' `to_dict()` has them."""
    df = {name: {str(9 - i): v for i, v in enumerate(vs)} for name, vs in frame("lead_id", ["i1", "i2"], LEAD).items()}
    df["engagement_score"] = {"8": 2.0, "9": 1.0}
    assert push(api, "lead_crm_push", df).status == 200
    assert [served(log, "lead_crm", i)[1]["engagement_score"] for i in ("i1", "i2")] == [1.0, 2.0]


@pytest.mark.parametrize("df", [{}, frame("lead_id", [], LEAD), frame("lead_id", ["none"], dict.fromkeys(LEAD))])
def test_nothing_to_write_is_well_answered(api: Live, log: Log, df: dict[str, Any]) -> None:
    """No rows, or none that has a value: as Feast's server, which writes nothing then."""
    before = log.accepted()
    assert push(api, "lead_crm_push", df).status == 200
    assert log.accepted() == before


def test_a_row_pushed_again_is_one_message(api: Live, log: Log) -> None:
    """Its id is its content, so that a sender who does not know whether it arrived may send it again."""
    for _ in range(2):
        leads(api, "again")
    leads(api, "again", engagement_score=41)
    first, second, third = log.events("lead:again")
    assert first.mid == second.mid != third.mid


GOOD = frame("lead_id", ["bad"], LEAD)
BAD = [
    ({"lead_id": ["a", "b"]}, "df", "lead_id has 2"),
    ({"lead_id": [None]}, "df.lead_id", "row 0"),
    ({"lead_id": [""]}, "df.lead_id", "expected an id"),
    ({"lead_id": [1.5]}, "df.lead_id", "1.5"),
    ({"lead_id": [True]}, "df.lead_id", "True"),
    ({"lead_id": ["a\x00b"]}, "df.lead_id", "control"),
    ({"lead_id": ["x" * 513]}, "df.lead_id", "512 bytes"),
    ({"lead_id": "bad"}, "df.lead_id", "list"),
    ({"event_timestamp": ["soon"]}, "df.event_timestamp", "ISO 8601"),
    ({"event_timestamp": [None]}, "df.event_timestamp", "ISO 8601"),
    ({"event_timestamp": [1.5]}, "df.event_timestamp", "ISO 8601"),
    ({"event_timestamp": ["1969-12-31T23:59:59Z"]}, "df.event_timestamp", "after 1970"),
    ({"event_timestamp": ["2999-01-01"]}, "df.event_timestamp", "an hour ahead"),
    ({"engagement_score": ["40"]}, "df.engagement_score", "row 0: expected a number, got '40'"),
    ({"engagement_score": [True]}, "df.engagement_score", "number"),
    ({"engagement_score": [10**400]}, "df.engagement_score", "number"),
    ({"engagement_score": [[1]]}, "df.engagement_score", "number"),
]


@pytest.mark.parametrize(("changed", "where", "says"), BAD)
def test_a_bad_value_is_named(api: Live, log: Log, changed: dict[str, Any], where: str, says: str) -> None:
    """The column, the row and what was expected; and nothing of the batch is stored."""
    answer = push(api, "lead_crm_push", {**GOOD, **changed})
    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")
    assert answer.json["field"] == where
    assert says in answer.json["detail"]
    assert log.events("lead:bad") == []


@pytest.mark.parametrize("column", ["lead_id", "event_timestamp", "source_quality"])
def test_a_column_that_is_missing_is_named(api: Live, column: str) -> None:
    answer = push(api, "lead_crm_push", {name: values for name, values in GOOD.items() if name != column})
    assert (answer.status, answer.json["field"]) == (400, f"df.{column}")


@pytest.mark.parametrize("value", [3.5, 1 << 63, -(1 << 63) - 1, "3", 1e300])
def test_an_integer_is_one_of_64_bits(api: Live, value: Any) -> None:
    answer = write(api, "user_finances", frame("user_id", ["whole"], {**PERSON, "credit_enquiries_90d": value}))
    assert (answer.status, answer.json["field"]) == (400, "df.credit_enquiries_90d")


def test_what_a_trait_cannot_be_is_refused(api: Live) -> None:
    answer = write(api, "user_finances", frame("user_id", ["huge"], {**PERSON, "home_value": 1e301}))
    assert (answer.status, answer.json["field"]) == (400, "df.home_value")


@pytest.mark.parametrize(
    ("path", "field_", "own"),
    [
        ("/push", "push_source_name", "user_features_push"),
        ("/write-to-online-store", "feature_view_name", "user_features"),
    ],
)
def test_only_external_views_can_be_written(api: Live, path: str, field_: str, own: str) -> None:
    """The stream's own is 409, one that nobody declared 404."""
    for name, status in ((own, 409), ("nobody", 404)):
        answer = api.post(path, {field_: name, "df": {}})
        assert (answer.status, answer.json["field"]) == (status, field_)


def test_too_much_is_refused(api: Live) -> None:
    """Rows, and bytes of one row."""
    assert leads(api, *range(20_001)).status == 413
    assert push(api, "lead_crm_push", {**GOOD, "lead_id": ["x" * (9 << 20)]}).status == 413


def test_history_needs_a_store_of_the_logs_time(api: Live, past_api: Live, past_log: Log) -> None:
    """There it is marked, so that nothing fires."""
    body = {"push_source_name": "user_finances_push", "df": frame("user_id", ["push-past"], PERSON, "2001-01-01")}
    assert api.post("/push", body, X_Telltale_History="1").status == 400
    assert past_api.post("/push", body, X_Telltale_History="1").status == 202
    (event,) = past_log.events("push-past")
    assert event.history


def test_a_key_is_needed(api: Live) -> None:
    body = json.dumps({"push_source_name": "lead_crm_push", "df": GOOD}).encode()
    assert api.ask("POST", "/push", body, {"Content-Type": "application/json"}).status == 401
    assert api.ask("GET", "/push").status == 405


def test_thousands_of_rows_are_one_request(api: Live, log: Log) -> None:
    """Written in several transactions; the last row stands like the first."""
    assert leads(api, *(f"many-{i}" for i in range(4_500))).status == 200
    for i in (0, 499, 500, 1_999, 2_000, 4_499):
        assert served(log, "lead_crm", f"many-{i}")[1] == LEAD
    assert len(log.events("lead:many-")) == 4_500


def test_a_hash_that_is_none_is_said(api: Live, log: Log) -> None:
    """Somebody put another kind of value where the features belong: 503, and the other rows are written."""
    log.client.set(entity_key("lead_id", b"main/odd"), "x")
    answer = leads(api, "odd", "even")
    assert answer.status == 503
    assert "WRONGTYPE" in answer.json["detail"]
    assert served(log, "lead_crm", "even")[1] == LEAD


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
COLUMNS = {
    "lead_id": st.lists(st.text(min_size=1) | st.integers() | JSON, max_size=3),
    "event_timestamp": st.lists(st.datetimes().map(str) | st.integers() | JSON, max_size=3),
    **{name: st.lists(st.floats() | JSON, max_size=3) for name in LEAD},
}
ASKED = st.fixed_dictionaries(
    {"push_source_name": st.just("lead_crm_push") | JSON, "df": st.fixed_dictionaries({}, optional=COLUMNS) | JSON},
    optional={"to": st.sampled_from(["online", "offline"]) | JSON},
)


@QUICK
@given(body=st.binary(max_size=200) | (JSON | ASKED).map(lambda value: json.dumps(value).encode()))
def test_whatever_is_posted_is_no_fault_of_ours(api: Live, body: bytes) -> None:
    """2xx, or a 4xx that names the field."""
    for path in ("/push", "/write-to-online-store"):
        answer = api.ask("POST", path, body, {**api.login, "Content-Type": "application/json"})
        assert answer.status in (200, 400, 404, 409), answer.body
        assert answer.status == 200 or answer.json["field"]
