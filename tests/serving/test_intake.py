"""From a call to columns, without HTTP or a store."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.vocabulary import Vocabulary
from flows.store import Store
from serving.append import Group
from serving.intake import MAX_LISTED, MAX_NAMES, Intake, Rejected, Sender, with_field
from serving.messages import Track, call_decoder

NOW = 1_700_000_000_000
VOCABULARY = Vocabulary()


def intake(clock: str = "wall") -> Intake:
    return Intake(VOCABULARY, Store(4, clock, 7))  # type: ignore[arg-type]  # wall or log


def sender(group: Group) -> Sender:
    return Sender(b"org", NOW, group)


def test_unknown_names_are_counted_up_to_a_bound() -> None:
    """Whatever somebody sends, the list in the store and the names in memory stay small."""
    taken, group = intake(), Group()
    for i in range(MAX_NAMES + 10):
        assert taken.take(Track(userId="u", event=f"made up {i}"), b"{}", sender(group)) == f"made up {i}"
    assert len(group.unknown) == MAX_LISTED
    assert len(taken._plans) <= MAX_NAMES


def test_what_is_rejected_leaves_nothing_behind() -> None:
    """No row, no trait, no join."""
    taken, group = intake(), Group()
    for text in (
        b'{"type":"identify","userId":"u","anonymousId":"\\u0007","traits":{"property_count":1}}',
        b'{"type":"identify","userId":"u","anonymousId":"a","traits":{"home_purchase_date":"soon"}}',
        b'{"type":"track","userId":"u","event":"session","properties":{"minutes":-1}}',
        b'{"type":"track","event":"session"}',
    ):
        with pytest.raises(Rejected):
            taken.take(call_decoder.decode(text), text, sender(group))
    assert group.drafts == {}


@given(error=st.integers(-(10**12), 10**11), delay=st.integers(0, 10**9))
def test_however_wrong_the_senders_clock_is_the_delay_counts(error: int, delay: int) -> None:
    """Only the difference between sentAt and timestamp matters."""
    sent = datetime.fromtimestamp((NOW + error) / 1000, UTC)
    happened = datetime.fromtimestamp((NOW + error - delay) / 1000, UTC)
    taken, group = intake(), Group()
    taken.take(Track(userId="u", event="session", timestamp=happened, sentAt=sent), b"{}", sender(group))
    (draft,) = group.drafts.values()
    assert abs(draft.ts[0] - (NOW - delay)) <= 1


def test_on_event_time_the_told_time_is_the_truth() -> None:
    """sentAt corrects nothing, and the past is welcome."""
    taken, group = intake("log"), Group()
    then = datetime(1999, 1, 1, tzinfo=UTC)
    taken.take(Track(userId="u", event="session", timestamp=then, sentAt=datetime.now(UTC)), b"{}", sender(group))
    (draft,) = group.drafts.values()
    assert draft.ts == [then.timestamp() * 1000]


@given(raw=st.dictionaries(st.text(), st.integers(), min_size=1), value=st.text())
def test_a_member_is_added_in_front(raw: dict[str, int], value: str) -> None:
    found = msgspec.json.decode(with_field(msgspec.json.encode(raw), "type", value))
    assert found == {"type": value, **raw}


def test_the_hot_path_is_cheap() -> None:
    """Decoding and placing an event costs microseconds, not tens of them."""
    text = (
        b'{"type":"track","userId":"u1","event":"Document Viewed","messageId":"m","timestamp":"2023-11-14T00:00:00Z"}'
    )
    taken, group, began = intake(), Group(), time.process_time()
    for _ in range(20_000):
        taken.take(call_decoder.decode(text), text, sender(group))
    assert (time.process_time() - began) / 20_000 < 40e-6
