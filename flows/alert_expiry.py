"""Alerts of which nothing came end after a while, by the log's time."""

from __future__ import annotations

import logging
import threading

import redis

from feature_repo import keys
from feature_repo.finish import DAY
from feature_repo.settings import Settings
from flows import alert_status, log_time
from flows.alert_store import AlertStore
from flows.database import SQL_DOWN
from flows.resp import StoreError
from flows.running import REDIS_DOWN
from flows.store import Store, open_store

_log = logging.getLogger(__name__)
EVERY_S = 60.0
EVERY_LOG_S = 5.0  # where the log's time comes from events, which may run ahead of the wall's
BATCH = 200  # alerts a transaction, of each status, so that others who write do not wait long
PAUSE_S = 0.05  # between two of them
WHO = "expiry"


class Expiry:
    """Looks once a minute, on a thread of its own, until `stop`. `client` is its own."""

    def __init__(self, client: redis.Redis, alerts: AlertStore, settings: Settings) -> None:
        self._client, self._alerts, self._days = client, alerts, settings.alert_days
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="expiry", daemon=True)

    def start(self) -> None:
        """With `TELLTALE_ALERT_DAYS` 0 nothing expires."""
        if self._days:
            self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(1)

    def _run(self) -> None:
        every = EVERY_LOG_S
        while not self._stopping.wait(every):
            try:
                store = open_store(self._client)
                every = EVERY_S if store.clock == "wall" else EVERY_LOG_S
                self.expire(store)
            except (*SQL_DOWN, *REDIS_DOWN, StoreError) as error:
                _log.warning("nothing expires now, and is tried again: %s", error)

    def expire(self, store: Store) -> int:
        """How many alerts expired; those that are due and more than a batch follow at once."""
        now = log_time.now_ms(self._client, store)
        expired = 0
        while (batch := self._batch(now)) and not self._stopping.wait(PAUSE_S):
            expired += batch
        if expired:
            self._client.publish(keys.ALERTS_MOVED, "")
        return expired

    def _batch(self, now: int) -> int:
        why = f"nothing came of it in {self._days} days"
        with self._alerts.engine.connect() as connection:
            ids = alert_status.due(connection, now - self._days * DAY, BATCH)
        if not ids:
            return 0
        with self._alerts.writing() as connection:
            moved = alert_status.move(connection, ids, "EXPIRED", who=WHO, at=now, why=why)
        return sum(one.new for one in moved)
