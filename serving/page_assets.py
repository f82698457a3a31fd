"""`/assets`: the style and the scripts of the page, ours alone, read once."""

from __future__ import annotations

import hashlib
from functools import cache

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.errors import ApiError
from serving.page import HEADERS, PAGES
from serving.page_session import ASSETS

KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Asset(msgspec.Struct, frozen=True):
    body: bytes
    kind: str
    tag: str


@cache
def assets() -> dict[str, Asset]:
    """By file name."""
    return {
        path.name: Asset(body := path.read_bytes(), KINDS[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:16]}"')
        for path in sorted(PAGES.iterdir())
        if path.suffix in KINDS
    }


async def asset(request: Request) -> Response:
    found = assets().get(request.path_params["name"])
    if found is None:
        raise ApiError(404, f"there is no {request.url.path[:200]}", "path")
    headers = HEADERS | {"Cache-Control": "no-cache", "ETag": found.tag}
    if request.headers.get("if-none-match") == found.tag:
        return Response(status_code=304, headers=headers)
    return Response(found.body, headers=headers, media_type=found.kind)


routes = [Route(f"{ASSETS}{{name}}", asset)]
