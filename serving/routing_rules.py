"""`/v1/routing-rules`: who is told of which alerts, by which way, at once or in a digest."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
import sqlalchemy as sa
from msgspec import Meta
from starlette.requests import Request

from feature_repo.moments import instant
from flows import webhooks
from flows.alert import Priority
from flows.crm import crm_targets
from flows.recipients import PERSONAL, recipients
from flows.routing_rules import EVERY, Rule, To, rules
from serving import api
from serving.errors import ApiError
from serving.kept import Doors, Kind, made_of

MOST, MOST_TARGETS, LAST = 200, 100, 1_000_000


class RuleTold(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Of which alerts, and who is told of them. Rules are tried by `position`; the first that applies decides."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    position: Annotated[int, Meta(ge=0, le=LAST)] = 100
    enabled: bool = True
    types: Annotated[list[str], Meta(max_length=100, description="Alert types; none: all")] = []
    priority_at_least: Annotated[Priority | None, Meta(description="null: any")] = None
    min_score: Annotated[Annotated[float, Meta(ge=0, le=1)] | None, Meta(description="null: any")] = None
    to: Annotated[
        list[To],
        Meta(
            max_length=MOST_TARGETS,
            description="A recipient by `email`, `sms` or `chat`; a `webhook` by its id, or `*` for all; a `crm` by "
            "its id. `digest` null: as the recipient wants it",
        ),
    ] = []
    in_app: Annotated[bool, Meta(description="Shown as delivered in the app before any message went out")] = True
    through_quiet: Annotated[bool, Meta(description="CRITICAL alerts come at once in quiet hours too")] = False
    goes_on: Annotated[bool, Meta(description="The rules behind it are tried too")] = msgspec.field(
        default=False, name="continue"
    )


class ShownRule(RuleTold, kw_only=True):
    """As it was told."""

    id: str
    created_at: datetime
    updated_at: datetime


class RuleList(msgspec.Struct):
    """All of the organisation's, the first made first."""

    rules: list[ShownRule]


def _made(request: Request, sql: sa.Connection, told: RuleTold, old: Rule | None) -> Rule:
    _check_types(request, told.types)
    if not told.to and not told.in_app:
        raise ApiError(422, "expected somebody in `to`, or `in_app`: nobody would be told", "to")
    for to in told.to:
        _check(sql, api.organisation(request), to)
    given = {f: getattr(told, f) for f in RuleTold.__struct_fields__}
    lists = {"types": tuple(told.types), "to": tuple(told.to)}
    return Rule(**(made_of(KIND, request, old) | given | lists))


def _check_types(request: Request, types: list[str]) -> None:
    known = [service.alert for service in api.of(request).vocabulary.services if service.alert]
    for one in types:
        if one not in known:
            raise ApiError(422, f"expected some of {', '.join(known)}, got {one[:100]!r}", "types")


def _check(sql: sa.Connection, organisation: str, to: To) -> None:
    """Raises ApiError 422 for a target that there is not, or that the channel cannot reach."""
    if to.channel in PERSONAL:
        whom = recipients.find(sql, organisation, to.target)
        there = whom is not None and bool(whom.addresses(to.channel))
    elif to.channel == "webhook":
        there = to.target == EVERY or webhooks.find(sql, organisation, to.target) is not None
    else:
        there = crm_targets.find(sql, organisation, to.target) is not None
    if not there:
        raise ApiError(422, f"there is no {to.target[:100]!r} that {to.channel} reaches", "to")
    if to.digest is not None and to.channel not in PERSONAL:
        raise ApiError(422, f"expected a digest to be by one of {', '.join(PERSONAL)}, not {to.channel}", "to")


def _told(one: Rule) -> RuleTold:
    return RuleTold(**_plain(one))


def _shown(one: Rule) -> ShownRule:
    return ShownRule(**_plain(one), id=one.id, created_at=instant(one.created_at), updated_at=instant(one.updated_at))


def _plain(one: Rule) -> dict[str, Any]:
    told = {f: getattr(one, f) for f in RuleTold.__struct_fields__}
    return told | {"types": list(one.types), "to": list(one.to)}


KIND: Kind[Rule] = Kind(
    path="/v1/routing-rules",
    noun="routing rule",
    prefix="rr",
    most=MOST,
    kept=rules,
    takes=RuleTold,
    shows=ShownRule,
    lists=RuleList,
    made=_made,
    told=_told,
    shown=_shown,
)
doors = Doors(KIND)
routes = doors.routes
operations = doors.operations
