"""A past as the stream met it: in the log's order, and with what people did before they were known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from feature_repo.vocabulary import Vocabulary
from flows.plan import Plan
from tests.training.made_lake import T0, made_lake
from training.backfill import features
from training.past import Past, past

VOCABULARY = Vocabulary()
HOUR = 3_600_000


def lines(path: Path, *calls: dict[str, Any]) -> Past:
    """A file of these calls; `at` stands for hours."""
    texts = []
    for call in calls:
        moment = np.datetime64(T0 + call.pop("at") * HOUR, "ms")
        texts.append(msgspec.json.encode({**call, "timestamp": f"{moment}Z"}))
    path.write_bytes(b"\n".join(texts))
    return past(path, VOCABULARY)


def opened(of: Past, user: str, *hours: int) -> list[float]:
    """Documents that a user opened, as of each hour."""
    person = np.repeat(of.find(pa.array([user])), len(hours))
    found = features(Plan(VOCABULARY), of.stream, person, T0 + np.array(hours) * HOUR)
    return found[:, VOCABULARY.feature_index["doc_access_count_30d"]].tolist()


def view(at: int, **who: str) -> dict[str, Any]:
    return {"type": "track", "event": "Document Viewed", "at": at, **who}


def test_what_somebody_did_before_they_were_known_counts_from_then(tmp_path: Path) -> None:
    """Events of an anonymous person are the user's from the identify on, and not before; later ones at once."""
    found = lines(
        tmp_path / "h.jsonl",
        view(1, anonymousId="x"),
        view(2, anonymousId="y"),
        {"type": "identify", "userId": "ann", "anonymousId": "x", "at": 5},
        view(7, anonymousId="x"),
    )
    assert opened(found, "ann", 4, 5, 6, 7) == [0, 1, 1, 2]


def test_an_anonymous_person_goes_to_whom_they_were_last_said_to_be(tmp_path: Path) -> None:
    """What came before a second identify stays with the first user, what comes after goes to the second."""
    found = lines(
        tmp_path / "h.jsonl",
        {"type": "identify", "userId": "ann", "anonymousId": "x", "at": 1},
        view(2, anonymousId="x"),
        {"type": "identify", "userId": "bob", "anonymousId": "x", "at": 3},
        view(4, anonymousId="x"),
    )
    assert (opened(found, "ann", 9), opened(found, "bob", 9)) == ([1], [1])


def test_nobody_is_known_of_an_empty_file(tmp_path: Path) -> None:
    """A history without a call has no people, and whoever is asked for is nobody."""
    found = lines(tmp_path / "h.jsonl")
    assert found.stream.people == 0
    assert found.find(pa.array(["ann"])).tolist() == [0]


def test_the_lake_passes_on_what_came_before(tmp_path: Path) -> None:
    """In the lake the log itself says when an anonymous person's history became the user's."""
    lake = made_lake(
        tmp_path,
        {"at": 1 * HOUR, "user": "anon:x", "event": "document_access"},
        {"at": 4 * HOUR, "user": "ann", "type": "absorb", "joined": "main/anon:x", "mid": 0},
        {"at": 5 * HOUR, "user": "anon:x", "event": "document_access"},
        {"at": 6 * HOUR, "user": "ann", "type": "absorb", "joined": "main/anon:x", "mid": 0},
    )
    assert opened(past(lake, VOCABULARY), "main/ann", 3, 4, 5, 6) == [0, 1, 1, 2]


def test_a_message_counts_once_a_partition(tmp_path: Path) -> None:
    """Of a messageId that a partition met again the first counts; in another partition it is another event."""
    again = {"user": "ann", "event": "document_access", "mid": 7}
    lake = made_lake(
        tmp_path, {"at": HOUR, **again}, {"at": 2 * HOUR, **again}, {"at": 3 * HOUR, **again, "partition": 1}
    )
    assert opened(past(lake, VOCABULARY), "main/ann", 1, 2, 3) == [1, 1, 2]


def test_an_empty_lake_knows_nobody(tmp_path: Path) -> None:
    """A lake that has not been written yet is one without people."""
    (tmp_path / "lake").mkdir()
    assert past(tmp_path / "lake", VOCABULARY).stream.people == 0
