"""The loan applications as a history, and as labels: whether one was approved, as of its 5th, 10th, 20th, 30th step."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pandas as pd

from tests.contracts.replayed import table

AT = (5, 10, 20, 30)  # steps at which an application that is still open is asked about
APPROVED = ("A_APPROVED", "A_ACTIVATED", "A_REGISTERED")
DECIDED = (
    *APPROVED,
    "A_DECLINED",
    "A_CANCELLED",
    "O_ACCEPTED",
    "O_DECLINED",
)  # the customer's yes comes with the bank's


def steps() -> pd.DataFrame:
    """Every step in time order: case_id, name, at, nth of its case, amount, and when its case was decided (or NaT).

    The test is skipped where the data set is not at hand.
    """
    events = table("bpi2012_loan", "events.csv.gz")
    events["at"] = pd.to_datetime(events.timestamp, utc=True, format="ISO8601").astype("datetime64[ms, UTC]")
    events = events.sort_values("at", kind="stable").reset_index(drop=True)
    events["nth"] = events.groupby("case_id").cumcount() + 1
    decided = events[events.activity.isin(DECIDED)].groupby("case_id")["at"].min()
    return events.assign(decided=events.case_id.map(decided), name=events.activity + " " + events.lifecycle)


def labels(events: pd.DataFrame) -> pd.DataFrame:
    """user, as_of, label, nth: a row for each asked step of an application that was open then and is decided by now."""
    approved = set(events[events.activity.isin(APPROVED)].case_id)
    rows = events[events.nth.isin(AT) & (events["at"] < events.decided)]
    return pd.DataFrame(
        {"user": rows.case_id, "as_of": rows["at"], "label": rows.case_id.isin(approved).astype(int), "nth": rows.nth}
    )


def write(events: pd.DataFrame, path: Path) -> None:
    """The steps as Segment calls."""
    calls = zip(events.index, events.case_id, events.name, events.timestamp, events.amount_req, strict=True)
    path.write_bytes(
        b"\n".join(
            msgspec.json.encode(
                {
                    "type": "track",
                    "messageId": f"step-{i}",
                    "userId": case,
                    "event": name,
                    "timestamp": timestamp,
                    "properties": {"amount": amount},
                }
            )
            for i, case, name, timestamp, amount in calls
        )
    )
