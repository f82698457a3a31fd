"""`telltale features address`, read as Feast and YAML read it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from feature_repo.settings import Settings
from flows.resp import StoreError
from flows.store import Embedded
from serving.feast_address import feast_address

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast's own


@pytest.fixture(scope="module")
def redis_store() -> Iterator[Any]:
    """Feast's online store, whose parser it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Feast's own
        from feast.infra.online_stores.redis import RedisOnlineStore

        yield RedisOnlineStore


def read(redis_store: Any, address: str) -> tuple[Any, Any]:
    """(host and port, all else), after YAML has had it."""
    import yaml  # type: ignore[import-untyped]  # it ships no types

    (line,) = yaml.safe_load(f"connection_string: {address}").values()
    (node,), more = redis_store._parse_connection_string(line)
    return (node["host"], node["port"]), more


@pytest.mark.parametrize("password", ["plain", "12", "true", "a,b=c", "p:@ #/ä😀", '"\\', "$HOME${HOME}`'", "\\u0041"])
def test_any_password_arrives(redis_store: Any, password: str) -> None:
    """Whatever would mean something to Feast, YAML, JSON or a shell."""
    url = f"rediss://ada:{quote(password, safe='')}@example.com:7000/3"
    node, more = read(redis_store, feast_address(Settings(redis_url=url)))
    assert node == ("example.com", "7000")
    assert more == {"username": "ada", "password": password, "db": 3, "ssl": True}


def test_a_unix_socket_is_named(redis_store: Any) -> None:
    """Feast asks for a host and a port, and its client takes the socket."""
    node, more = read(redis_store, feast_address(Settings(redis_url="unix:///tmp/my.sock")))
    assert (node[0], more) == ("localhost", {"unix_socket_path": "/tmp/my.sock"})


def test_the_embedded_store_is_found_by_its_port(redis_store: Any, valkey: Embedded) -> None:
    """That it takes again at its next start."""
    assert read(redis_store, feast_address(Settings(home=valkey.home))) == (("127.0.0.1", str(valkey.where.port)), {})


def test_without_a_store_there_is_no_address(tmp_path: Path) -> None:
    """And it says how there would be one."""
    with pytest.raises(StoreError, match="start it with `telltale up`"):
        feast_address(Settings(home=tmp_path))
