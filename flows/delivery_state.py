"""Where a delivery stands."""

from __future__ import annotations

from typing import Literal, get_args

State = Literal["WAITING", "ACTIVE", "DONE", "DEAD", "FOLDED", "CANCELLED"]
STATES: tuple[State, ...] = get_args(State)
