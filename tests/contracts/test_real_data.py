"""Real histories through the public door, under vocabularies of their own: what stands in Redis is a group-by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from feature_repo.vocabulary import spelled
from tests.contracts.replayed import replayed, table

DAY, HOUR = 86_400_000, 3_600_000


def counted(events: pd.DataFrame, features: pd.DataFrame, tile: int, length: int) -> pd.DataFrame:
    """How many events of each kind lie in each user's last `length` tiles (of `tile` ms): a row a user."""
    inside = events[events.ts // tile > (events["at"] // tile - length)]
    table = inside.pivot_table(index="user", columns="kind", aggfunc="size", fill_value=0)
    return table.reindex(features.index, fill_value=0)


def test_loan_applications_are_counted_as_pandas_counts(tmp_path: Path) -> None:
    """Every second application's steps over five months: counts, days, sums and recency, case by case."""
    events = table("bpi2012_loan", "events.csv.gz")
    events = events[events.case_id.astype(int) % 2 == 0]
    events["ts"] = _ms(pd.to_datetime(events.timestamp, utc=True, format="ISO8601"))
    events = events.sort_values("ts", kind="stable").reset_index(drop=True)
    events["name"] = events.activity + " " + events.lifecycle
    events["kind"], events["user"] = events["name"].map(spelled), events.case_id
    with replayed(tmp_path, "bpi2012_loan", [_step(i, row) for i, row in enumerate(events.to_dict("records"))]) as run:
        known = events[events.kind.isin(run.vocabulary.event)]
        assert run.counts() == {
            "accepted": len(events),
            "processed": len(known),
            "unknown": len(events) - len(known),
        }
        found = run.features(sorted(known.user.unique()))
    known = known.merge(found["at"], left_on="user", right_index=True)
    kept = known[known.ts // DAY > known["at"] // DAY - 90]
    for kind, expected in counted(known, found, DAY, 90).items():
        assert (found[f"{kind}_90d"] == expected).all(), kind
    assert (found["steps_7d"] == counted(known, found, DAY, 7).sum(axis=1)).all()
    assert (found["steps_24h"] == counted(known, found, HOUR, 24).sum(axis=1)).all()
    days = (kept.ts // DAY).groupby(kept.user)
    assert (found["active_days_90d"] == days.nunique().reindex(found.index, fill_value=0)).all()
    assert (found["first_day_90d"] == days.min().reindex(found.index, fill_value=0)).all()
    amounts = kept[kept.kind == "a_submitted_complete"].groupby("user").amount_req.sum()
    assert np.allclose(found["amount_90d"], amounts.reindex(found.index, fill_value=0.0), rtol=1e-12)
    since = (found["at"] - known.groupby("user").ts.max()) / DAY
    assert np.allclose(found["days_since_last_step"], since, rtol=1e-12)


def _step(number: int, row: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "track",
        "messageId": f"step-{number}",
        "userId": row["case_id"],
        "event": row["name"],
        "timestamp": row["timestamp"],
        "properties": {"amount": row["amount_req"]},
    }


def test_shop_visits_are_counted_as_pandas_counts(tmp_path: Path) -> None:
    """All 17,434 events of 4,504 visitors within three hours: hour tiles, tags and prices, user by user."""
    events = table("rees46_slice", "2019-Oct_first_2h50m.csv.gz")
    events["ts"] = _ms(pd.to_datetime(events.event_time, utc=True, format="%Y-%m-%d %H:%M:%S UTC"))
    events["user"], events["kind"] = events.user_id, events.event_type
    events["department"] = events.category_code.fillna("").str.split(".").str[0]
    with replayed(tmp_path, "rees46_slice", [_visit(i, row) for i, row in enumerate(events.to_dict("records"))]) as run:
        assert run.counts() == {"accepted": len(events), "processed": len(events)}
        found = run.features(sorted(events.user.unique()))
    events = events.merge(found["at"], left_on="user", right_index=True)
    for hours in (1, 2, 24):
        for kind, expected in counted(events, found, HOUR, hours).items():
            assert (found[f"{kind}_{hours}h"] == expected).all(), (kind, hours)
    prices = events.pivot_table(index="user", columns="kind", values="price", aggfunc="sum", fill_value=0.0)
    for kind, expected in prices.items():
        assert np.allclose(found[f"{kind}_price_24h"], expected.reindex(found.index), atol=1e-9), kind
    electronics = events[events.department == "electronics"]
    for kind, expected in counted(electronics, found, DAY, 1).items():
        assert (found[f"{kind}_electronics_1d"] == expected).all(), kind
    since = (found["at"] - events.groupby("user").ts.max()) / HOUR
    assert np.allclose(found["hours_since_last"], since, rtol=1e-12)


def _visit(number: int, row: dict[str, Any]) -> dict[str, Any]:
    spelling = {"view": "Product Viewed", "cart": "Product Added", "purchase": "Order Completed"}
    return {
        "type": "track",
        "messageId": f"visit-{number}",
        "userId": row["user_id"],
        "event": spelling[row["event_type"]],
        "timestamp": row["event_time"].replace(" UTC", "Z").replace(" ", "T"),
        "properties": {"price": row["price"], "department": row["department"]},
    }


def _ms(moments: pd.Series[Any]) -> pd.Series[Any]:
    return moments.astype("datetime64[ms, UTC]").astype("int64")
