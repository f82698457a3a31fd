"""Who may train and deploy models: they score for every organisation, so a write key alone does not."""

from __future__ import annotations

from starlette.requests import Request

from feature_repo import keys
from flows.resp import StoreError, pack
from serving import api
from serving.auth import basic_user
from serving.errors import ApiError, unavailable

FORBIDDEN = {403: "the key is no administrator's: `telltale keys make NAME --admin` makes one"}


async def administrator(request: Request) -> str:
    """The organisation of an administrator's key. Raises ApiError 403 for any other, 503."""
    header = request.headers.get("authorization", "")
    key = basic_user(header.encode("latin-1")) if header else ""
    try:
        (found,) = await api.of(request).client.call(pack("SISMEMBER", keys.ADMINS, key.encode()))
    except StoreError as error:
        raise unavailable(f"keys cannot be looked up: {error}") from error
    if not found:
        raise ApiError(
            403, "a model scores for every organisation: it takes a key of `telltale keys make NAME --admin`"
        )
    return api.organisation(request)
