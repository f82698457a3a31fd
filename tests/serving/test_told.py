"""From an alert to somebody told of it, by the real processes: mail, chat and CRM arrive; what people do comes back."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import msgspec
import pytest
import redis

from feature_repo import keys
from feature_repo.settings import Settings
from flows.alert_store import AlertStore, open_alerts
from flows.embedded import Embedded
from flows.store import connect
from tests.contracts.smtp_server import Postmaster
from tests.live import Live, live, worker
from tests.serving.alert_desk import Desk, stream
from tests.serving.reached import WebServer, mail_server, web_server

PERSON = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}


class World(msgspec.Struct):
    """All that runs."""

    api: Live
    mail: Postmaster
    web: WebServer
    store: AlertStore
    client: redis.Redis


@pytest.fixture(scope="module")
def world(empty_valkey: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """API, delivery, a mail server and a web server."""
    home = tmp_path_factory.mktemp("told")
    with mail_server() as (mail, port), web_server() as web:
        settings = Settings(
            home=home,
            redis_url=f"unix://{empty_valkey.where.socket}",
            partitions=4,
            clock="log",
            webhook_allow="127.0.0.0/8",
            smtp_url=f"smtp://127.0.0.1:{port}",
            mail_reply_to="replies@example.org",
        )
        with live(settings) as api, worker(api.settings, "flows.delivering"), connect(api.settings) as client:
            store = open_alerts(api.settings)
            yield World(api, mail, web, store, client)
            store.close()


@pytest.fixture
def api(world: World, request: pytest.FixtureRequest) -> Live:
    """Asked with the key of an organisation of the test's own."""
    name = request.node.originalname
    world.client.hset(keys.KEYS, name, f"of {name}")
    mine = Live(world.api.settings, world.api.process)
    mine.login = {"Authorization": "Basic " + base64.b64encode(f"{name}:".encode()).decode()}
    return mine


@pytest.fixture
def desk(world: World, request: pytest.FixtureRequest) -> Desk:
    return Desk(world.store, world.client, f"of {request.node.originalname}")


def made(api: Live, path: str, told: dict[str, Any]) -> dict[str, Any]:
    answer = api.post(path, told)
    assert answer.status == 200, answer.body
    return answer.json


def patched(api: Live, path: str, told: object) -> tuple[int, Any]:
    headers = api.login | {"Content-Type": "application/json"}
    answer = api.ask("PATCH", path, msgspec.json.encode(told), headers)
    return answer.status, answer.json


def recipient(api: Live, name: str = "ann", **more: Any) -> str:
    told = {"name": name, "email": f"{name}@example.org"} | more
    return str(made(api, "/v1/recipients", told)["id"])


def rule(api: Live, *to: tuple[str, str], **more: Any) -> str:
    targets = [{"channel": channel, "target": target} for channel, target in to]
    return str(made(api, "/v1/routing-rules", {"name": "all", "to": targets} | more)["id"])


def told(api: Live, alert: str, channel: str, state: str = "DONE", **wanted: object) -> dict[str, Any]:
    """That delivery of the alert, once it is so."""
    deadline = time.monotonic() + 10
    while True:
        found = api.ask("GET", f"/v1/alerts/{alert}/deliveries").json["deliveries"]
        for one in found:
            if one["channel"] == channel and {"state": state, **wanted}.items() <= one.items():
                return one
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def mail_to(world: World, address: str) -> EmailMessage:
    (content,) = [content for to, content in world.mail.mails if to == address]
    found = message_from_bytes(content, policy=policy.default)
    assert isinstance(found, EmailMessage)
    return found


def body(mail: EmailMessage, kind: str) -> str:
    part = mail.get_body((kind,))
    assert part is not None
    return str(part.get_content())


def path_of(url: str, api: Live) -> str:
    assert url.startswith(api.url), url
    return url.removeprefix(api.url)


def test_a_mail_that_is_opened_followed_and_answered_says_so(world: World, api: Live, desk: Desk) -> None:
    """All by links that need no key; robots are counted apart."""
    rule(api, ("email", recipient(api, "opener")))
    (alert,) = desk.add(1, reasons=["came back three times"])
    assert told(api, alert.id, "email")["recipient"] == "opener"
    mail = mail_to(world, "opener@example.org")
    pixel, link = (re.search(p, body(mail, "html")) for p in (r'<img src="([^"]+)"', r'<a href="([^"]+/c/[^"]+)"'))
    assert pixel is not None
    assert link is not None
    assert api.ask("GET", path_of(pixel[1], api), headers={"user-agent": "SomeBot/1.0"}).body[:6] == b"GIF89a"
    assert api.ask("GET", path_of(pixel[1], api), headers=PERSON).status == 200
    went = api.ask("GET", path_of(link[1], api), headers=PERSON)
    assert (went.status, went.headers["location"]) == (302, f"{api.url}/people/u1")
    reply = f"From: opener@example.org\nTo: {mail['reply-to']}\nMessage-ID: <1@x>\n\nOn it.\n\n> quoted\n"
    for new in (True, False):
        taken = api.ask("POST", "/v1/replies", reply.encode(), api.login | {"Content-Type": "message/rfc822"})
        assert taken.json == {"delivery": taken.json["delivery"], "alert": alert.id, "automatic": False, "new": new}
    found = told(api, alert.id, "email", opens=1, clicks=1, by_machines=1)
    assert None not in (found["opened_at"], found["clicked_at"], found["replied_at"])
    assert [(one["sender"], one["text"]) for one in found["replies"]] == [("opener@example.org", "On it.")]


