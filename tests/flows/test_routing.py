"""Who is told of what, when: rules, quiet hours, caps and digests, and that nothing is lost on the way."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import alert_status, letter
from flows.alert_store import Stored
from flows.channel import NewDelivery
from flows.local_time import Quiet, day_of, quiet_until
from flows.recipients import Recipient, recipients
from flows.routing_rules import Route
from tests.flows.delivered import endpoint
from tests.flows.post_office import CRASH, DAY_MS, NOON, Noted, Office, rule, whom

HOUR_MS = 3_600_000


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    yield made
    made.close()


def read(body: bytes) -> EmailMessage:
    found = message_from_bytes(letter.decode(body).message(), policy=policy.default)
    assert isinstance(found, EmailMessage)
    return found


def test_without_rules_an_alert_is_delivered_in_the_app_alone(office: Office) -> None:
    """There is no webhook, and recipients are told by rules."""
    office.keep(whom())
    office.run(office.arrive)
    assert office.rows("channel", "state") == [("in_app", "DONE")]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, True),
        ({"types": ("LIKELY_TO_SELL",)}, True),
        ({"types": ("LIKELY_TO_BUY",)}, False),
        ({"priority_at_least": "HIGH"}, True),
        ({"priority_at_least": "CRITICAL"}, False),
        ({"min_score": 0.7}, True),
        ({"min_score": 0.71}, False),
        ({"enabled": False}, False),
        ({"organisation": "others"}, False),
    ],
)
def test_a_rule_says_of_which_alerts_somebody_is_told(office: Office, changes: dict[str, Any], told: bool) -> None:
    """By type, priority, score and organisation; the alert is HIGH, 0.7, of acme."""
    office.keep(whom(), rule(("email", "rc_ann"), **changes))
    office.run(office.arrive)
    assert len(office.notes["email"].sent) == told


def test_the_first_rule_that_applies_decides_unless_it_goes_on(office: Office) -> None:
    """By position, not by when it was made; who is named twice is told once."""
    office.keep(
        whom("ann"),
        whom("bob"),
        whom("cid"),
        rule(("email", "rc_cid"), id="rr_3", position=3),
        rule(("email", "rc_bob"), ("email", "rc_ann"), id="rr_2", position=2),
        rule(("email", "rc_ann"), position=1, goes_on=True),
    )
    office.run(office.arrive)
    assert [noted.parcel.target for noted in office.notes["email"].sent] == ["rc_ann", "rc_bob"]


@pytest.mark.parametrize(
    ("hooks", "told"),
    [((), set()), (("wh_1",), {"wh_1"}), (("*",), {"wh_1", "wh_2"}), (("wh_9",), set())],
)
def test_a_rule_says_which_webhooks_are_told(office: Office, hooks: tuple[str, ...], told: set[str]) -> None:
    """None that it does not name: by its id, or all of them. Without a rule it is all."""
    for n in (1, 2):
        endpoint(office.store.engine, "https://example.org/", n)
    to: list[tuple[Route, str]] = [("webhook", hook) for hook in hooks]
    office.keep(rule(*to, types=("LIKELY_TO_SELL",)))
    office.run(office.arrive, lambda: office.arrive(type="LIKELY_TO_BUY"))
    rows = office.rows("channel", "target", "alert_id")
    first, second = (alert_id for channel, _, alert_id in rows if channel == "in_app")
    assert {target for channel, target, id_ in rows if (channel, id_) == ("webhook", first)} == told
    assert {target for channel, target, id_ in rows if (channel, id_) == ("webhook", second)} == {"wh_1", "wh_2"}


def test_a_rule_may_keep_an_alert_out_of_the_app_until_it_is_sent(office: Office) -> None:
    """Then it is PENDING until a message went out."""
    office.keep(whom(digest="daily"), rule(("email", "rc_ann"), in_app=False))
    kept: list[str] = []
    office.run(lambda: kept.append(office.arrive().id), HOUR_MS)
    found = office.store.find(kept[0])
    assert found is not None
    assert found.status == "PENDING"
    office.run(DAY_MS)
    found = office.store.find(kept[0])
    assert found is not None
    assert found.status == "DELIVERED"


def test_a_daily_digest_is_one_mail_at_their_hour_with_the_most_urgent_first(office: Office) -> None:
    """08:30 in New York, whatever the clock says here."""
    office.keep(whom(digest="daily", digest_at=510, time_zone="America/New_York"), rule(("email", "rc_ann")))
    low = lambda: office.arrive(user="low", priority="LOW", score=0.3)  # noqa: E731
    critical = lambda: office.arrive(user="critical", priority="CRITICAL", score=0.9)  # noqa: E731
    office.run(low, HOUR_MS, critical, DAY_MS)
    (noted,) = office.notes["email"].sent
    assert noted.at == NOON + 90 * 60_000  # 13:30 UTC
    mail = read(noted.parcel.body)
    assert mail["subject"] == "2 alerts: 1 CRITICAL, 1 LOW"
    text = mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert 0 < text.index("critical") < text.index("low")


def test_a_digest_says_what_was_seen_to_meanwhile(office: Office) -> None:
    """And tells of it last."""
    office.keep(whom(digest="daily"), rule(("email", "rc_ann")))

    def dismiss() -> None:
        with office.store.writing() as connection:
            (first,) = connection.execute(sa.text("SELECT id FROM alerts WHERE seq = 1")).scalars()
            alert_status.move(connection, [first], "DISMISSED", who="bob", at=1)

    critical = partial(office.arrive, user="seen", priority="CRITICAL")
    office.run(critical, partial(office.arrive, user="new", priority="LOW"), dismiss, DAY_MS)
    (noted,) = office.notes["email"].sent
    text = letter.decode(noted.parcel.body).text
    assert 0 <= text.index("likely to sell: new") < text.index("likely to sell (already dismissed): seen")


def test_in_quiet_hours_alerts_wait_for_the_morning_but_those_that_may_break_them(office: Office) -> None:
    """Noon is night in Auckland; CRITICAL comes through where the rule says so."""
    office.keep(
        whom(quiet=Quiet(22 * 60, 7 * 60), time_zone="Pacific/Auckland"), rule(("email", "rc_ann"), through_quiet=True)
    )
    office.run(office.arrive, office.arrive, lambda: office.arrive(priority="CRITICAL"), 12 * HOUR_MS)
    first, digest = office.notes["email"].sent
    assert (first.at, len(first.parcel.alerts)) == (NOON, 1)
    assert (digest.at, len(digest.parcel.alerts)) == (NOON + 6 * HOUR_MS, 2)  # 01:00 + 6 h


def test_what_is_beyond_the_daily_cap_comes_in_a_digest_of_the_next_day(office: Office) -> None:
    """Which counts as one message of that day."""
    office.keep(whom(daily_cap=2), rule(("email", "rc_ann")))
    five = [office.arrive] * 5
    office.run(*five, DAY_MS, *five, 2 * DAY_MS)
    told = [(noted.at - NOON, len(noted.parcel.alerts)) for noted in office.notes["email"].sent]
    eight = 20 * HOUR_MS
    assert told == [(0, 1), (0, 1), (eight, 3), (DAY_MS, 1), (DAY_MS + eight, 4)]


@pytest.mark.parametrize(
    ("changes", "priority", "went_ms"),
    [
        ({}, "LOW", [0, 120_000]),
        ({"quiet": Quiet(720, 1080)}, "CRITICAL", [0, 120_000]),
        ({"quiet": Quiet(721, 1080)}, "LOW", [0, 6 * HOUR_MS]),
        ({"time_zone": "Etc/GMT-12", "daily_cap": 1}, "LOW", [0, 120_000]),
    ],
)
def test_a_further_try_keeps_to_quiet_hours_too(
    office: Office, changes: dict[str, Any], priority: str, went_ms: list[int]
) -> None:
    """A failure at noon is tried again after quiet hours that began then, unless it may break them."""
    office.keep(whom(**changes), rule(("email", "rc_ann"), through_quiet=True))
    office.notes["email"].fails = 1.0
    office.notes["email"].schedule = (120.0,)
    office.run(lambda: office.arrive(priority=priority), DAY_MS)
    went = [noted.at - NOON for noted in office.notes["email"].tried]
    assert went == pytest.approx(went_ms, abs=12_000)


def test_a_further_try_on_another_day_counts_there(office: Office) -> None:
    """With the day's one message gone, the next has to wait, whichever was first."""
    office.keep(whom(daily_cap=1), rule(("email", "rc_ann")))
    office.notes["email"].fails = 1.0
    office.notes["email"].schedule = (13 * 3600.0,)
    office.run(office.arrive, office.arrive, 3 * DAY_MS)
    days = [(noted.at - NOON + DAY_MS // 2) // DAY_MS for noted in office.notes["email"].sent]
    assert len(days) == len(set(days)) == 2


def test_alerts_that_come_together_share_a_digest_and_its_place_in_the_day(office: Office) -> None:
    """Planned in one transaction, in which nothing of the digest is written yet."""
    office.keep(whom(daily_cap=2, quiet=Quiet(11 * 60, 13 * 60)), rule(("email", "rc_ann")))
    office.run(lambda: [office.arrive() for _ in range(3)], HOUR_MS, office.arrive)
    assert [len(noted.parcel.alerts) for noted in office.notes["email"].sent] == [3, 1]


def test_an_alert_that_cannot_be_planned_makes_a_digest_count_no_more(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then each is planned for itself; what they share is one message of the day."""
    office.keep(whom(daily_cap=2, quiet=Quiet(11 * 60, 13 * 60)), rule(("email", "rc_ann")))
    plan = office.delivery.outbox.plan
    deliveries = plan.deliveries

    def picky(connection: sa.Connection, new: Sequence[Stored], now_ms: int) -> list[NewDelivery]:
        if any(one.alert.user == "evil" for one in new):
            raise ValueError("not this one")
        return deliveries(connection, new, now_ms)

    monkeypatch.setattr(plan, "deliveries", picky)
    office.run(lambda: [office.arrive(user=user) for user in ("a", "b", "evil")], HOUR_MS, office.arrive)
    assert [len(noted.parcel.alerts) for noted in office.notes["email"].sent] == [2, 1]


def test_a_digest_that_is_sent_again_says_what_it_said(office: Office) -> None:
    """Whatever was changed since."""
    office.keep(whom(digest="hourly"), rule(("email", "rc_ann")))

    def rename() -> None:
        with office.store.writing() as connection:
            recipients.change(connection, "acme", "rc_ann", lambda one: msgspec.structs.replace(one, name="Anna"))

    async def walk() -> None:
        await office.settle()
        office.now += HOUR_MS
        await office.crash()
        rename()
        await office.settle()
        await office.delivery.stop(0)

    office.arrive()
    asyncio.run(walk())
    first, second = office.notes["email"].sent
    assert first.parcel == second.parcel


def test_an_sms_and_a_chat_message_say_it_in_few_words(office: Office) -> None:
    """To each of a person's addresses once."""
    office.keep(whom(sms=("sms://1",), chat=("slack://a", "slack://b")), rule(("sms", "rc_ann"), ("chat", "rc_ann")))
    office.run(lambda: office.arrive(user="x" * 500, reasons=["r" * 600]))
    (sms,) = office.notes["sms"].sent
    assert len(sms.parcel.body) < 350
    assert b"likely to sell" in sms.parcel.body
    assert b"slack" not in sms.parcel.body
    assert len({noted.parcel.target for noted in office.notes["chat"].sent}) == 2


@pytest.mark.parametrize("evil", ["@everyone", "<!channel>", "<@U123>", "@here"])
def test_no_id_rings_at_a_whole_chat(office: Office, evil: str) -> None:
    """A person may call themselves anything."""
    office.keep(whom(chat=("slack://a",)), rule(("chat", "rc_ann")))
    office.run(lambda: office.arrive(user=evil, reasons=[evil]))
    (noted,) = office.notes["chat"].sent
    assert evil not in noted.parcel.body.decode()
    assert noted.parcel.body.decode().count("\u200b") == 2


def test_who_unsubscribed_is_told_nothing_more_not_even_what_waits(office: Office) -> None:
    """The digest that was to come is dead, and visibly so."""
    office.keep(whom(digest="hourly"), rule(("email", "rc_ann")))

    def leave() -> None:
        off = lambda one: msgspec.structs.replace(one, unsubscribed=("email",))  # noqa: E731
        with office.store.writing() as connection:
            recipients.change(connection, "acme", "rc_ann", off)

    office.run(office.arrive, leave, office.arrive, 2 * HOUR_MS)
    assert office.notes["email"].sent == []
    assert Counter(office.rows("channel", "state")) == {
        ("in_app", "DONE"): 2,
        ("email", "DEAD"): 1,
        ("email", "FOLDED"): 1,
    }


def test_an_alert_that_nobody_could_be_told_of_is_in_the_app(office: Office) -> None:
    """Whatever the rule says: it would be lost."""
    office.keep(whom(unsubscribed=("email",)), rule(("email", "rc_ann"), in_app=False))
    office.run(office.arrive)
    assert office.rows("channel", "state") == [("in_app", "DONE")]


people = st.builds(
    whom,
    st.sampled_from(["ann", "bob"]),
    time_zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]),
    quiet=st.none() | st.builds(Quiet, st.integers(0, 719), st.integers(720, 1439)) | st.just(Quiet(1320, 420)),
    daily_cap=st.none() | st.integers(1, 3),
    digest=st.sampled_from(["at_once", "hourly", "daily"]),
    chat=st.sampled_from([(), ("slack://a",)]),
)
happenings = st.lists(
    st.sampled_from(["CRITICAL", "HIGH", "LOW"]) | st.integers(1, 20).map(lambda half: half * HOUR_MS // 2),
    min_size=1,
    max_size=14,
)


@contextmanager
def opened() -> Iterator[Office]:
    """One for each of many examples, in memory where there is such a place."""
    home = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    office = Office(home)
    try:
        yield office
    finally:
        office.close()
        shutil.rmtree(home)


def told(office: Office, happens: list[str | int], people: dict[str, Recipient], *, through: bool) -> None:
    """Everybody by mail and chat, of all that happens, until all is told."""
    channels: tuple[Route, ...] = ("email", "chat")
    office.keep(*people.values(), rule(*((c, id_) for id_ in people for c in channels), through_quiet=through))
    office.run(*(step if isinstance(step, int) else partial(office.arrive, priority=step) for step in happens))
    office.run(20 * DAY_MS)


def sent(office: Office, person: Recipient) -> list[Noted]:
    targets = {*person.targets("email"), *person.targets("chat")}
    return [noted for notes in office.notes.values() for noted in notes.sent if noted.parcel.target in targets]


def expected(office: Office, person: Recipient) -> set[tuple[str, str]]:
    targets = [*person.targets("email"), *person.targets("chat")]
    return {(target, id_) for target in targets for (id_,) in office.rows("alert_id") if id_}


@settings(max_examples=25, deadline=None)
@given(people, people, happenings, st.booleans(), st.sampled_from([0.0, 0.5]))
def test_each_is_told_of_each_alert_once_and_never_when_they_do_not_want_to_be(
    one: Recipient, two: Recipient, happens: list[str | int], through: bool, fails: float
) -> None:
    """Of each alert by each address, alone or in a digest; within their days' caps and outside of their nights.

    Also where it does not arrive at first.
    """
    everybody = {person.id: person for person in (one, two)}
    with opened() as office:
        for notes in office.notes.values():
            notes.fails = fails
        told(office, happens, everybody, through=through)
        for person in everybody.values():
            messages = sent(office, person)
            got = Counter((n.parcel.target, id_) for n in messages for id_ in n.parcel.alerts)
            assert got == dict.fromkeys(expected(office, person), 1)
            days = Counter(day_of(n.at, person.zone) for n in messages)
            assert person.daily_cap is None or max(days.values(), default=0) <= person.daily_cap
            targets = {n.parcel.target for n in messages}
            tried = [n for notes in office.notes.values() for n in notes.tried if n.parcel.target in targets]
            quiet = [n for n in tried if person.quiet and quiet_until(n.at, person.quiet, person.zone)]
            assert all(through and len(n.parcel.alerts) == 1 for n in quiet)


@settings(max_examples=15, deadline=None)
@given(people, st.lists(st.sampled_from(["CRITICAL", "LOW", CRASH]) | st.just(3 * HOUR_MS), min_size=1, max_size=14))
def test_whenever_it_is_killed_nothing_is_lost_and_what_is_sent_again_is_the_same(
    person: Recipient, happens: list[str | int]
) -> None:
    """Also a digest that was sent and not yet written down."""
    with opened() as office:
        told(office, happens, {person.id: person}, through=False)
        messages = sent(office, person)
        assert {(n.parcel.target, id_) for n in messages for id_ in n.parcel.alerts} == expected(office, person)
        bodies = {(n.parcel.id, n.parcel.body) for n in messages}
        assert len(bodies) == len({id_ for id_, _ in bodies})
