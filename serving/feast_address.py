"""Where a Feast client finds the store: a `connection_string` for `online_store: redis`."""

from __future__ import annotations

import json
import re

from feature_repo.settings import Settings
from flows.embedded import where
from flows.resp import Address
from flows.store import address


def feast_address(settings: Settings) -> str:
    """`host:port` and, after commas, what else it takes. Raises StoreError where there is no store.

    Source: feast/infra/online_stores/redis.py, `_parse_connection_string`, which reads values as JSON if it can.
    """
    at = address(settings)
    if not settings.redis_url and (found := where(settings.home)):
        at = Address(host="127.0.0.1", port=found.port)  # the embedded one listens here as well as on its socket
    more = {"unix_socket_path": at.path, "username": at.username, "password": at.password}
    words = [f"{name}={_quoted(value)}" for name, value in more.items() if value]
    words += [f"db={at.db}"] if at.db else []
    words += ["ssl=true"] if at.tls else []
    return ",".join([f"{at.host or 'localhost'}:{at.port}", *words])


def _quoted(value: str) -> str:
    """As a JSON string of no character that Feast, YAML or a shell would take for its own, unless it is plain."""
    if re.fullmatch(r"[A-Za-z_/][A-Za-z0-9_./-]*", value) and value not in {"true", "false", "null", "NaN", "Infinity"}:
        return value
    return '"' + re.sub(r"[^A-Za-z0-9_./-]", _escaped, value) + '"'


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}" if found[0].isascii() else json.dumps(found[0])[1:-1]
