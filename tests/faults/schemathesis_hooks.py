"""What schemathesis is told of our API that no schema can say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import schemathesis
from hypothesis import strategies as st

# A moment of an event is held against now, and corrected by when it was sent: at most an hour ahead, and after 1970.
NOW = datetime.now(UTC)
MOMENTS = st.integers(0, 1_200_000).map(lambda ms: (NOW - timedelta(milliseconds=ms)).isoformat())
schemathesis.openapi.format("date-time", MOMENTS)


HISTORY = "X-Telltale-History"


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Whole numbers are sent as such: to JSON Schema 22.0 is an integer, to us, who take 22 for an id, it is none."""
    return _whole(body)


@schemathesis.hook
def map_headers(context: Any, headers: Any) -> Any:
    """A store of the wall clock takes no history: 400, as documented."""
    return {name: "0" if (name, value) == (HISTORY, "1") else value for name, value in (headers or {}).items()}


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
    return [_whole(one) for one in value] if isinstance(value, list) else value
