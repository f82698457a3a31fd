"""What the flow makes of features from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from feature_repo import keys
from feature_repo.declare import Value
from feature_repo.layout import entity_key, field, read_timestamp_us, read_value
from feature_repo.vocabulary import PUSHED
from flows import push
from flows.entry import Draft, Kind
from flows.external import ExternalView
from flows.lake_read import LakeReader, Window
from flows.push import Push
from flows.state import identity
from onnx_models.session import Model
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.flows.ground import Ground, event
from tests.flows.made_models import logistic
from tests.flows.streams_made import DAY, START, Event
from tests.flows.test_alerting import CHECK, SELL, alerts, checks

VALUE = VOCABULARY.trait_id["property_value"]
LEADS = VOCABULARY.views["lead_crm"]


def pushed(user: str, now: int, n: int, value: float | None = None, ts: int | None = None) -> Event:
    told = () if value is None else ((VALUE, int(np.float64(value).view(np.int64))),)
    return Event(user, PUSHED, 0, now if ts is None else ts, now, n, told)


def for_the_lake(ground: Ground, *pushes: Push, at: int = START) -> None:
    """Rows of no person, as the door appends them."""
    drafts: dict[int, Draft] = {}
    for n, one in enumerate(pushes):
        name = f"org/{push.identity_of(VOCABULARY, VOCABULARY.views[one.view], one.id)}"
        uid = identity(ground.store, name.encode())
        draft = drafts.setdefault(uid % ground.store.partitions, Draft())
        draft.add(uid, name.encode(), n + 1, one.at // 1000, raw=push.encode(one))
    for p, draft in drafts.items():
        fields: Any = {"e": draft.encode(VOCABULARY.fingerprint, kind=Kind.PUSH), "r": draft.encode_raw()}
        ground.client.xadd(keys.log(p), fields, id=f"{at}-*")
        ground.client.hincrby(keys.counts(p), "accepted", len(draft))


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Model]:
    """One model, which answers above its threshold from half a million of equity on."""
    return {SELL.name: logistic(tmp_path, SELL, "estimated_equity", slope=1e-4, middle=500_000, threshold=0.7)}


def test_a_pushed_value_moves_features_and_fires(ground: Ground, models: dict[str, Model]) -> None:
    """The valuation alone lifts the score over the threshold: the alert comes with the push."""
    engine = ground.engine(models=models)
    ground.post(*checks("u1", START, 1), pushed("u1", START + DAY, 50, 400_000.0))
    made.drain(engine)
    assert (ground.features("u1")["estimated_equity"], alerts(ground)) == (400_000.0, [])
    ground.post(pushed("u1", START + DAY + 1, 51, 600_000.0))
    made.drain(engine)
    (alert,) = alerts(ground)
    assert alert.features == [ground.features("u1")[name] for name in SELL.features]
    assert alert.scored_at == START + DAY + 1


def test_a_push_that_tells_no_trait_scores_again(ground: Ground) -> None:
    """As of its moment of the log: what fell out of a window is out."""
    engine = ground.engine()
    ground.post(event("u1", START, 1, CHECK))
    made.drain(engine)
    ground.post(pushed("u1", START + 40 * DAY, 2))
    made.drain(engine)
    assert made.feature_time(ground.client, VOCABULARY, "u1") == START + 40 * DAY
    assert ground.features("u1")["value_check_count_30d"] == 0
    assert ground.wrong() == {}


def test_somebody_new_is_whole_with_the_first_write(ground: Ground) -> None:
    """Although the door has made their hash: whoever waits for the position reads no half of them."""
    engine = ground.engine()
    finances = VOCABULARY.views["user_finances"]
    command = ExternalView(finances, VOCABULARY.entity_of(finances)).write(
        [b"org/u1"], [START * 1000], [[1], [5.0], [1.0]]
    )
    ground.client.execute_command(*_unpacked(command))
    ground.post(pushed("u1", START, 1, 5.0))
    while not engine.written_users:
        made.step(engine)
    engine.writer.settle()
    assert None not in ground.features("u1").values()


def test_an_old_push_is_not_late(ground: Ground) -> None:
    """It touches no window; an older value than what is known tells nothing, and it counts as processed."""
    engine = ground.engine()
    ground.post(pushed("u1", START, 1, 5.0), pushed("u1", START, 2, 7.0, ts=START - 200 * DAY))
    made.drain(engine)
    assert ground.features("u1")["estimated_equity"] == 5.0
    assert ground.counts() == {"accepted": 2, "processed": 2}


def test_rows_of_no_person_are_passed_over_and_accounted_for(ground: Ground) -> None:
    """Nobody's features are written, and the position and the counts go on."""
    for_the_lake(ground, *(lead(str(i)) for i in range(80)))  # so many that each partition has some
    made.drain(ground.engine())
    assert ground.counts() == {"accepted": 80, "processed": 80}
    positions = [ground.client.get(keys.position(p)) for p in range(ground.store.partitions)]
    assert all(position and position.startswith(b"%d-" % START) for position in positions)
    assert list(ground.client.scan_iter(match=b"tt:h:*")) == []


