"""An organisation of a test's own, whose alerts are stored and delivered as in earnest, and a browser's way in."""

from __future__ import annotations

import html
import http.client
import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlencode

import pytest
import redis

from feature_repo import keys
from flows import alert_status
from flows.alert import Alert, Status, alert_id
from flows.alert_store import AlertStore, open_alerts
from flows.store import connect
from tests.flows.made_alerts import alert
from tests.live import Answer, Live

FORM = "application/x-www-form-urlencoded"


class Desk:
    """`key` opens it; alerts are put on it with `add`."""

    def __init__(self, api: Live, name: str) -> None:
        name = name.replace("/", " ")
        self.api, self.key, self.organisation = api, f"key of {name}", f"of {name}"
        self.store: AlertStore = open_alerts(api.settings)
        self.client: redis.Redis = connect(api.settings)
        self.client.hset(keys.KEYS, self.key, self.organisation)

    def add(self, *numbers: int, **changes: Any) -> list[Alert]:
        """Alerts of users u1, u2, ..., by default delivered."""
        made = [self._made(n, **changes) for n in numbers]
        self.store.insert(made)
        self.move([one.id for one in made], "DELIVERED", who="in-app")
        self.told()
        return made

    def told(self) -> None:
        """Those who listen look."""
        self.client.publish(keys.ALERTS_STORED, 0)

    def _made(self, n: int, **changes: Any) -> Alert:
        changes = {"organisation": self.organisation, "user": f"u{n}"} | changes
        return alert(n, **changes, id=alert_id(self.organisation, f"u{n}", "LIKELY_TO_SELL", f"{n}-0"))

    def move(self, ids: list[str], to: Status, who: str) -> None:
        with self.store.engine.begin() as connection:
            alert_status.move(connection, ids, to, who=who, at=2_000)

    def status(self, one: Alert) -> str:
        found = self.store.find(one.id)
        assert found is not None
        return found.status

    def close(self) -> None:
        self.store.close()
        self.client.close()


class Browser:
    """What a browser does without script: it keeps a cookie, says where a form stood, and does not follow."""

    def __init__(self, api: Live) -> None:
        self.api, self.cookie = api, ""

    def get(self, path: str, **headers: str) -> Answer:
        return self._send("GET", path, None, {"Accept": "text/html,*/*", **headers})

    def post(self, path: str, *fields: tuple[str, str], **headers: str) -> Answer:
        said = {"Content-Type": FORM, "Origin": self.api.url, **headers}
        return self._send("POST", path, urlencode(fields).encode(), said)

    def sign_in(self, key: str, name: str = "") -> Answer:
        return self.post("/sign-in", ("key", key), ("name", name))

    def _send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookie:
            headers["Cookie"] = self.cookie
        with closing(http.client.HTTPConnection("127.0.0.1", self.api.port, timeout=20)) as connection:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            if "set-cookie" in found:
                self.cookie = found["set-cookie"].partition(";")[0]
            return Answer(answer.status, found, answer.read())


@pytest.fixture
def desk(api: Live, request: pytest.FixtureRequest) -> Iterator[Desk]:
    made = Desk(api, request.node.name)
    yield made
    made.close()


@pytest.fixture
def browser(api: Live, desk: Desk) -> Browser:
    """Signed in as Grace."""
    made = Browser(api)
    assert made.sign_in(desk.key, "Grace").status == 303
    return made


def text(answer: Answer) -> str:
    """What stands on a page, without its elements."""
    assert answer.status == 200, answer.body
    return html.unescape(re.sub(r"<[^>]*>", " ", answer.body.decode()))
