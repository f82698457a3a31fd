"""Writes to a CRM, on real sockets: what is sent, and what each answer means for the record and for the others."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest

from flows.channel import Dead, Parcel, Result, Retry, Sent
from flows.crm import CRM, CrmRequest, CrmTarget
from flows.crm_channel import CrmChannel
from flows.web import Web
from tests.flows.delivered import INSIDE
from tests.flows.receivers import Received, receivers


async def sent(path: str, answer: bytes = b"") -> tuple[Result, list[Received]]:
    """What came of one attempt, and what the CRM got."""
    async with receivers() as ends:
        ends.answers[path] = [answer] if answer else []
        web = Web(INSIDE)
        body = msgspec.json.encode(CrmRequest("PATCH", ends.url + path, msgspec.Raw(b'{"score":70}')))
        parcel = Parcel(
            id="dl_1", organisation="acme", channel=CRM, target="cr_1", alerts=("al_1",), body=body, attempt=1,
            created_at=0,
        )  # fmt: skip
        crm = CrmTarget(id="cr_1", organisation="acme", name="hub", url="", headers={"Authorization": "Bearer x"})
        try:
            return await CrmChannel(web).send(parcel, crm), ends.came
        finally:
            await web.close()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/200", Sent("200 no")),
        ("/204", Sent("204")),
        ("/302", Retry("answered 302 no")),
        ("/400", Dead("answered 400 no")),
        ("/401", Retry("answered 401 no")),
        ("/403", Retry("answered 403 no")),
        ("/404", Retry("answered 404 no", of_one=True)),
        ("/409", Retry("answered 409 no", of_one=True)),
        ("/410", Dead("answered 410 no")),
        ("/422", Dead("answered 422 no")),
        ("/429", Retry("answered 429 no")),
        ("/500", Retry("answered 500 no")),
        ("/503", Retry("answered 503 no")),
    ],
)
def test_a_status_decides(path: str, expected: Result) -> None:
    """What time or an operator may put right is tried again; what is about one record does not speak for the CRM."""
    assert asyncio.run(sent(path))[0] == expected


def test_a_crm_may_ask_to_be_left_alone_for_a_while() -> None:
    """By Retry-After."""
    answer = b"HTTP/1.1 429 Slow down\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n"
    assert asyncio.run(sent("/x", answer))[0] == Retry("answered 429", 120.0)


def test_a_crm_that_closes_or_breaks_off_is_tried_again() -> None:
    """Nobody knows what it did, so the key tells it a repeat."""
    result, (came,) = asyncio.run(sent("/dies"))
    assert isinstance(result, Retry)
    assert not result.of_one
    assert (came.headers["idempotency-key"], came.headers["authorization"]) == ("dl_1", "Bearer x")
    assert json.loads(came.body) == {"score": 70}
