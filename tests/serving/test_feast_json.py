"""The quick encoding tells what a plain one would, whatever stands in the store."""

from __future__ import annotations

import json
import math
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.layout import double, integer, read_timestamp_us, read_value, text, timestamp_us
from feature_repo.vocabulary import Vocabulary
from serving.feast_json import answer
from serving.feast_messages import FeaturesRequest
from serving.feast_shape import Row, Shape, Shapes
from serving.feast_value import micros, value

VOCABULARY = Vocabulary()
NOW = 1_772_452_800_123_456
TTL = VOCABULARY.views["user_finances"].ttl_days * 86_400_000_000
NAMES = ["home_value", "mortgage_balance", "credit_enquiries_90d"]

doubles = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1e16, 5e-324, 400_000.0])
numbers = (doubles | st.sampled_from([math.inf, -math.inf])).map(double)
others = st.integers(-(2**63), 2**63 - 1).map(integer) | st.text(max_size=20).map(text)
cells = st.one_of(numbers, numbers, numbers, others, st.sampled_from([None, b"", double(math.nan)]))
moments = st.integers(NOW - 2 * TTL, NOW).map(timestamp_us)
rows = st.one_of(
    st.tuples(moments, *[doubles.map(double)] * 3),
    st.tuples(moments, *[doubles.map(double) | st.sampled_from([None, b""])] * 3),
    st.tuples(moments | st.none(), *[cells] * 3),
    st.just((None,) * 4),
)


def shape(*names: str) -> Shape:
    features = msgspec.Raw(msgspec.json.encode([f"user_finances:{name}" for name in names]))
    return Shapes(VOCABULARY).made(FeaturesRequest(entities={"user_id": ["x"]}, features=features))


SHAPE = shape(*NAMES)


def plainly(row: Row, column: int) -> tuple[Any, str, str]:
    """(value, status, timestamp) of one cell, as one would write it in a minute."""
    stamp, raw = row[0], row[1 + column]
    at = read_timestamp_us(stamp) if stamp is not None else 0
    told = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)).isoformat()
    if stamp is not None and at < NOW - TTL:
        return None, "OUTSIDE_MAX_AGE", told
    if raw is None:
        return None, "NOT_FOUND", told
    found = read_value(raw)
    if isinstance(found, float) and not math.isfinite(found):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(found)], "PRESENT", told
    return found, "PRESENT", told


@settings(max_examples=600, deadline=None, derandomize=True)
@given(st.lists(rows, min_size=1, max_size=6))
def test_it_tells_what_a_plain_encoding_would(found: list[Row]) -> None:
    """Doubles, infinities, integers, texts, nulls, gaps, what has expired and who is not there, in any mixture."""
    told = json.loads(answer(SHAPE, [["x"] * len(found)], [found], NOW))
    for column in range(3):
        result = told["results"][1 + column]
        stamps = [datetime.fromisoformat(stamp).isoformat() for stamp in result["event_timestamps"]]
        expected = [plainly(row, column) for row in found]
        assert repr(result["values"]) == repr([cell[0] for cell in expected])
        assert result["statuses"] == [cell[1] for cell in expected]
        assert stamps == [cell[2] for cell in expected]


@pytest.mark.parametrize("count", [1, 3])
def test_an_order_of_its_own_is_kept(count: int) -> None:
    """Features that a hash read for two views holds apart come as asked."""
    features = ["user_finances:home_value", "user_features:session_count_30d", "user_finances:mortgage_balance"]
    asked = FeaturesRequest(entities={"user_id": ["x"]}, features=msgspec.Raw(msgspec.json.encode(features)))
    mixed = Shapes(VOCABULARY).made(asked)
    at = timestamp_us(NOW)
    row = (at, double(1.0), double(3.0), at, double(2.0))
    told = json.loads(answer(mixed, [["x"] * count], [[row] * count], NOW))
    assert [result["values"] for result in told["results"][1:]] == [[n] * count for n in (1.0, 2.0, 3.0)]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, 253_402_300_799_999_999))
def test_a_timestamp_is_read_as_it_was_written(at: int) -> None:
    """Whether its seconds take five bytes or fewer."""
    assert micros(timestamp_us(at)) == at


@given(st.binary(max_size=30))
def test_no_bytes_are_too_strange(raw: bytes) -> None:
    """A value is JSON, a timestamp a number, whatever somebody wrote into the store."""
    json.loads(value(raw))
    assert isinstance(micros(raw), int)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # seconds beyond every year
        b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # nanoseconds beyond every year
        b"\x08\xff\x82\xd1\xff\xaf\x07\x10\xff\x93\xeb\xdc\x03",  # the end of 9999, rounded up
        b"\x08" + b"\xff" * 100_000 + b"\x01",  # a number without end
    ],
)
def test_a_moment_that_has_no_date_is_none(raw: bytes) -> None:
    """The answer tells 1970, as of what has no timestamp."""
    told = json.loads(answer(SHAPE, [["a"]], [[(raw, *[double(1.0)] * 3)]], NOW))
    assert told["results"][1]["event_timestamps"] == ["1970-01-01T00:00:00Z"]


def test_other_scalars_of_feast_are_read_too() -> None:
    """A Feast client's own schema may have 32 bits or booleans."""
    assert [value(raw) for raw in (b"\x18\x05", b"\x38\x01", b"\x38\x00", b"\x35" + struct.pack("<f", 0.5))] == [
        b"5",
        b"true",
        b"false",
        b"0.5",
    ]
