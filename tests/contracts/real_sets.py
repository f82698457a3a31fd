"""Public sets as files of labels, for the domains in `domains/`; a test is skipped where one is not at hand."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

from tests.contracts.replayed import table

ENROLLED = "Converted"
LAG = 500  # leads whose outcome is not known yet when one comes in
PRIOR = 20.0  # leads' worth of the mean, before a source has any
MADE_UP = pd.Timestamp("2020-01-01", tz="UTC")  # where a set has an order and no time, or neither


def leads() -> pd.DataFrame:
    """X Education's 9,240 leads by Lead Number, which stands for time; what was written after contact is left out.

    A minute a number: the set itself has no time.
    """
    found = table("x_education_leads", "Leads.csv.gz").sort_values("Lead Number").reset_index(drop=True)
    origin, work = found["Lead Origin"], found["What is your current occupation"]
    lead = found["Lead Number"].astype(str)
    return pd.DataFrame(
        {
            "user": lead,
            "lead_id": lead,
            "as_of": MADE_UP + pd.to_timedelta(found["Lead Number"] - found["Lead Number"].min(), unit="min"),
            "label": found[ENROLLED],
            "source_quality": _quality(found["Lead Source"].str.lower(), found[ENROLLED]),
            "visits": found["TotalVisits"],
            "seconds_on_site": found["Total Time Spent on Website"],
            "pages_a_visit": found["Page Views Per Visit"],
            "came_by_form": _flag(origin.isin(["Lead Add Form", "Quick Add Form"])),
            "came_by_api": _flag(origin == "API"),
            "no_mail": _flag(found["Do Not Email"] == "Yes"),
            "working": _flag(work.isin(["Working Professional", "Businessman"])),
            "unemployed": _flag(work == "Unemployed"),
            "student": _flag(work == "Student"),
            "told_occupation": _flag(work.notna()),
            "told_specialization": _told(found["Specialization"]),
            "told_city": _told(found["City"]),
            "told_matter": _told(found["What matters most to you in choosing a course"]),
            "told_source": _told(found["How did you hear about X Education"]),
            "in_india": _flag(found["Country"] == "India"),
            "free_copy": _flag(found["A free copy of Mastering The Interview"] == "Yes"),
            "tag_quality": found[ENROLLED].groupby(found["Tags"].fillna("")).transform("mean"),  # a leak, as all tags
        }
    )


def _flag(found: pd.Series) -> pd.Series:
    return found.astype(float)


def _told(found: pd.Series) -> pd.Series:
    return _flag(found.notna() & (found != "Select"))


def _quality(source: pd.Series, label: pd.Series) -> pd.Series:
    """Share of the source's earlier leads that enrolled, of those whose outcome is known by then."""
    shares = np.full(len(label), 0.0)
    seen: dict[object, list[float]] = {}
    mean = float(label.iloc[:LAG].mean())
    for i in range(len(label)):
        if i >= LAG:
            count = seen.setdefault(source.iloc[i - LAG], [0.0, 0.0])
            count[0] += label.iloc[i - LAG]
            count[1] += 1
        enrolled, came = seen.get(source.iloc[i], [0.0, 0.0])
        shares[i] = (enrolled + PRIOR * mean) / (came + PRIOR)
    return pd.Series(shares, index=label.index)


def mails(seed: int = 1) -> pd.DataFrame:
    """68,353 mails in a random order; label: opened or more. They have no time: `as_of` is the same for all."""
    found = table("email_campaign_68k", "data_email_campaign.csv.gz").sample(frac=1.0, random_state=seed)
    places = {f"lives_in_{p.lower()}": _flag(found["Customer_Location"] == p) for p in "ABCDEFG"}
    return pd.DataFrame(
        {
            "user": found["Email_ID"],
            "as_of": MADE_UP,
            "label": (found["Email_Status"] > 0).astype(int),
            "mail_words": found["Word_Count"],
            "mail_links": found["Total_Links"],
            "mail_images": found["Total_Images"],
            "subject_hotness": found["Subject_Hotness_Score"],
            "mails_sent": found["Total_Past_Communications"],
            "is_campaign": _flag(found["Email_Type"] == 1),
            "source_type": found["Email_Source_Type"],
            "campaign_type": found["Email_Campaign_Type"],
            "part_of_day": found["Time_Email_sent_Category"],
            **places,
        }
    )


