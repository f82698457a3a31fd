"""`/v1/crm`: where score, confidence and explanation are written back to the records of people."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
import sqlalchemy as sa
from msgspec import Meta
from starlette.requests import Request

from feature_repo.moments import instant
from feature_repo.networks import networks
from flows import delivery_list
from flows.addresses import MOST_URL, RefusedError, check_url
from flows.crm import CRM, FIELDS, PLACES, USUAL, CrmTarget, Field, Method, crm_targets
from flows.delivery import wall_ms
from flows.delivery_list import Which
from flows.routing_rules import rules
from serving import api
from serving.errors import ApiError
from serving.kept import Doors, Kind, made_of

MOST = 100
OURS = {"host", "content-length", "transfer-encoding", "connection", "idempotency-key", "te", "upgrade", "trailer"}
MASK = "…"
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")  # RFC 9110's name of a header
_PLACE = re.compile(r"[{}]")


class CrmTold(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A CRM: the address of a person's record, and which of our fields go where in what is sent there."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    url: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=MOST_URL,
            description=f"https://, to a public address; {', '.join('`{' + p + '}`' for p in PLACES)} stand for ours",
            examples=["https://crm.example.com/contacts/{user}"],
        ),
    ]
    method: Method = "PATCH"
    headers: Annotated[
        dict[str, Annotated[str, Meta(max_length=4_096)]], Meta(max_length=20, description="As `Authorization`")
    ] = {}
    fields: Annotated[
        dict[Field, Annotated[str, Meta(max_length=500)]],
        Meta(
            description=f"Field -> JSON pointer of where it goes. Fields: {', '.join(FIELDS)}",
            extra_json_schema={"propertyNames": {"enum": list(FIELDS)}},
        ),
    ] = msgspec.field(default_factory=lambda: dict(USUAL))
    constants: Annotated[
        dict[Annotated[str, Meta(max_length=500)], Any],
        Meta(max_length=100, description="JSON pointer -> what always stands there"),
    ] = {}
    enabled: bool = True


class ShownCrm(CrmTold, kw_only=True):
    """With the values of `headers` masked: they hold secrets."""

    id: str
    created_at: datetime
    updated_at: datetime


class CrmList(msgspec.Struct):
    """All of the organisation's, the first made first."""

    crm: list[ShownCrm]


def _made(request: Request, sql: sa.Connection, told: CrmTold, old: CrmTarget | None) -> CrmTarget:
    _check_url(request, told.url)
    headers = _headers(told, old)
    _check_headers(headers)
    given = {f: getattr(told, f) for f in CrmTold.__struct_fields__}
    made = CrmTarget(**(made_of(KIND, request, old) | given | {"headers": headers}))
    try:
        made.written(dict.fromkeys(FIELDS, 0) | {"reasons": []})
    except ValueError as error:
        raise ApiError(422, str(error), "fields") from None
    return made


def _check_url(request: Request, url: str) -> None:
    """Raises ApiError 422. What stands for ours may not choose the host."""
    plain = url
    for place in PLACES:
        plain = plain.replace(f"{{{place}}}", "x")
    if _PLACE.search(plain) or _PLACE.search(urlsplit(url).netloc):
        raise ApiError(422, f"expected {', '.join('{' + p + '}' for p in PLACES)} behind the host alone", "url")
    try:
        check_url(plain, networks(api.of(request).settings.webhook_allow))
    except RefusedError as error:
        raise ApiError(422, str(error), "url") from None


def _headers(told: CrmTold, old: CrmTarget | None) -> dict[str, str]:
    """What is masked stays as it is, at the same host alone: no secret is sent elsewhere by whoever may not see it.

    Raises ApiError 422.
    """
    kept = old.headers if old else {}
    same = old is not None and urlsplit(old.url)[:2] == urlsplit(told.url)[:2]
    hidden = {name for name, value in told.headers.items() if value == MASK}
    if hidden and (not same or not hidden <= kept.keys()):
        raise ApiError(422, f"expected the value of {min(hidden)} again, since the host is another one", "headers")
    return {name: kept[name] if name in hidden else value for name, value in told.headers.items()}


def _check_headers(headers: dict[str, str]) -> None:
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or name.lower() in OURS:
            raise ApiError(422, f"{name[:100]!r} is no header that can be set", "headers")
        if not value.isascii() or not value.isprintable() or value != value.strip():
            raise ApiError(422, f"expected the value of {name} in printable ASCII, without blanks around it", "headers")


def _told(one: CrmTarget) -> CrmTold:
    return CrmTold(**_masked(one))


def _shown(one: CrmTarget) -> ShownCrm:
    return ShownCrm(**_masked(one), id=one.id, created_at=instant(one.created_at), updated_at=instant(one.updated_at))


def _masked(one: CrmTarget) -> dict[str, Any]:
    told = {f: getattr(one, f) for f in CrmTold.__struct_fields__}
    return told | {"headers": dict.fromkeys(one.headers, MASK)}


def _leaves(sql: sa.Connection, one: CrmTarget) -> None:
    """What waits for it is cancelled. Raises ApiError 409 while a rule names it."""
    naming = [rule.id for rule in rules.all(sql, one.organisation) if one.id in {to.target for to in rule.to}]
    if naming:
        raise ApiError(409, f"these routing rules name it: {', '.join(naming)}; change those first", "id")
    which = Which(organisation=one.organisation, channel=CRM, target=one.id)
    delivery_list.cancel(sql, which, "the CRM was removed", wall_ms())


KIND: Kind[CrmTarget] = Kind(
    path="/v1/crm",
    noun="CRM",
    prefix="crm",
    most=MOST,
    kept=crm_targets,
    takes=CrmTold,
    shows=ShownCrm,
    lists=CrmList,
    made=_made,
    told=_told,
    shown=_shown,
    leaves=_leaves,
)
doors = Doors(KIND)
routes = doors.routes
operations = doors.operations
