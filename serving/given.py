"""What a request brings in its body, as a typed message."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from starlette.requests import Request

from serving.body import read_json
from serving.errors import ApiError, located
from serving.openapi import Parameter

T = TypeVar("T")
PERSON = Parameter("id", "the userId; `anon:` and the anonymousId for somebody not yet known by name", where="path")
ERRORS = {
    413: "too large",
    415: "another type or compression of content",
    422: "what cannot be read; `field` names it",
}


async def given(request: Request, kind: type[T], most: int) -> T:
    """The body as `kind`; none at all is as `{}`. Raises ApiError 413, 415 or 422, and Gone."""
    body = await read_json(dict(request.scope["headers"]), request.receive, most)
    return decoded(body or b"{}", kind)


def decoded(body: bytes, kind: type[T]) -> T:
    """Raises ApiError 422, which names the field."""
    try:
        return msgspec.json.decode(body, type=kind)
    except RecursionError:
        raise ApiError(422, "nested too deep", "body") from None
    except UnicodeDecodeError as error:
        raise ApiError(422, f"expected UTF-8: {error.reason} at byte {error.start}", "body") from None
    except msgspec.MsgspecError as error:
        field, detail = located(error)
        raise ApiError(422, detail, field) from None