def test_one_click_ends_a_subscription_and_nothing_is_mailed_after_it(world: World, api: Live, desk: Desk) -> None:
    """RFC 8058: a POST without a key. The link alone asks first."""
    someone = recipient(api, "leaver")
    rule(api, ("email", someone))
    (first,) = desk.add(1)
    told(api, first.id, "email")
    address = path_of(mail_to(world, "leaver@example.org")["list-unsubscribe"].strip("<>"), api)
    asked = api.ask("GET", address, headers={})
    assert asked.status == 200
    assert b"<form method" in asked.body
    assert api.ask("GET", f"/v1/recipients/{someone}").json["unsubscribed"] == []
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert api.ask("POST", address, b"List-Unsubscribe=One-Click", form).status == 200
    assert api.ask("GET", f"/v1/recipients/{someone}").json["unsubscribed"] == ["email"]
    (second,) = desk.add(2)
    told(api, second.id, "in_app")
    assert [one["channel"] for one in api.ask("GET", f"/v1/alerts/{second.id}/deliveries").json["deliveries"]] == [
        "in_app"
    ]
    assert api.ask("POST", address, b"do=again", form).status == 200
    assert api.ask("GET", f"/v1/recipients/{someone}").json["unsubscribed"] == []


@pytest.mark.parametrize("kind", ["t", "c", "u"])
def test_a_link_that_we_did_not_write_leads_nowhere(api: Live, kind: str) -> None:
    """Made up, cut short, or one of another kind."""
    for token in ("x", "A" * 60, "%00", "A" * 5_000):
        answer = api.ask("GET", f"/{kind}/{token}{'.gif' if kind == 't' else ''}", headers={})
        assert answer.status == (200 if kind == "t" else 404)
        assert "location" not in answer.headers


def test_chat_arrives_by_apprise_and_its_secrets_stay_here(world: World, api: Live, desk: Desk) -> None:
    """In no answer of the API, and in no log of an attempt."""
    secret = "hunter2hunter2"
    port = world.web.server_address[1]
    good = f"json://user:{secret}@127.0.0.1:{port}/good"
    bad = f"json://user:{secret}@127.0.0.1:{port}/{secret}"
    world.web.status[f"/{secret}"] = 500
    someone = recipient(api, chat=[good, bad])
    rule(api, ("chat", someone))
    (alert,) = desk.add(1, reasons=["came back three times"])
    told(api, alert.id, "chat")
    failed = told(api, alert.id, "chat", "WAITING", attempts=1)
    (came,) = world.web.at("/good")
    assert came.json["title"].startswith("likely to sell: u1")
    assert "came back three times" in came.json["message"]
    shown = (f"/v1/recipients/{someone}", "/v1/recipients", f"/v1/deliveries/{failed['id']}", "/v1/deliveries")
    assert failed["last_error"]
    for path in shown:
        assert secret not in api.ask("GET", path).body.decode()


def test_chat_reaches_no_address_inside(api: Live, desk: Desk, world: World) -> None:
    """Only those that the operator allows: a link-local one is refused when it is about to be connected to."""
    rule(api, ("chat", recipient(api, chat=["json://169.254.169.254/latest"])))
    (alert,) = desk.add(1)
    assert told(api, alert.id, "chat", "WAITING", attempts=1)["last_error"]


