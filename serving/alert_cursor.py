"""How far a client of the live feed has come: the ids of its events."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from msgspec import Meta

from serving.query import value

EVENT = Annotated[str, Meta(pattern=r"^[0-9]{1,18}(\.[0-9]{1,18})?$")]
_read = value(EVENT, "the id of an event, as `17` or `17.4`")


class Head(NamedTuple):
    """Numbers of the last alert, and of the last step of any alert."""

    alerts: int
    changes: int


class Reached(NamedTuple):
    """What a client has. `changes` None: it wants no steps."""

    alerts: int
    changes: int | None

    def within(self, head: Head) -> bool:
        return self.alerts <= head.alerts and (self.changes is None or self.changes <= head.changes)

    def lacks(self, head: Head) -> bool:
        """Whether there is more for it."""
        return self.alerts < head.alerts or (self.changes is not None and self.changes < head.changes)

    @property
    def id(self) -> bytes:
        """Of the event that leads there."""
        return str(self.alerts).encode() if self.changes is None else b"%d.%d" % (self.alerts, self.changes)


def cursor(text: str) -> Reached:
    """From an event's id, `ALERTS` or `ALERTS.CHANGES`. Raises ValueError that says what is expected."""
    alerts, _, changes = _read(text).partition(".")
    return Reached(int(alerts), int(changes) if changes else None)
