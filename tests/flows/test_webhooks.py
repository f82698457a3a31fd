"""Webhooks on real sockets, by Standard Webhooks 1.0; the library of the specification verifies what we sign."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from flows import webhooks
from flows.channel import Gone, Parcel, Result, Retry, Sent
from flows.delivery import wall_ms
from flows.web import Web
from flows.webhook_channel import WebhookChannel
from tests.flows.delivered import INSIDE, START, delivered
from tests.flows.receivers import Received, receivers


def parcel(body: bytes = b'{"type":"alert.opened"}') -> Parcel:
    return Parcel(
        id="dl_1",
        organisation="acme",
        channel=webhooks.NAME,
        target="wh_1",
        alerts=("al_1",),
        body=body,
        attempt=1,
        created_at=START,
    )


def hook(url: str, **changes: object) -> webhooks.Webhook:
    plain = {"id": "wh_1", "organisation": "acme", "description": "", "events": (), "created_at": 0, "updated_at": 0}
    return webhooks.Webhook(**({"url": url, "secret": webhooks.new_secret()} | plain | changes))  # type: ignore[arg-type]


async def sent(path: str, patience: float = 5.0, **changes: object) -> tuple[Result | None, list[Received], float]:
    """What came of one attempt (None: no answer in time), what the receiver got, and the seconds that it took."""
    async with receivers() as ends:
        web = Web(INSIDE)
        began = time.monotonic()
        try:
            async with asyncio.timeout(patience):
                result: Result | None = await WebhookChannel(web).send(parcel(), hook(f"{ends.url}{path}", **changes))
        except TimeoutError:
            result = None
        finally:
            await web.close()
        return result, ends.came, time.monotonic() - began


def verified(came: Received, *secrets: str) -> list[bool]:
    """Whether each of the secrets verifies it, as the specification's own library does."""

    def verifies(secret: str) -> bool:
        try:
            Verifier(secret).verify(came.body, came.headers)
        except WebhookVerificationError:
            return False
        return True

    return [verifies(secret) for secret in secrets]


def test_the_specifications_library_verifies_what_is_sent() -> None:
    """With the endpoint's secret, and with no other; not if a byte of it was changed."""
    secret = webhooks.new_secret()
    _, (came,), _ = asyncio.run(sent("/x", secret=secret))
    assert verified(came, secret, webhooks.new_secret()) == [True, False]
    assert came.headers["webhook-id"] == "msg_al_1"
    assert came.headers["content-type"] == "application/json"
    came.body += b" "
    assert verified(came, secret) == [False]


def test_after_a_rotation_both_secrets_sign_for_a_day() -> None:
    """Then the new one alone."""
    old = hook("https://unused.example/")
    new = webhooks.rotated(old, wall_ms())
    changes: dict[str, Any] = {"secret": new.secret, "old_secret": new.old_secret, "old_until": new.old_until}
    _, (came,), _ = asyncio.run(sent("/x", **changes))
    assert verified(came, new.secret, old.secret) == [True, True]
    changes["old_until"] = wall_ms() - 1
    _, (came,), _ = asyncio.run(sent("/x", **changes))
    assert verified(came, new.secret, old.secret) == [True, False]
    assert new.secrets(wall_ms() + 24 * 3_600_000 - 60_000) == (new.secret, old.secret)
    assert new.secrets(wall_ms() + 24 * 3_600_000 + 60_000) == (new.secret,)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/200", Sent("200 no")),
        ("/204", Sent("204")),
        ("/299", Sent("299 no")),
        ("/400", Retry("answered 400 no")),
        ("/404", Retry("answered 404 no")),
        ("/429", Retry("answered 429 no")),
        ("/500", Retry("answered 500 no")),
        ("/503", Retry("answered 503 no")),
        ("/410", Gone("it answered 410 Gone: 410 no")),
    ],
)
def test_a_status_is_read_as_the_specification_says(path: str, expected: Result) -> None:
    """2xx is success, 410 ends the endpoint, all else is tried again."""
    found = asyncio.run(sent(path))[0]
    assert (Gone(found.why) if isinstance(found, Gone) else found) == expected


def test_a_redirect_is_a_failure_and_is_not_followed() -> None:
    """One request, to where it was to go."""
    result, came, _ = asyncio.run(sent("/redirects"))
    assert result == Retry("answered 302")
    assert [one.path for one in came] == ["/redirects"]


@pytest.mark.parametrize("path", ["/dies", "/closes"])
def test_a_receiver_that_dies_half_way_is_tried_again(path: str) -> None:
    """At once, not when the time is over."""
    result, _, took = asyncio.run(sent(path))
    assert isinstance(result, Retry)
    assert "Disconnected" in result.why
    assert took < 2


