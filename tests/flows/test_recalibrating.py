"""What outcomes taught, in the stream: it moves the scores of its organisation, and its number goes with them."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import redis

from feature_repo import keys
from feature_repo.layout import entity_key
from feature_repo.settings import Settings
from flows import scored
from flows.alert import Alert, decode, withheld
from flows.entry import Draft
from flows.lake_read import LakeReader
from flows.scored import Last
from flows.state import identity
from onnx_models.calibrations import Calibration, applied
from onnx_models.session import Model
from tests.flows import streams_made as made
from tests.flows.both_sides import VOCABULARY
from tests.flows.ground import Ground
from tests.flows.made_models import logistic
from tests.flows.streams_made import START

ALERTS = [service for service in VOCABULARY.services if service.alert]
SELL = ALERTS[0]
CHECK = VOCABULARY.code["property_value_check", None]
A, B = 1.5, 0.75


@pytest.fixture
def ground(client: redis.Redis, settings: Settings) -> Ground:
    """The lake follows everybody; nobody is told of half of the alerts."""
    return Ground(client, msgspec.structs.replace(settings, lake_features=1.0, withheld=0.5))


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """It fires at once; of `org` the calibration 7 holds, of `third` the 8."""
    found = logistic(tmp_path, SELL, "value_check_count_30d", 0.5, 3.0, 0.1)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    change = Calibration(7, found.version, "org", A, B, at, "learning", "")
    other = msgspec.structs.replace(change, number=8, organisation="third", a=1.0, b=-1.0)
    return found.with_({"org": change, "third": other})


def checks(ground: Ground, people: list[tuple[str, int]], now: int) -> None:
    """Value checks of these `organisation/user`s, in one entry a partition."""
    drafts: dict[int, Draft] = {}
    for name, count in people:
        uid = identity(ground.store, name.encode())
        draft = drafts.setdefault(uid % ground.store.partitions, Draft())
        for i in range(count):
            draft.add(uid, name.encode(), (uid ^ (now + i)) | 2, now, CHECK, 0, b"{}")
    for p, draft in drafts.items():
        fields: Any = {"e": draft.encode(VOCABULARY.fingerprint), "r": draft.encode_raw()}
        ground.client.xadd(keys.log(p), fields, id=f"{now}-*")


def test_an_entry_about_nobody_is_passed(ground: Ground, model: Model) -> None:
    """An engine that has just started, and met nobody yet, lets a minute pass."""
    engine = ground.engine(models={SELL.name: model})
    ground.pass_time(START, minutes=1)
    made.drain(engine)
    assert ground.client.get(keys.position(0)) is not None


def last(client: redis.Redis, name: str) -> Last:
    key = entity_key(VOCABULARY.join_key, name.encode())
    told: Any = client.hgetall(keys.SCORE_SETS)
    sets = {int(set_): scored.members(value) for set_, value in told.items()}
    return scored.read(client.hmget(key, scored.names(len(ALERTS))), sets)[0]


def alerts(client: redis.Redis) -> dict[str, Alert]:
    found = [decode(fields[b"a"]) for _, fields in client.xrange(keys.ALERTS)]
    return {f"{alert.organisation}/{alert.user}": alert for alert in found}


PEOPLE = [(f"{whose}/u{n}", 1 + n % 6) for n in range(12) for whose in ("org", "another", "third")]


def test_scores_move_by_organisation_and_carry_the_number(
    ground: Ground, client: redis.Redis, model: Model, settings: Settings
) -> None:
    """In the last scores, in alerts and in what the lake keeps; others keep the version's own to the bit."""
    engine = ground.engine(models={SELL.name: model})
    checks(ground, PEOPLE, START)
    made.drain(engine)
    told = alerts(client)
    lake = LakeReader(settings.lake, VOCABULARY, ground.store, client).served().to_pylist()
    served = {row["user_id"]: (row[f"{SELL.name}__score"], row[f"{SELL.name}__calibration"]) for row in lake}
    assert told
    for name, _ in PEOPLE:
        found = last(client, name)
        own = np.array([found.raw], np.float32)
        moved = {"org": (applied(own, A, B), 7), "third": (applied(own, 1.0, -1.0), 8)}
        score, number = moved.get(name.partition("/")[0], (own, 0))
        assert (found.calibrated, found.calibration) == (float(score[0]), number), name
        assert served[name] == (found.calibrated, number)
        if name in told:
            assert (told[name].score, told[name].calibration, told[name].raw_score) == (*served[name], found.raw)


def test_the_same_bits_however_the_log_is_cut(ground: Ground, client: redis.Redis, model: Model) -> None:
    """One person at a time, or all at once."""
    engine = ground.engine(models={SELL.name: model})
    checks(ground, PEOPLE, START)
    made.drain(engine)
    together = {name: last(client, name).calibrated for name, _ in PEOPLE}
    made.kill(engine)
    client.flushall()
    again = Ground(client, ground.settings)
    engine = again.engine(models={SELL.name: model})
    for one in PEOPLE:
        checks(again, [one], START)
        made.drain(engine)
    assert {name: last(client, name).calibrated for name, _ in PEOPLE} == together


def test_a_row_of_the_table_that_becomes_somebody_elses(ground: Ground, client: redis.Redis, model: Model) -> None:
    """Their organisation is looked at anew."""
    small = msgspec.structs.replace(ground.settings, cache_users=4)
    ground.settings = small
    engine = ground.engine(models={SELL.name: model})
    for n in range(8):
        checks(ground, [(f"{whose}/v{n}", 3) for whose in ("org", "another")], START + n)
        made.drain(engine)
    numbers = [last(client, f"{whose}/v{n}").calibration for n in range(8) for whose in ("org", "another")]
    assert numbers == [7, 0] * 8


def test_a_share_of_alerts_is_marked_as_withheld(ground: Ground, client: redis.Redis, model: Model) -> None:
    """By their ids, so that a replay marks the same."""
    engine = ground.engine(models={SELL.name: model})
    checks(ground, [(f"org/w{n}", 6) for n in range(40)], START)
    made.drain(engine)
    told = alerts(client)
    assert len(told) == 40
    assert [alert.withheld for alert in told.values()] == [withheld(alert.id, 0.5) for alert in told.values()]
    assert 5 < sum(alert.withheld for alert in told.values()) < 35


def test_a_smaller_share_withholds_some_of_the_same() -> None:
    """None at 0; as many as are asked for."""
    ids = [f"al_{n * 2654435761 % 2**32:08x}{'0' * 24}" for n in range(20_000)]
    few, many = ({id_ for id_ in ids if withheld(id_, share)} for share in (0.02, 0.5))
    assert few < many
    assert math.isclose(len(few) / len(ids), 0.02, abs_tol=0.003)
    assert not any(withheld(id_, 0.0) for id_ in ids)