def test_rows_of_no_person_wait_for_others(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for them, so their positions go with what is written next; an event of a person is, at once."""
    monkeypatch.setattr("flows.engine.PATIENT_MS", 1e9)
    engine = ground.engine()
    for_the_lake(ground, *(lead(str(i)) for i in range(80)))
    while sum(progress.counts["processed"] for progress in engine.counting.progress.values()) < 80:
        made.step(engine)
    assert ground.counts() == {"accepted": 80}
    ground.post(event("u1", START, 100, CHECK))
    while not engine.written_users:
        made.step(engine)
    engine.writer.settle()
    assert ground.counts() == {"accepted": 81, "processed": 81}


def test_the_lake_keeps_every_row(ground: Ground) -> None:
    """Under `entity:id`, its view as the name, the JSON with all that was pushed."""
    for_the_lake(ground, lead("7"), lead("8"))
    lake = LakeReader(ground.settings.lake, VOCABULARY, ground.store, ground.client)
    (row,) = lake.events(Window(users=("org/lead:7",))).to_pylist()
    assert (row["type"], row["name"], row["user"], row["event"]) == ("push", "lead_crm", "lead:7", None)
    assert push.decode(row["raw"].encode()) == lead("7")


def lead(id_: str) -> Push:
    features: dict[str, Value | None] = {"days_since_contact": 1.0, "engagement_score": None, "source_quality": 0.5}
    return Push("lead_crm", id_, push.moment(START * 1000), features)


def test_a_row_tells_the_traits_that_its_fields_declare() -> None:
    """Not those that are null, not of a view that is gone, and nothing at all where it was for the lake alone."""
    row = Push("user_finances", "u1", "2026-03-02", {"home_value": 5.0, "mortgage_balance": None})
    assert push.traits(VOCABULARY, row) == {"property_value": 5.0}
    assert push.traits(VOCABULARY, msgspec.structs.replace(row, to="offline")) == {}
    assert push.traits(VOCABULARY, msgspec.structs.replace(row, view="gone")) == {}


def test_many_rows_are_encoded_as_each_is() -> None:
    """Whatever their ids and values are."""
    ids = ["7", 'a", "b', "back\\slash", "100%", "ä\u2028", ",", "%b"]
    columns: dict[str, list[Value | None]] = {
        "numbers": [1.0, -0.0, 1e300, 5e-324, None, 0.1, 7.0],
        "integers": [1, -1, None, 2**62, 0, 5, 6],
        "texts_of_%": ["x", 'q"', ",", "", None, "%b", "\n"],
        "none": [None] * 7,
    }
    moments = [push.moment(START * 1000 + i) for i in range(7)]
    rows = zip(ids, moments, zip(*columns.values(), strict=True), strict=True)
    each = [Push("v%", id_, at, dict(zip(columns, values, strict=True)), "offline") for id_, at, values in rows]
    for many in (7, 1):  # one id alone is plain
        got = push.encoded("v%", "offline", ids[:many], moments[:many], {n: c[:many] for n, c in columns.items()})
        assert got == [push.encode(one) for one in each[:many]]


def test_rows_of_numbers_are_packed_as_others_are() -> None:
    """All at once gives the arguments that one by one does, as where there is a null."""
    view = ExternalView(LEADS, VOCABULARY.entity_of(LEADS))
    names, at = [b"org/l", b"org/longer", b"org/l"], [START * 1000 + us for us in (1_000, 1_500, 1_000)]
    columns: list[list[Value | None]] = [[1.0, -0.0, 1e300], [2.0, 5e-324, 0.1], [3.0, 4.0, None]]
    one_by_one = _unpacked(view.write(names, at, columns))
    columns[2][2] = 7.0
    at_once = _unpacked(view.write(names, at, columns))
    assert at_once[:-1] == one_by_one[:-1]
    assert read_value(at_once[-1]) == 7.0


def test_moments_are_kept_to_the_microsecond() -> None:
    for us in (0, 1, 1_772_445_600_123_456):
        assert Push("v", "i", push.moment(us), {}).at == us


STAMPS = [0, 1_772_445_600_000_000, 1_772_445_600_000_001, 1_772_445_601_000_000, 7_258_118_400_000_000]


@pytest.mark.parametrize("stood", STAMPS)
@pytest.mark.parametrize("came", STAMPS)
def test_only_what_is_newer_is_written(ground: Ground, stood: int, came: int) -> None:
    """By seconds and by their fractions; where something stands of 1970 itself, it counts as nothing, as in Feast."""
    view = ExternalView(LEADS, VOCABULARY.entity_of(LEADS))
    for at, value in ((stood, 1.0), (came, 2.0)):
        ground.client.execute_command(*_unpacked(view.write([b"org/l"], [at], [[value], [None], [value]])))
    there: Any = ground.client.hgetall(entity_key("lead_id", b"org/l"))
    newer = came > stood or not stood
    assert read_timestamp_us(there[b"_ts:lead_crm"]) == (came if newer else stood)
    assert read_value(there[field("lead_crm", "source_quality")]) == (2.0 if newer else 1.0)


def _unpacked(command: bytes) -> list[bytes]:
    """The arguments of a packed command."""
    parts, rest = [], command.partition(b"\r\n")[2]
    while rest:
        length, _, rest = rest.partition(b"\r\n")
        size = int(length[1:])
        parts.append(rest[:size])
        rest = rest[size + 2 :]
    return parts
