"""`/v1/webhooks` and `/v1/deliveries`, by the API and the process that delivers, to a receiver of the test's."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from standardwebhooks import Webhook as Verifier

from feature_repo import keys
from feature_repo.settings import Settings
from flows.alert_store import open_alerts
from flows.delivery import wall_ms
from flows.store import connect, embedded
from serving.delivery_command import USUAL
from tests.flows.made_alerts import alert
from tests.live import ORGANISATION, Answer, Live, live, worker
from tests.serving.test_described import wrong

PATIENCE = 20.0


class Receiver(http.server.ThreadingHTTPServer):
    """Answers with the status that `answers` has for the path, else 200."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.came: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: dict[str, int] = {}

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def at(self, path: str) -> list[tuple[dict[str, str], bytes]]:
        return [(headers, body) for came, headers, body in self.came if came == path]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.came.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        self.send_response(self.server.answers.get(self.path, 200))
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Hooks(msgspec.Struct):
    """What runs."""

    api: Live
    receiver: Receiver

    def make(self, path: str, **told: object) -> dict[str, Any]:
        answer = self.api.post("/v1/webhooks", {"url": self.receiver.url(path), **told})
        assert answer.status == 200, answer.body
        return answer.json

    def change(self, method: str, path: str, message: object = None) -> Answer:
        headers = {**self.api.login, "Content-Type": "application/json"}
        return self.api.ask(method, path, msgspec.json.encode(message or {}), headers)

    def alert(self, n: int, **changes: object) -> str:
        """Stored and announced, as the drain does; its id."""
        store, made = (
            open_alerts(self.api.settings),
            alert(n, organisation=ORGANISATION, stored_at=wall_ms(), **changes),
        )
        head = store.insert([made])
        store.close()
        with closing(connect(self.api.settings)) as client:
            client.publish(keys.ALERTS_STORED, head)
        return made.id

    def until(self, path: str, **wanted: object) -> dict[str, Any]:
        """What the API answers once it has these members."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found: dict[str, Any] = self.api.ask("GET", path).json
            if found.items() >= wanted.items():
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.02)

    def deliveries(self, query: str) -> list[dict[str, Any]]:
        return self.api.ask("GET", f"/v1/deliveries?{query}").json["deliveries"]

    def ended(self, query: str, n: int = 1) -> list[dict[str, Any]]:
        """The deliveries, once there are so many and all have come to an end."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = self.deliveries(query)
            if len(found) == n and all(one["done_at"] for one in found):
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.02)


@pytest.fixture(scope="module")
def hooks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hooks]:
    home: Path = tmp_path_factory.mktemp("hooks")
    server = embedded(home)
    settings = Settings(home=home, partitions=2, webhook_allow="127.0.0.0/8")
    try:
        with live(settings) as api, worker(api.settings, "flows.delivering"), Receiver() as receiver:
            threading.Thread(target=receiver.serve_forever, args=(0.01,), daemon=True).start()
            yield Hooks(api, receiver)
            receiver.shutdown()
    finally:
        server.stop()


def test_an_alert_arrives_signed_and_is_delivered(hooks: Hooks) -> None:
    """Within moments of being stored; verified with the secret that the making told."""
    made = hooks.make("/alerts")
    id_ = hooks.alert(1)
    (one,) = hooks.ended(f"alert={id_}&channel=webhook&target={made['id']}")
    assert one["state"] == "DONE"
    ((headers, body),) = hooks.receiver.at("/alerts")
    Verifier(made["secret"]).verify(body, headers)
    assert json.loads(body)["data"]["id"] == id_
    hooks.until(f"/v1/alerts/{id_}", status="DELIVERED")
    tried = hooks.api.ask("GET", f"/v1/webhooks/{made['id']}/attempts").json["attempts"]
    assert [(t["delivery"], t["result"]) for t in tried] == [(one["id"], "SENT")]
    hooks.change("DELETE", f"/v1/webhooks/{made['id']}")


def test_endpoints_are_listed_changed_and_removed(hooks: Hooks) -> None:
    """What is not told stays; the secret is shown when it is asked for, and not else."""
    made = hooks.make("/changed", description="ours", events=["alert.opened.likely_to_buy"])
    path = f"/v1/webhooks/{made['id']}"
    assert made["id"] in {one["id"] for one in hooks.api.ask("GET", "/v1/webhooks").json["webhooks"]}
    shown = hooks.api.ask("GET", path).json
    assert shown == {name: value for name, value in made.items() if name != "secret"}
    assert hooks.api.ask("GET", f"{path}/secret").json["secret"] == made["secret"]
    changed = hooks.change("PATCH", path, {"events": []}).json
    assert (changed["events"], changed["description"], changed["enabled"]) == ([], "ours", True)
    assert hooks.change("DELETE", path).json == {"id": made["id"], "cancelled": 0}
    assert hooks.api.ask("GET", path).status == 404