@pytest.mark.parametrize("path", ["/hangs", "/drips"])
def test_who_hangs_or_drips_is_left_when_the_time_is_over(path: str) -> None:
    """Bytes that come one by one do not draw it out; in earnest the core's 15 s are the time."""
    result, came, took = asyncio.run(sent(path, patience=0.4))
    assert (result, len(came)) == (None, 1)
    assert took < 1.5
    assert WebhookChannel.timeout_s == 15


def test_a_body_that_drips_after_its_status_is_waited_for_a_moment_only() -> None:
    """The status has decided."""
    result, _, took = asyncio.run(sent("/drips-its-body"))
    assert isinstance(result, Sent)
    assert took < 2


def test_of_a_long_answer_the_beginning_is_read() -> None:
    """Some kilobytes, whatever length it says."""
    result, _, _ = asyncio.run(sent("/floods"))
    assert isinstance(result, Retry)
    assert len(result.why) < 5_000


@pytest.mark.parametrize(
    ("told", "expected"), [("120", 120.0), ("soon", None), ("-5", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)]
)
def test_retry_after_is_read(told: str, expected: float | None) -> None:
    """As seconds, or as a date; what is neither is passed over."""

    async def test() -> Result:
        async with receivers() as ends:
            ends.answers["/x"] = [f"HTTP/1.1 503 No\r\nRetry-After: {told}\r\nContent-Length: 0\r\n\r\n".encode()]
            web = Web(INSIDE)
            try:
                return await WebhookChannel(web).send(parcel(), hook(f"{ends.url}/x"))
            finally:
                await web.close()

    assert asyncio.run(test()) == Retry("answered 503", expected)


def test_the_body_tells_the_alert(tmp_path: Path) -> None:
    """Type, moment and what never changes of it; the same bytes to each endpoint, under the same id."""

    async def test() -> None:
        async with receivers() as ends, delivered(tmp_path) as ours:
            ours.endpoint(f"{ends.url}/a", 1)
            ours.endpoint(f"{ends.url}/b", 2)
            (made,) = ours.alerts(1, reasons=["because"], scored_at=1_700_000_000_123)
            await ours.until_quiet()
            assert len({(one.headers["webhook-id"], one.body) for one in ends.came}) == 1
            told = json.loads(ends.came[0].body)
            assert (told["type"], told["timestamp"]) == ("alert.opened.likely_to_sell", "2023-11-14T22:13:20.123000Z")
            assert {name: told["data"][name] for name in ("id", "user", "score", "reasons", "scored_at")} == {
                "id": made.id,
                "user": "u1",
                "score": 0.7,
                "reasons": ["because"],
                "scored_at": 1_700_000_000_123,
            }
            assert not {"status", "withheld", "features"} & told["data"].keys()

    asyncio.run(test())


def test_an_endpoint_gets_the_types_that_it_asked_for(tmp_path: Path) -> None:
    """By the type or by its beginning; of its own organisation; stored since it was made; while it is enabled."""

    async def test() -> None:
        async with receivers() as ends, delivered(tmp_path) as ours:
            wants: list[dict[str, object]] = [
                {},
                {"events": ("alert.opened",)},
                {"events": ("alert.opened.likely_to_sell",)},
                {"events": ("alert.opened.likely_to_buy",)},
                {"organisation": "other"},
                {"after_seq": 1},
                {"enabled": False},
            ]
            for n, changes in enumerate(wants):
                ours.endpoint(f"{ends.url}/{n}x", n, **changes)
            ours.alerts(1)
            await ours.until_quiet()
            assert sorted(one.path for one in ends.came) == ["/0x", "/1x", "/2x"]

    asyncio.run(test())


def test_one_hung_endpoint_of_many_holds_up_nobody(tmp_path: Path) -> None:
    """Each lane has its bound, and the others are done while it hangs."""

    async def test() -> None:
        async with receivers() as ends, delivered(tmp_path) as ours:
            for n in range(20):
                ours.endpoint(f"{ends.url}/{'hangs' if n == 7 else f'{n}x'}", n)
            ours.alerts(*range(12))
            done = 0
            async with asyncio.timeout(10):
                while done < 19 * 12:
                    await ours.delivery.turn()
                    await asyncio.sleep(0.01)
                    done = sum(one.result == "SENT" for one in ours.tried(channel="webhook"))
            assert len(ends.bodies("/hangs")) == WebhookChannel.at_once

    asyncio.run(test())