def subscribers() -> pd.DataFrame:
    """IBM's made-up telephone company: user, as_of (the same for all: it has no time), label (left), numbers."""
    found = table("telco_churn", "WA_Fn-UseC_-Telco-Customer-Churn.csv.gz")
    found["TotalCharges"] = pd.to_numeric(found["TotalCharges"], errors="coerce")
    return _numbers(found.drop(columns=["customerID", "Churn"]), found["customerID"], found["Churn"] == "Yes")


def shoppers() -> pd.DataFrame:
    """12,330 visits of a shop, without PageValues, which nearly says the answer: as `subscribers`; label: bought."""
    found = table("online_shoppers", "online_shoppers_intention.csv.gz")
    label = found["Revenue"].astype(str).str.upper() == "TRUE"
    return _numbers(found.drop(columns=["Revenue", "PageValues"]), found.index.astype(str).to_series(), label)


def _numbers(found: pd.DataFrame, user: pd.Series, label: pd.Series) -> pd.DataFrame:
    """Texts become one column of 0 and 1 for each value."""
    columns = pd.get_dummies(found, dtype=float).astype(float)
    columns.columns = [re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") for name in columns.columns]
    first = pd.DataFrame({"user": user.to_numpy(), "as_of": MADE_UP, "label": label.astype(int).to_numpy()})
    return pd.concat([first, columns.reset_index(drop=True)], axis=1)


def purchases() -> pd.DataFrame:
    """CDNOW's 69,659 purchases: customer (of the whole set), at, discs, dollars."""
    path = "CDNOW_master.txt.gz"
    found = table("cdnow", path, sep=r"\s+", skiprows=1, names=["customer", "at", "discs", "dollars"], dtype=str)
    at = pd.to_datetime(found["at"], format="%Y%m%d", utc=True) + pd.Timedelta(hours=12)
    return found.assign(at=at, discs=found.discs.astype(int), dollars=found.dollars.astype(float))


def sampled() -> pd.Index:
    """The 2,357 customers of the papers, a tenth of the set: their numbers in the whole set."""
    names = ["customer", "nth", "at", "discs", "dollars"]
    found = table("cdnow", "CDNOW_sample.txt", sep=r"\s+", names=names, dtype=str)
    return pd.Index(found.customer.unique())


def write(bought: pd.DataFrame, path: Path) -> None:
    """Purchases as Segment calls."""
    rows = zip(bought.index, bought.customer, bought["at"], bought.dollars, strict=True)
    path.write_bytes(b"\n".join(msgspec.json.encode(_call(*row)) for row in rows))


def _call(nth: int, customer: str, at: pd.Timestamp, dollars: float) -> dict[str, object]:
    return {
        "type": "track",
        "messageId": f"purchase-{nth}",
        "userId": customer,
        "event": "Order Completed",
        "timestamp": at.isoformat(),
        "properties": {"dollars": dollars},
    }


def absences(bought: pd.DataFrame, at: pd.Timestamp, days: int, customers: pd.Index) -> pd.DataFrame:
    """user, as_of, label: which of those who had bought by `at` bought nothing within so many days after it."""
    known = bought[(bought["at"] <= at) & bought.customer.isin(customers)].customer.unique()
    after = bought[(bought["at"] > at) & (bought["at"] <= at + pd.Timedelta(days=days))].customer
    return pd.DataFrame({"user": known, "as_of": at, "label": (~pd.Index(known).isin(after)).astype(int)})


def histories(bought: pd.DataFrame, customers: pd.Index, at: pd.Timestamp) -> pd.DataFrame:
    """What BG/NBD asks of each: days with repeat purchases `x`, recency `t_x` and age `T`, in weeks, as of `at`."""
    known = bought[bought.customer.isin(customers) & (bought["at"] <= at)]
    days = known.assign(day=known["at"].dt.floor("D")).drop_duplicates(["customer", "day"]).groupby("customer").day
    first, last, end = days.min(), days.max(), at.floor("D")
    return pd.DataFrame(
        {"x": days.count() - 1, "t_x": (last - first).dt.days / 7, "T": (end - first).dt.days / 7}
    ).reindex(customers)