def test_a_test_tells_what_came_of_it(hooks: Hooks) -> None:
    """At once, also of an endpoint that refuses; it is tried once."""
    hooks.receiver.answers["/refuses"] = 500
    for path, delivered, said in (("/takes", True, "200"), ("/refuses", False, "answered 500")):
        made = hooks.make(path)
        answer = hooks.api.post(f"/v1/webhooks/{made['id']}/test", {})
        assert (answer.status, answer.json["delivered"], answer.json["attempt"]["said"]) == (200, delivered, said)
        ((headers, body),) = hooks.receiver.at(path)
        Verifier(made["secret"]).verify(body, headers)
        assert json.loads(body)["type"] == "webhook.test"
        hooks.change("DELETE", f"/v1/webhooks/{made['id']}")


def test_after_a_rotation_old_and_new_verify(hooks: Hooks) -> None:
    """The answer holds the new one, and until when the old one signs too."""
    made = hooks.make("/rotated")
    new = hooks.change("POST", f"/v1/webhooks/{made['id']}/rotate").json
    assert new["secret"] != made["secret"]
    assert new["old_secret_until"] > new["updated_at"]
    hooks.api.post(f"/v1/webhooks/{made['id']}/test", {})
    ((headers, body),) = hooks.receiver.at("/rotated")
    for secret in (made["secret"], new["secret"]):
        Verifier(secret).verify(body, headers)
    hooks.change("DELETE", f"/v1/webhooks/{made['id']}")


def test_a_secret_of_ones_own_is_taken(hooks: Hooks) -> None:
    """If it is one."""
    secret = "whsec_" + "QUJD" * 11
    made = hooks.make("/own", secret=secret)
    assert made["secret"] == secret
    for odd in ("QUJD" * 11, "whsec_c2hvcnQ=", "whsec_!", "whsec_" + "QUJD" * 30):
        answer = hooks.api.post("/v1/webhooks", {"url": "https://a.example/", "secret": odd})
        assert (answer.status, answer.json["field"]) == (422, "secret")
    hooks.change("DELETE", f"/v1/webhooks/{made['id']}")


def test_who_disables_an_endpoint_finds_in_the_dead_list_what_waited(hooks: Hooks) -> None:
    """And sends it again, once it is enabled."""
    hooks.receiver.answers["/down"] = 500
    made = hooks.make("/down")
    path, id_ = f"/v1/webhooks/{made['id']}", hooks.alert(2)
    tries = f"/v1/deliveries?target={made['id']}"
    deadline = time.monotonic() + PATIENCE
    while not any(one["attempts"] for one in hooks.api.ask("GET", tries).json["deliveries"]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert hooks.change("PATCH", path, {"enabled": False}).json["disabled_why"] == "the endpoint was disabled"
    (dead,) = hooks.ended(f"target={made['id']}&state=DEAD")
    assert (dead["alert"], dead["last_error"]) == (id_, "the endpoint was disabled")
    assert hooks.api.post(f"{path}/test", {}).status == 409
    hooks.receiver.answers["/down"] = 200
    hooks.change("PATCH", path, {"enabled": True})
    retried = hooks.api.post("/v1/deliveries/retry", {"channel": "webhook", "target": made["id"]}).json
    assert retried == {"retried": [dead["id"]], "more": False}
    (done,) = hooks.ended(f"target={made['id']}&state=DONE")
    assert done["id"] == dead["id"]
    assert len({body for _, body in hooks.receiver.at("/down")}) == 1
    info = hooks.api.ask("GET", f"/v1/deliveries/{done['id']}").json
    assert [tried["result"] for tried in info["attempts"]] == ["SENT", "RETRY"]
    hooks.change("DELETE", path)


def test_an_endpoint_that_is_gone_is_disabled(hooks: Hooks) -> None:
    """By its 410, with the reason."""
    hooks.receiver.answers["/gone"] = 410
    made = hooks.make("/gone")
    hooks.alert(3)
    found = hooks.until(f"/v1/webhooks/{made['id']}", enabled=False)
    assert "410 Gone" in found["disabled_why"]
    hooks.change("DELETE", f"/v1/webhooks/{made['id']}")


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({}, "url"),
        ({"url": "ftp://a.example/"}, "url"),
        ({"url": "https://10.0.0.1/"}, "url"),
        ({"url": "https://user@a.example/"}, "url"),
        ({"url": "https://a.example:22/"}, "url"),
        ({"url": "https://a.example/", "events": ["alert.opend"]}, "events"),
        ({"url": "https://a.example/", "enabled": "yes"}, "enabled"),
        ({"url": "https://a.example/", "colour": "red"}, "body"),
    ],
)
def test_what_is_wrong_is_named(hooks: Hooks, told: dict[str, object], field: str) -> None:
    """By its field."""
    answer = hooks.api.post("/v1/webhooks", told)
    assert (answer.status, answer.json["field"]) == (422, field)


