"""What the lake and `telltale consistency` found stands on /metrics."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from feature_repo import keys
from flows.store import connect
from serving.metrics_read import values
from tests.live import Live


@pytest.fixture
def said(api: Live) -> Iterator[redis.Redis]:
    """A client of the API's store, which forgets what the test says in another's name."""
    client = connect(api.settings)
    yield client
    client.delete(keys.LAKE, keys.CONSISTENCY, keys.served_dropped(1))
    client.close()


def shown(api: Live) -> str:
    return api.ask("GET", "/metrics").body.decode()


def test_consistency_is_shown_once_it_ran(api: Live, said: redis.Redis) -> None:
    """Nothing before; then the share that differs, with the rows that it is of."""
    assert "telltale_consistency" not in shown(api)
    said.hset(keys.CONSISTENCY, mapping={"at_seconds": 1.5, "rows": 400, "rows_differing": 1, "share": 0.0025})
    text = shown(api)
    assert values(text, "telltale_consistency_share") == [0.0025]
    assert values(text, "telltale_consistency_rows") == [400.0]


def test_what_the_lake_dropped_or_removed_is_shown(api: Live, said: redis.Redis) -> None:
    """Served rows that nobody came for, by partition, and dates that are over."""
    said.set(keys.served_dropped(1), 7)
    said.hset(keys.LAKE, "dates_removed_total", 3)
    text = shown(api)
    assert values(text, "telltale_served_dropped_total") == [0.0, 7.0, 0.0, 0.0]
    assert values(text, "telltale_lake_dates_removed_total") == [3.0]
