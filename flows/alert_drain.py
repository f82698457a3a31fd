"""From the alerts stream to SQL: a small dataflow, `python -m flows.alert_drain`.

An entry leaves the stream only after its row is committed, and a row is stored once by its id: so each alert is
in SQL exactly once, whatever is killed when. While SQL or Redis is down the stream keeps what waits.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import bytewax.operators as op
import msgspec
import redis
import sqlalchemy as sa
from bytewax.dataflow import Dataflow

from feature_repo import keys, settings, vocabulary
from flows import alert as alerts
from flows.alert import Alert
from flows.alert_expiry import Expiry
from flows.alert_store import AlertStore, open_alerts
from flows.database import SQL_DOWN
from flows.explain import Explainer
from flows.running import REDIS_DOWN, Sink, Source, connected, patiently, pause, run, say
from flows.store import StoreError
from onnx_models.library import Library

BATCH = 256  # alerts a commit, at most
BLOCK_MS = 100  # how long a read waits: also how soon a SIGTERM is seen
UNFIT = (sa.exc.IntegrityError, sa.exc.DataError)  # the row's fault, not the database's


class Waiting(msgspec.Struct, frozen=True):
    """One entry of the stream; `alert` is None where it cannot be read."""

    entry: bytes
    body: bytes
    alert: Alert | None = None


def read(item: Waiting) -> Waiting:
    """With the alert decoded."""
    try:
        return msgspec.structs.replace(item, alert=alerts.decode(item.body))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        say(f"alert entry {item.entry.decode()} set aside in {keys.DEAD}: {error}")
        return item


def explained(explain: Explainer) -> Callable[[Waiting], Waiting]:
    def explained_(item: Waiting) -> Waiting:
        if item.alert is None:
            return item
        alert = msgspec.structs.replace(item.alert, reasons=explain.reasons(item.alert))
        return msgspec.structs.replace(item, alert=alert)

    return explained_


def dataflow(client: redis.Redis, store: AlertStore, explain: Explainer) -> Dataflow:
    flow = Dataflow("alert_drain")
    waiting = op.input("waiting", flow, Source(Reader(client).read))  # Waiting
    known = op.map("read", waiting, read)  # Waiting with its alert
    ready = op.map("explain", known, explained(explain))  # ... and its reasons
    op.output("sql", ready, Sink(Writer(client, store).write))
    return flow


class Reader:
    """From the oldest entry on: what is still in the stream is not yet in SQL."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.last = b"0-0"

    def read(self) -> list[Waiting]:
        try:
            found = cast(list[Any], self.client.xread({keys.ALERTS: self.last}, BATCH, BLOCK_MS))
        except REDIS_DOWN as error:
            pause(f"Redis: {error}")
            return []
        entries = found[0][1] if found else []
        self.last = entries[-1][0] if entries else self.last
        return [Waiting(entry, fields.get(b"a", b"")) for entry, fields in entries]


class Writer:
    def __init__(self, client: redis.Redis, store: AlertStore) -> None:
        self.client, self.store = client, store

    def write(self, items: list[Waiting]) -> None:
        """Commit, then take out of the stream and tell. Stops half-way only on SIGTERM, and what was not done waits."""
        unfit = {item.entry for item in items if item.alert is None}
        head = self._insert([item for item in items if item.alert], unfit)
        if head is not None:
            patiently(lambda: self._settle(items, unfit, head), REDIS_DOWN)

    def _insert(self, items: Sequence[Waiting], unfit: set[bytes]) -> int | None:
        """The highest number in SQL, or None when stopped before it was done."""
        now = int(time.time() * 1000)
        found = [item.alert for item in items if item.alert]
        rows = [msgspec.structs.replace(alert, stored_at=now, status_at=alert.scored_at) for alert in found]
        try:
            return patiently(lambda: self.store.insert(rows), SQL_DOWN)
        except UNFIT as error:
            if len(items) > 1:
                heads = [self._insert([item], unfit) for item in items]
                return None if None in heads else max(head for head in heads if head is not None)
            say(f"alert {rows[0].id} set aside in {keys.DEAD}: {error}")
            unfit.add(items[0].entry)
            return self.store.head()

    def _settle(self, items: Sequence[Waiting], unfit: set[bytes], head: int) -> bool:
        with self.client.pipeline(transaction=True) as pipe:
            for item in items:
                if item.entry in unfit:
                    pipe.xadd(keys.DEAD, {"from": keys.ALERTS, "id": item.entry, "a": item.body})
            pipe.xdel(keys.ALERTS, *(item.entry for item in items))
            pipe.publish(keys.ALERTS_STORED, head)
            pipe.execute()
        return True


def main() -> int:
    given = settings.load()
    try:
        client = connected(given)
    except StoreError as error:
        say(str(error))
        return 1
    store = patiently(lambda: open_alerts(given), SQL_DOWN)
    if store is not None:
        explain = Explainer(vocabulary.load(given.feature_repo), Library.of(given))
        explain.warm()
        expiry = Expiry(connected(given), store, given)
        expiry.start()
        run(dataflow(client, store, explain))
        expiry.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