def test_another_organisations_are_not_there(hooks: Hooks) -> None:
    """Neither its endpoints, nor its deliveries, nor by their ids."""
    made = hooks.make("/ours")
    tested = hooks.api.post(f"/v1/webhooks/{made['id']}/test", {}).json["delivery"]
    with closing(connect(hooks.api.settings)) as client:
        client.hset(keys.KEYS, "key-of-other", "other")
    theirs = Live(hooks.api.settings, hooks.api.process)
    theirs.login = {"Authorization": "Basic a2V5LW9mLW90aGVyOg=="}
    assert theirs.ask("GET", "/v1/webhooks").json == {"webhooks": []}
    assert theirs.ask("GET", "/v1/deliveries").json == {"deliveries": [], "next": None}
    for path in (f"/v1/webhooks/{made['id']}", f"/v1/webhooks/{made['id']}/secret", f"/v1/deliveries/{tested}"):
        assert theirs.ask("GET", path).status == 404
    assert theirs.post("/v1/deliveries/retry", {"ids": [tested]}).json["retried"] == []
    hooks.change("DELETE", f"/v1/webhooks/{made['id']}")


def test_deliveries_come_by_pages(hooks: Hooks) -> None:
    """The latest first, each once."""
    made = hooks.make("/pages")
    for _ in range(5):
        hooks.api.post(f"/v1/webhooks/{made['id']}/test", {})
    found, cursor = list[str](), ""
    for _ in range(3):
        page = hooks.api.ask("GET", f"/v1/deliveries?target={made['id']}&limit=2{cursor}").json
        found += [one["id"] for one in page["deliveries"]]
        cursor = f"&cursor={page['next']}"
    assert page["next"] is None
    assert found == [one["id"] for one in hooks.deliveries(f"target={made['id']}")]
    assert len(found) == 5 <= USUAL
    hooks.change("DELETE", f"/v1/webhooks/{made['id']}")


def test_answers_are_what_the_description_says(hooks: Hooks) -> None:
    """Of each of these doors."""
    document, made = hooks.api.ask("GET", "/openapi.json").json, hooks.make("/described")
    one = f"/v1/webhooks/{made['id']}"
    asked = [
        ("get", "/v1/webhooks", "/v1/webhooks"),
        ("get", "/v1/webhooks/{id}", one),
        ("get", "/v1/webhooks/{id}/secret", f"{one}/secret"),
        ("post", "/v1/webhooks/{id}/rotate", f"{one}/rotate"),
        ("post", "/v1/webhooks/{id}/test", f"{one}/test"),
        ("get", "/v1/webhooks/{id}/attempts", f"{one}/attempts"),
        ("get", "/v1/deliveries", "/v1/deliveries"),
        ("patch", "/v1/webhooks/{id}", one),
        ("delete", "/v1/webhooks/{id}", one),
        ("get", "/v1/webhooks/{id}", one),
    ]
    for method, path, at in asked:
        answer = hooks.api.ask("GET", at) if method == "get" else hooks.change(method.upper(), at)
        content = document["paths"][path][method]["responses"][str(answer.status)]["content"]
        assert wrong(document, content[answer.headers["content-type"]]["schema"], answer.json) == []
    assert answer.status == 404


def test_metrics_tell_how_delivery_stands(hooks: Hooks) -> None:
    """As the process that delivers said last."""
    deadline = time.monotonic() + PATIENCE
    while 'telltale_deliveries_done_total{channel="webhook"}' not in (
        text := hooks.api.ask("GET", "/metrics").body.decode()
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for name in ("telltale_deliveries_oldest_seconds", "telltale_delivery_breakers_open", "telltale_delivery_alive_at"):
        assert f"\n{name} " in text
