"""How far a client of the live feed has come: the ids of its events."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from serving.query import WHOLE


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
    try:
        numbers = msgspec.convert(text.split("."), list[WHOLE], strict=False)
    except msgspec.ValidationError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise ValueError("expected the id of an event, as `17` or `17.4`")
    return Reached(numbers[0], numbers[1] if len(numbers) > 1 else None)
