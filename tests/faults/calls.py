"""Calls of every kind as apps make them: known, late, of the future, unknown, identifying, joining; and bad ones."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.flows.both_sides import VOCABULARY

CHECK = VOCABULARY.event["property_value_check"]
NAMED = [e for e in VOCABULARY.events if e.role != "outcome"] + [CHECK] * 6
USERS, ANONYMOUS = 60, 6
AHEAD_S = 600
Call = dict[str, Any]


class Calls:
    """Random calls about a crowd of `USERS`, in which newcomers take the place of others, one in `newcomers` calls."""

    def __init__(self, dice: random.Random, newcomers: int = 0) -> None:
        self.dice, self._newcomers, self._made = dice, newcomers, 0

    def made(self, message: str) -> Call:
        """A good one."""
        self._made += 1
        age = self.dice.choice([3_600, 40 * 86_400, 95 * 86_400]) * self.dice.random()
        if self.dice.random() < 0.02:  # an app whose clock is ahead, by less than the hour that is let pass
            age = -AHEAD_S * self.dice.random()
        common: Call = {
            "messageId": message,
            "timestamp": (datetime.now(UTC) - timedelta(seconds=age)).isoformat(),
        }
        match self.dice.choices(["track", "anonymous", "identify", "join", "page"], [70, 12, 12, 3, 3])[0]:
            case "track":
                return common | self._who() | self._track(self.dice.choice(NAMED).segment[0])
            case "anonymous":
                return common | {"anonymousId": f"a{self._anonymous()}"} | self._track("Document Viewed")
            case "identify":
                return common | self._who() | {"type": "identify", "traits": self._traits()}
            case "join":
                n = self._anonymous()
                return common | {"type": "identify", "anonymousId": f"a{n}", "userId": f"u{n}"}
            case _:
                return common | self._who() | {"type": "page", "name": "Home"}

    def bad(self, message: str) -> Call:
        """One that must be rejected."""
        call = {"messageId": message, "userId": "u0", "type": "track", "event": "Document Viewed"}
        return call | self.dice.choice(
            [
                {"event": ""},
                {"timestamp": "yesterday"},
                {"timestamp": (datetime.now(UTC) + timedelta(days=2)).isoformat()},
                {"userId": ""},
                {"type": "hum"},
                {"properties": {"padding": "x" * 33_000}},
                {"userId": "x" * 5_000},
            ]
        )

    def _first(self) -> int:
        return self._made // self._newcomers if self._newcomers else 0

    def _who(self) -> Call:
        return {"userId": f"u{self._first() + min(int(self.dice.expovariate(0.1)), USERS - 1)}"}

    def _anonymous(self) -> int:
        return self._first() + self.dice.randrange(ANONYMOUS)

    def _track(self, name: str) -> Call:
        properties = {
            "topic": self.dice.choice(["refinance", "news"]),
            "field": self.dice.choice(["address", "job", "marital_status"]),
            "minutes": round(self.dice.uniform(0, 90), 3),
        }
        return {"type": "track", "event": name if self.dice.random() < 0.95 else "Hat Worn", "properties": properties}

    def _traits(self) -> Call:
        value = float(self.dice.randrange(1, 9))
        told = {
            "property_count": value,
            "property_value": value * 100_000,
            "mortgage_balance": value * 50_000,
            "home_purchase_date": f"20{int(value):02}-05-17",
            "address": f"{value:.0f} Main Street",
        }
        return dict(self.dice.sample(sorted(told.items()), 2))
