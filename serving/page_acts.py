"""What is done to alerts from the page, to one or to all that are ticked: acknowledge, dismiss, tell the outcome."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.errors import ApiError
from serving.page import Form, actor, form, go, page, reader, shown
from serving.page_ask import ask, tell
from serving.page_session import local
from serving.page_words import quoted, words

OUTCOMES = (("TRUE_POSITIVE", "Yes, it came about"), ("FALSE_POSITIVE", "No, it did not"))
WITHHELD = (("FALSE_NEGATIVE", "Yes, though nobody was told"), ("TRUE_NEGATIVE", "No"))
TEXTS = ("type", "at", "feedback", "notes")


async def dismissing(request: Request) -> Response:
    """The form that asks why."""
    return page(request, "dismiss.html", **await _chosen(request))


async def telling(request: Request) -> Response:
    """The form that asks what came of it."""
    chosen = await _chosen(request)
    outcomes = WITHHELD if chosen["alert"] and chosen["alert"]["withheld"] else OUTCOMES
    return page(request, "outcome.html", outcomes=outcomes, **chosen)


async def tell_outcome(request: Request) -> Response:
    """Records the outcome of all `ids`."""
    given = await form(request)
    fields, ids = dict(given), _ids(given)
    _some(ids)
    message: dict[str, Any] = {name: fields[name].strip() for name in TEXTS if fields.get(name, "").strip()}
    message |= {"ids": ids, "outcome": fields.get("outcome", ""), "converted": "converted" in fields}
    if value := fields.get("value", "").strip():
        message["value"] = _number(value)
    if who := actor(request):
        message["by"] = who
    told = await tell(request, "POST", "/v1/alerts/outcome", message)
    await _mark(request, ids)
    return _back(fields, "outcome", told["results"])


def _number(text: str) -> float:
    """As people write it: `350,000`."""
    try:
        return float(text.replace(",", "").replace(" ", ""))
    except ValueError:
        raise ApiError(422, f"expected a number as what it was worth, got {text[:100]!r}", "value") from None


async def act(request: Request) -> Response:
    """Moves alerts: `one` is a status and an id, `do` a status for all `ids`."""
    given = await form(request)
    fields, ids = dict(given), _ids(given)
    if "one" in fields:
        fields["do"], _, only = fields["one"].partition(" ")
        ids = [only]
    _some(ids)
    message = {"ids": ids, "status": fields.get("do", ""), "by": actor(request), "why": fields.get("why") or None}
    told = await tell(request, "PATCH", "/v1/alerts/status", {k: v for k, v in message.items() if v is not None})
    await _mark(request, ids)
    return _back(fields, fields["do"], told["results"])


async def read(request: Request) -> Response:
    """All that there is by now has been read."""
    fields = dict(await form(request))
    await tell(request, "POST", "/v1/alerts/read-all", {"by": reader(request)})
    return go(local(fields.get("back", "/")))


async def _mark(request: Request, ids: list[str]) -> None:
    """Who acts on alerts has read them."""
    await tell(request, "POST", "/v1/alerts/read", {"ids": ids, "by": reader(request)})


def _back(fields: dict[str, str], did: str, results: list[dict[str, Any]]) -> Response:
    """To where somebody came from, which says how many it was done to."""
    done = sum(bool(one["done"]) for one in results)
    place = urlsplit(local(fields.get("back", "/")))
    kept = [(name, value) for name, value in parse_qsl(place.query) if name != "said"]
    return go(f"{place.path}?{urlencode([*kept, ('said', f'{did}.{done}.{len(results)}')])}")


async def _chosen(request: Request) -> dict[str, Any]:
    """For a form about the alerts that are ticked. Raises ApiError 400 where none is, 404."""
    ids = request.query_params.getlist("ids")
    _some(ids)
    alert = await ask(request, f"/v1/alerts/{quoted(ids[0])}") if len(ids) == 1 else None
    subject = f"{words(alert['type'])}: {alert['user']}" if alert else ""
    return {"ids": ids, "alert": alert, "subject": subject, "back": local(request.query_params.get("back", "/"))}


def _ids(given: Form) -> list[str]:
    return [value for name, value in given if name == "ids"]


def _some(ids: list[str]) -> None:
    if not ids:
        raise ApiError(400, "no alert is ticked: tick those that are meant first", "ids")


routes = [
    Route("/alerts/dismiss", shown(dismissing)),
    Route("/alerts/outcome", shown(telling)),
    Route("/alerts/act", shown(act), methods=["POST"]),
    Route("/alerts/read", shown(read), methods=["POST"]),
    Route("/alerts/outcome", shown(tell_outcome), methods=["POST"]),
]
