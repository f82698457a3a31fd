"""One process sends at a time. A lease says which; its generation fences out who held it before."""

from __future__ import annotations

import sqlalchemy as sa

from flows import database
from flows.delivery_tables import sender

LEASE_MS = 15_000
RENEW_MS = 5_000
ROW = 1


class SupersededError(Exception):
    """Another process sends now."""


class HeldError(Exception):
    """Another process sends; its lease runs for a while yet."""


class Sender:
    """`owner`: the same after a kill, so that a process need not wait for its own earlier life."""

    def __init__(self, owner: str) -> None:
        self.owner, self.generation, self.routed, self._until = owner, 0, 0, 0

    def take(self, connection: sa.Connection, now: int) -> None:
        """Makes the lease ours. Raises HeldError while it is somebody else's."""
        first = {"id": ROW, "owner": self.owner, "generation": 0, "until": 0, "routed": 0}
        connection.execute(database.insert(connection, sender).on_conflict_do_nothing(), first)
        row = connection.execute(sa.select(sender)).one()
        if row.owner != self.owner and row.until > now:
            raise HeldError(f"{row.owner} sends what is to be delivered, for {(row.until - now) / 1000:.0f} s at least")
        self.generation, self.routed, self._until = row.generation + 1, row.routed, now + LEASE_MS
        mine = {"owner": self.owner, "generation": self.generation, "until": self._until}
        connection.execute(sender.update().values(mine))

    def due(self, now: int) -> bool:
        """Whether the lease is to be renewed."""
        return now > self._until - LEASE_MS + RENEW_MS

    def hold(self, connection: sa.Connection, now: int) -> None:
        """Renews it. Raises SupersededError when it is no longer ours: then nothing of this transaction counts."""
        self._until = now + LEASE_MS
        renewed = sender.update().where(sender.c.generation == self.generation).values(until=self._until)
        if connection.execute(renewed).rowcount != 1:
            raise SupersededError("another process has taken over what is to be delivered")

    def move(self, connection: sa.Connection, routed: int) -> None:
        """All alerts up to that number are planned."""
        if routed != self.routed:
            connection.execute(sender.update().values(routed=routed))

    def look(self, connection: sa.Connection) -> None:
        """Up to which alert all is planned, as the table has it."""
        self.routed = connection.execute(sa.select(sender.c.routed)).scalar_one()

    def let_go(self, connection: sa.Connection) -> None:
        """Whoever waits may take over at once."""
        connection.execute(sender.update().where(sender.c.generation == self.generation).values(until=0))
