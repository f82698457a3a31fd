"""Who is told of which alerts, and how: an organisation's rules, tried in order."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from flows.alert import Alert, Priority
from flows.kept import Kept, table
from flows.recipients import Pace

Route = Literal["email", "sms", "chat", "webhook", "crm"]
EVERY = "*"  # as a webhook's target: each endpoint that is enabled
_RANKS = {name: rank for rank, name in enumerate(get_args(Priority))}


class To(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One target of a rule: a recipient by a channel, a webhook (`*`: all that are enabled), or a CRM.

    `digest`: at once or in a digest; None: as the recipient wants it.
    """

    channel: Route
    target: str
    digest: Pace | None = None


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Applies where all that it asks holds. `goes_on`: the rules behind it are tried too; else it is the last.

    `through_quiet`: CRITICAL alerts come at once in quiet hours too. `in_app`: it is delivered in the feed too,
    so that it may be worked on there before any message went out.
    """

    id: str
    organisation: str
    name: str
    position: int
    enabled: bool = True
    types: tuple[str, ...] = ()
    priority_at_least: Priority | None = None
    min_score: float | None = None
    to: tuple[To, ...] = ()
    in_app: bool = True
    through_quiet: bool = False
    goes_on: bool = False
    created_at: int = 0
    updated_at: int = 0

    def applies(self, alert: Alert) -> bool:
        least = self.priority_at_least
        return (
            self.enabled
            and (not self.types or alert.type in self.types)
            and (least is None or _RANKS[alert.priority] <= _RANKS[least])
            and (self.min_score is None or alert.score >= self.min_score)
        )


def applying(rules: list[Rule], alert: Alert) -> list[Rule]:
    """Those that decide on the alert, in order; none where nobody said anything about it."""
    found = []
    for rule in sorted(rules, key=lambda rule: rule.position):
        if rule.applies(alert):
            found.append(rule)
            if not rule.goes_on:
                break
    return found


rules = Kept(table("routing_rules"), Rule)
