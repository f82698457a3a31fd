"""An engine that stops for a while, and wakes when another has its partitions."""

from __future__ import annotations

import signal
from contextlib import closing

from feature_repo.settings import Settings
from flows.store import Embedded, connect, create
from tests.faults.engines import engine, opened, post, until_counted, until_shared
from tests.flows import streams_made as made


def test_engine_that_wakes_late_begins_anew(valkey: Embedded, settings: Settings) -> None:
    """Whoever was stopped in the middle changes nothing afterwards, says why, and works its share again."""
    with closing(connect(settings)) as client:
        client.flushall()
        store = create(client, settings)
        with engine(settings) as stalled:
            post(client, store, 500, 0)
            until_counted(client, store)
            stalled.send_signal(signal.SIGSTOP)
            post(client, store, 500, 1)
            with engine(settings):
                until_counted(client, store)
                stalled.send_signal(signal.SIGCONT)
                post(client, store, 500, 2)
                until_shared(client, store, 2)
                post(client, store, 500, 3)
                until_counted(client, store)
                assert stalled.poll() is None
        assert {opened(client, f"u{i}") for i in range(500)} == {4}
        assert made.counts(client, store) == {"accepted": 2000, "processed": 2000}
        said = (settings.home / "engine.log").read_text().splitlines()
        assert any("partition" in line and "trying again" in line for line in said if "WARNING" in line)
