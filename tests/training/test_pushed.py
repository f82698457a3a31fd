"""Features of views that outside data fills, in training sets: what had been pushed by then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from feature_repo.declare import Service
from feature_repo.vocabulary import Vocabulary
from flows import push
from tests.training.made_lake import T0, made_lake
from training.labels import Labels
from training.past import NotReadable
from training.training_set import Wanted, training_set

VOCABULARY = Vocabulary()
DAY = 86_400_000


def pushed(at: int, user: str, so_at: int, view: str = "user_finances", **features: Any) -> dict[str, Any]:
    """A row of the lake: pushed at `at`, of how it was at `so_at`, both in ms after T0."""
    said = push.Push(view, user, push.moment((T0 + so_at) * 1000), features)
    return {"at": at, "user": user, "type": "push", "ts": T0 + so_at, "raw": push.encode(said).decode()}


def asked(*rows: tuple[str, int], **more: list[str]) -> Labels:
    users, at = zip(*rows, strict=True)
    moments = pa.array([T0 + ms for ms in at], pa.timestamp("ms", tz="UTC")).cast(pa.timestamp("us", tz="UTC"))
    return Labels(pa.table({"user": pa.array(users), "as_of": moments, **more}))


def found(lake: Path, labels: Labels, *features: str) -> pa.Table:
    service = Service(name="s", features=features, description="s")
    return training_set(Wanted(history=lake, vocabulary=VOCABULARY, service=service), labels)[0]


def test_a_pushed_value_counts_once_received(tmp_path: Path) -> None:
    """As of an instant it is what had come by then: of the latest timestamp, not the last to come."""
    lake = made_lake(
        tmp_path,
        pushed(10, "ann", 10, home_value=1.0),
        pushed(20, "ann", 5, home_value=2.0),
        pushed(30, "ann", 30, home_value=3.0, credit_enquiries_90d=4),
    )
    rows = asked(*(("ann", at) for at in (9, 10, 20, 29, 30)), ("bob", 30))
    table = found(lake, rows, "user_finances:home_value", "user_finances:credit_enquiries_90d")
    assert table["user_finances:home_value"].to_pylist() == [None, 1.0, 1.0, 1.0, 3.0, None]
    assert table["user_finances:credit_enquiries_90d"].to_pylist() == [None, None, None, None, 4, None]


def test_a_pushed_value_expires(tmp_path: Path) -> None:
    """Once it is older than the view's TTL, of 90 days, it is null."""
    lake = made_lake(tmp_path, pushed(0, "ann", 0, home_value=1.0))
    table = found(lake, asked(("ann", 90 * DAY), ("ann", 90 * DAY + 1)), "user_finances:home_value")
    assert table["user_finances:home_value"].to_pylist() == [1.0, None]


def test_a_push_tells_traits(tmp_path: Path) -> None:
    """What a view's field tells as a trait moves the flow's features from then on."""
    lake = made_lake(tmp_path, pushed(10, "ann", 10, home_value=500.0, mortgage_balance=200.0))
    table = found(lake, asked(("ann", 9), ("ann", 10)), "estimated_equity")
    assert table["estimated_equity"].to_pylist() == [0.0, 300.0]


def test_another_entity_is_named_by_its_join_key(tmp_path: Path) -> None:
    """A lead's features go to the row that names the lead; without that column the labels are refused."""
    lake = made_lake(tmp_path, {**pushed(0, "l-7", 0, "lead_crm", source_quality=0.4), "user": "lead:l-7"})
    table = found(lake, asked(("ann", 1), ("ann", 1), lead_id=["l-7", "l-8"]), "lead_crm:source_quality")
    assert table["lead_crm:source_quality"].to_pylist() == [0.4, None]
    with pytest.raises(NotReadable, match="expected the labels to have a column lead_id"):
        found(lake, asked(("ann", 1)), "lead_crm:source_quality")