def test_a_crm_gets_score_confidence_and_explanation_into_the_record(world: World, api: Live, desk: Desk) -> None:
    """Where its fields are, with what must stand beside them, under one idempotency key."""
    port = world.web.server_address[1]
    crm = made(
        api,
        "/v1/crm",
        {
            "name": "hub",
            "url": f"http://127.0.0.1:{port}/contacts/{{user}}",
            "headers": {"Authorization": "Bearer s3cret"},
            "fields": {"score_percent": "/properties/0/value", "confidence": "/c", "explanation": "/notes/why"},
            "constants": {"/properties": [{"property": "telltale"}]},
        },
    )
    assert crm["headers"] == {"Authorization": "…"}
    rule(api, ("crm", crm["id"]))
    (alert,) = desk.add(1, user="a/b c", reasons=["r1", "r2"])
    delivery = told(api, alert.id, "crm")
    (came,) = world.web.at("/contacts/a%2Fb%20c")
    assert came.method == "PATCH"
    assert came.json == {
        "properties": [{"property": "telltale", "value": 70}],
        "c": 0.8,
        "notes": {"why": "r1; r2"},
    }
    assert (came.headers["authorization"], came.headers["idempotency-key"]) == ("Bearer s3cret", delivery["id"])
    status, changed = patched(api, f"/v1/crm/{crm['id']}", {"headers": crm["headers"], "name": "other"})
    assert (status, changed["name"]) == (200, "other")
    desk.add(2, user="kept")
    deadline = time.monotonic() + 10
    while not world.web.at("/contacts/kept"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert world.web.at("/contacts/kept")[0].headers["authorization"] == "Bearer s3cret"


def test_a_crm_that_moves_to_another_host_takes_no_secret_along(api: Live) -> None:
    """Whoever changes its address has to know them."""
    told_ = {"name": "hub", "url": "https://x.org/{user}", "headers": {"Authorization": "Bearer s3cret"}}
    path = f"/v1/crm/{made(api, '/v1/crm', told_)['id']}"
    status, problem = patched(api, path, {"url": "https://y.org/{user}"})
    assert (status, problem["field"]) == (422, "headers")
    assert patched(api, path, {"url": "https://x.org/v2/{user}"})[0] == 200
    assert patched(api, path, {"url": "https://y.org/{user}", "headers": {"Authorization": "Bearer s3cret"}})[0] == 200


def test_an_id_that_would_lead_elsewhere_reaches_no_record(api: Live, desk: Desk, world: World) -> None:
    """It is dead at once, and says why."""
    port = world.web.server_address[1]
    crm = made(api, "/v1/crm", {"name": "hub", "url": f"http://127.0.0.1:{port}/deep/{{user}}"})
    rule(api, ("crm", crm["id"]))
    (alert,) = desk.add(1, user="..")
    assert "would lead elsewhere" in told(api, alert.id, "crm", "DEAD")["last_error"]


def test_a_test_goes_to_each_address_of_a_person(world: World, api: Live) -> None:
    """So that they learn whether it arrives before it matters."""
    port = world.web.server_address[1]
    someone = recipient(api, "tester", chat=[f"json://127.0.0.1:{port}/tested"])
    answer = api.post(f"/v1/recipients/{someone}/test", {})
    assert (answer.status, len(answer.json["deliveries"])) == (202, 2)
    deadline = time.monotonic() + 10
    while not (world.web.at("/tested") and any(to == "tester@example.org" for to, _ in world.mail.mails)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "No alert stands behind it" in body(mail_to(world, "tester@example.org"), "plain")


def test_what_somebody_has_read_shows_in_the_list_and_in_the_stream(api: Live, desk: Desk) -> None:
    """By name; who is not named has read nothing, and whoever asks for nobody is told nothing."""
    first, second = desk.add(1, 2)
    marked = api.ask("PUT", f"/v1/alerts/{first.id}/read?by=ann")
    assert marked.json == {"marked": [first.id], "unread": 1}
    assert api.ask("GET", "/v1/alerts/unread?by=ann").json == {"unread": 1}
    assert api.ask("GET", "/v1/alerts/unread").json == {"unread": 2}
    for query, read in (("?by=ann", [False, True]), ("?by=bob", [False, False]), ("", [None, None])):
        assert [one["read"] for one in api.ask("GET", f"/v1/alerts{query}").json["alerts"]] == read
    with stream(api, "/v1/alerts/stream?by=ann&after=0") as events:
        assert [events.next().read for _ in (first, second)] == [True, False]
    with stream(api, "/v1/alerts/stream?after=0") as events:
        assert events.next().read is None


def test_marks_are_taken_back_one_by_one_and_set_for_all(api: Live, desk: Desk) -> None:
    """Of what there is no alert, nothing is marked."""
    first, second = desk.add(1, 2)
    assert api.post("/v1/alerts/read-all", {"by": "ann"}).json == {"unread": 0}
    assert api.ask("DELETE", f"/v1/alerts/{first.id}/read?by=ann").json == {"marked": [first.id], "unread": 1}
    told_ = {"ids": [first.id, "al_none", second.id], "by": "ann"}
    assert api.post("/v1/alerts/read", told_).json == {"marked": [first.id, second.id], "unread": 0}
    assert api.post("/v1/alerts/read", told_ | {"read": False}).json["unread"] == 2
    assert api.ask("PUT", "/v1/alerts/al_none/read").status == 404


@pytest.mark.parametrize(
    ("path", "told_", "field"),
    [
        ("/v1/recipients", {}, "name"),
        ("/v1/recipients", {"name": "a", "email": "a"}, "email"),
        ("/v1/recipients", {"name": "a", "email": "a@x.org\r\nBcc: b@x.org"}, "email"),
        ("/v1/recipients", {"name": "a", "email": "a@x.org,b@x.org"}, "email"),
        ("/v1/recipients", {"name": "a", "chat": ["nosuch://x"]}, "chat"),
        ("/v1/recipients", {"name": "a", "chat": ["syslog://"]}, "chat"),
        ("/v1/recipients", {"name": "a", "chat": ["discord://1234567890/abcdefghijk?template=/etc/passwd"]}, "chat"),
        ("/v1/recipients", {"name": "a", "time_zone": "Mars/Olympus"}, "time_zone"),
        ("/v1/recipients", {"name": "a", "time_zone": "../../etc/passwd"}, "time_zone"),
        ("/v1/recipients", {"name": "a", "quiet_from": "22:00"}, "quiet_until"),
        ("/v1/recipients", {"name": "a", "quiet_from": "25:00", "quiet_until": "07:00"}, "quiet_from"),
        ("/v1/recipients", {"name": "a", "daily_cap": 0}, "daily_cap"),
        ("/v1/routing-rules", {"name": "a", "to": [{"channel": "email", "target": "rc_none"}]}, "to"),
        ("/v1/routing-rules", {"name": "a", "to": [{"channel": "webhook", "target": "*", "digest": "daily"}]}, "to"),
        ("/v1/routing-rules", {"name": "a", "types": ["LIKELY_TO_FLY"]}, "types"),
        ("/v1/routing-rules", {"name": "a", "in_app": False}, "to"),
        ("/v1/crm", {"name": "a", "url": "http://10.0.0.1/{user}"}, "url"),
        ("/v1/crm", {"name": "a", "url": "https://{user}.example.com/"}, "url"),
        ("/v1/crm", {"name": "a", "url": "https://example.com/{password}"}, "url"),
        ("/v1/crm", {"name": "a", "url": "https://x.org/", "headers": {"A": "b\r\nC: d"}}, "headers"),
        ("/v1/crm", {"name": "a", "url": "https://x.org/", "headers": {"Host": "y.org"}}, "headers"),
        ("/v1/crm", {"name": "a", "url": "https://x.org/", "fields": {"score": "/a", "type": "/a/b"}}, "fields"),
        ("/v1/replies", {"to": ["replies+aaaa@example.org"]}, "to"),
    ],
)
def test_what_cannot_be_is_refused_and_named(api: Live, path: str, told_: object, field: str) -> None:
    """Nothing of it is kept."""
    answer = api.post(path, told_)
    assert (answer.status, answer.json["field"]) == (404 if path == "/v1/replies" else 422, field)


def test_a_recipient_whom_a_rule_names_stays(api: Live) -> None:
    """Until the rule names them no more; who is of another organisation cannot be named."""
    someone = recipient(api)
    one = rule(api, ("email", someone))
    answer = api.ask("DELETE", f"/v1/recipients/{someone}")
    assert answer.status == 409
    assert one in answer.json["detail"]
    assert patched(api, f"/v1/routing-rules/{one}", {"to": [], "continue": True})[1]["continue"] is True
    assert api.ask("DELETE", f"/v1/recipients/{someone}").status == 200
    assert api.ask("GET", f"/v1/recipients/{someone}").status == 404


def test_what_waits_for_a_recipient_who_is_removed_is_cancelled(api: Live, desk: Desk) -> None:
    """And says so, also of what was folded into a digest."""
    someone = recipient(api, digest="daily")
    one = rule(api, ("email", someone))
    (alert,) = desk.add(1)
    assert told(api, alert.id, "email", "WAITING")["digest"]
    patched(api, f"/v1/routing-rules/{one}", {"to": []})
    assert api.ask("DELETE", f"/v1/recipients/{someone}").status == 200
    assert told(api, alert.id, "email", "CANCELLED")["last_error"] == "the recipient was removed"


def test_organisations_see_and_use_their_own_alone(api: Live, world: World) -> None:
    """Neither by id nor as the target of a rule."""
    someone = recipient(api)
    world.client.hset(keys.KEYS, "stranger", "strangers")
    stranger = Live(api.settings, api.process)
    stranger.login = {"Authorization": "Basic " + base64.b64encode(b"stranger:").decode()}
    assert stranger.ask("GET", f"/v1/recipients/{someone}").status == 404
    assert stranger.ask("GET", "/v1/recipients").json == {"recipients": []}
    told_ = {"name": "a", "to": [{"channel": "email", "target": someone}]}
    assert stranger.post("/v1/routing-rules", told_).status == 422
    assert patched(stranger, f"/v1/recipients/{someone}", {"name": "b"})[0] == 404
