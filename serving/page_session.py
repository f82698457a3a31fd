"""Who looks at the page: a write key, given once in a form, stands behind a cookie until its holder signs out.

The cookie holds a random token and nothing else; the store knows the key by the token's digest, and forgets it.
"""

from __future__ import annotations

import hashlib
import secrets
from urllib.parse import urlencode

import msgspec
from starlette.types import Scope

from feature_repo import keys
from feature_repo.settings import Settings
from flows.resp import pack
from serving.auth import Auth
from serving.connection import Client
from serving.errors import ApiError, unauthorised

LIFE_S = 14 * 24 * 3600  # since it was last used
SAFE = ("GET", "HEAD")
ASSETS = "/assets/"
SIGN_IN = "/sign-in"
NO_KEY = "a write key is needed: send it as the user name of Basic auth, or sign in at /"


class Session(msgspec.Struct, frozen=True):
    """`name`: who acts, as they say; empty: the organisation."""

    key: str
    name: str = ""


class Sessions:
    """Finds and keeps them, in the store that all API processes share."""

    def __init__(self, settings: Settings, client: Client, auth: Auth) -> None:
        self.cookie = f"telltale_{settings.port}"  # browsers do not tell ports apart
        self._client, self._auth = client, auth

    async def begin(self, session: Session) -> str:
        """The token of a new one. Raises ApiError 401 for a key that is not known, StoreError."""
        await self._auth.of_key(session.key)
        token = secrets.token_urlsafe(32)
        await self._client.call(pack("SET", _place(token), msgspec.json.encode(session), "EX", LIFE_S))
        return token

    async def end(self, scope: Scope) -> None:
        if token := self._token(scope):
            await self._client.call(pack("DEL", _place(token)))

    async def find(self, scope: Scope) -> Session | None:
        """Of the request's cookie, whose life begins anew."""
        token = self._token(scope)
        if not token:
            return None
        (found,) = await self._client.call(pack("GETEX", _place(token), "EX", LIFE_S))
        return msgspec.json.decode(found, type=Session) if found else None

    async def let_in(self, scope: Scope) -> None:
        """Raises ApiError 401 without a session, 403 for what another site made the browser send; StoreError."""
        if scope["path"] == SIGN_IN or scope["path"].startswith(ASSETS):
            return
        session = await self.find(scope)
        if session is None:
            raise _signed_out() if self._token(scope) else unauthorised(NO_KEY)
        if scope["method"] not in SAFE and not own(scope):
            raise foreign()
        scope["organisation"] = (await self._auth.of_key(session.key)).decode()
        scope["session"] = session

    def _token(self, scope: Scope) -> str:
        for cookie in _header(scope, b"cookie").split(";"):
            name, _, token = cookie.strip().partition("=")
            if name == self.cookie:
                return token
        return ""


def own(scope: Scope) -> bool:
    """Whether a page of ours, and not another site, made the browser send this; other clients say neither."""
    site = _header(scope, b"sec-fetch-site")
    if site:
        return site == "same-origin"
    origin = _header(scope, b"origin")
    return origin.partition("://")[2] == _header(scope, b"host") != ""


def _signed_out() -> ApiError:
    """Without the header that makes a browser ask for a name and a password."""
    return ApiError(401, "this session is over: sign in again", "Cookie")


def foreign() -> ApiError:
    return ApiError(403, "another site made the browser send this: sign in and do it here", "Origin")


def where_to_sign_in(scope: Scope, error: ApiError) -> str:
    """For somebody who came with a browser and no key: where to go first. Empty for all others."""
    asks = scope["method"] in SAFE and "text/html" in _header(scope, b"accept")
    if error.status != 401 or not asks or _header(scope, b"authorization"):
        return ""
    query = scope["query_string"].decode("latin-1")
    wanted = scope["path"] + (f"?{query}" if query else "")
    return SIGN_IN if wanted == "/" else f"{SIGN_IN}?{urlencode({'next': wanted})}"


def secure(scope: Scope) -> bool:
    """Whether the browser came over TLS, to us or to the proxy before us."""
    return "https" in (scope["scheme"], _header(scope, b"x-forwarded-proto"))


def local(path: str) -> str:
    """A path of ours to go on to; what could lead elsewhere becomes `/`."""
    fine = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and "\\" not in path
    return path if fine else "/"


def _header(scope: Scope, name: bytes) -> str:
    return dict(scope["headers"]).get(name, b"").decode("latin-1")


def _place(token: str) -> str:
    return keys.session(hashlib.blake2b(token.encode("latin-1"), digest_size=32).hexdigest())
