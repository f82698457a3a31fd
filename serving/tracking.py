"""Where the links in messages lead: a pixel, a redirect to our own pages, and the end of a subscription. Open to all.

A token says what it is for, signed (`flows/links.py`), so nobody follows one that we did not write, or out of here.
"""

from __future__ import annotations

import base64
import logging
import time
from html import escape

import msgspec
import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from feature_repo.settings import SettingError
from flows import delivery_list, post, tracking
from flows.delivery import wall_ms
from flows.delivery_list import Which
from flows.links import Kind, Links, Said
from flows.recipients import PERSONAL, Personal, Recipient, recipients
from flows.tracking import Seen
from serving import alerts, api
from serving.body import headers_of, read_body
from serving.docs_page import STYLE
from serving.errors import ApiError, unavailable

log = logging.getLogger("telltale.api")

PIXEL = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")  # one transparent point
BODY_BYTES = 4_096
AGAIN_S, REMEMBERED = 1.0, 10_000  # a link that is fetched again so soon counts once
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}
POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
WAYS = {"email": "mail", "sms": "SMS", "chat": "chat message"}


async def pixel(request: Request) -> Response:
    """Always the same picture: nobody learns from it whether the token was good."""
    said = await _said(request, "open")
    if said is not None:
        await _see(request, said.delivery, "open")
    return Response(PIXEL, headers=HEADERS, media_type="image/gif")


async def click(request: Request) -> Response:
    said, links = await _said(request, "click"), await links_of(request)
    if said is None:
        raise ApiError(404, "there is no such link", "path")
    await _see(request, said.delivery, "click")
    return RedirectResponse(links.plain(said.path), 302, HEADERS)


async def ask(request: Request) -> Response:
    """A page with a button: a link alone, which robots follow, ends nothing."""
    channel, whom = await _whom(request)
    if channel in whom.unsubscribed:
        return _page("You get no more of these.", "Tell me again", "again")
    return _page(f"No more alerts to {whom.name} by {WAYS[channel]}?", "Unsubscribe", "off")


async def unsubscribe(request: Request) -> Response:
    """By the button, or by a mail program with one click (RFC 8058)."""
    channel, whom = await _whom(request)
    body = await read_body(headers_of(request.scope), request.receive, BODY_BYTES)
    again = body == b"do=again"

    def change(sql: sa.Connection) -> None:
        def switched(one: Recipient) -> Recipient:
            off = [name for name in one.unsubscribed if name != channel]
            return msgspec.structs.replace(one, unsubscribed=tuple(off if again else [*off, channel]))

        recipients.change(sql, whom.organisation, whom.id, switched)
        for target in () if again else whom.targets(channel):
            which = Which(organisation=whom.organisation, channel=channel, target=target)
            delivery_list.cancel(sql, which, "unsubscribed", wall_ms())

    await alerts.of(request).shelf.write(change)
    if again:
        return _page("You are told again.", "Unsubscribe", "off")
    return _page("You get no more of these.", "Tell me again", "again")


async def links_of(request: Request) -> Links:
    """Made once a process. Raises ApiError 503 while SQL is down."""
    state, settings = request.app.state, api.of(request).settings
    if getattr(state, "links", None) is None:
        try:
            state.links = await alerts.of(request).shelf.ask(lambda store: post.links(settings, store.engine))
        except SettingError as error:
            raise unavailable(str(error)) from None
    return state.links


async def _said(request: Request, *kinds: Kind) -> Said | None:
    return (await links_of(request)).read(request.path_params["token"], *kinds)


async def _see(request: Request, delivery: str, what: Seen) -> None:
    """Written down unless SQL is down: what is looked at comes first."""
    if not api.of(request).settings.tracking:
        return
    machine = tracking.is_machine(request.method, dict(request.headers))
    if _again(request, f"{what} {machine} {delivery}"):
        return
    try:
        await alerts.of(request).shelf.write(lambda sql: tracking.see(sql, delivery, what, wall_ms(), machine=machine))
    except ApiError as error:
        log.warning("an %s of %s is not counted: %s", what, delivery, error.detail)


def _again(request: Request, seen: str) -> bool:
    """Whether it was seen a moment ago, here: nobody keeps SQL busy with one link."""
    now, state = time.monotonic(), request.app.state
    if not hasattr(state, "links_seen"):
        state.links_seen = {}
    latest: dict[str, float] = state.links_seen
    again = now - latest.get(seen, -AGAIN_S) < AGAIN_S
    if not again:
        latest[seen] = now
        if len(latest) > REMEMBERED:
            latest.pop(next(iter(latest)))
    return again


async def _whom(request: Request) -> tuple[Personal, Recipient]:
    """Raises ApiError 404."""
    said = await _said(request, "unsubscribe")
    told, _, id_ = said.path.partition("/") if said else ("", "", "")
    found = await alerts.of(request).shelf.read(lambda sql: recipients.of_ids(sql, [id_])) if id_ else []
    channel = next((name for name in PERSONAL if name == told), None)
    if not found or channel is None:
        raise ApiError(404, "there is nothing to unsubscribe from here", "path")
    return channel, found[0]


def _page(says: str, button: str, do: str) -> Response:
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Alerts</title><style>{STYLE}</style></head><body><main><h1>{escape(says)}</h1>"
        f'<form method="post"><button name="do" value="{do}">{escape(button)}</button></form></main></body></html>'
    )
    return HTMLResponse(html, headers=HEADERS | {"Content-Security-Policy": POLICY})


routes = [
    Route("/t/{token}.gif", pixel),
    Route("/c/{token}", click),
    Route("/u/{token}", ask),
    Route("/u/{token}", unsubscribe, methods=["POST"]),
]
