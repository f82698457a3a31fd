"""The core of delivery: each alert arrives at least once with the same bytes, or is in the dead list."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from flows import delivery_list, delivery_upkeep
from flows.channel import Dead, Gone, NewDelivery, Parcel, Result, Retry, Sent
from flows.delivery_list import Which
from flows.delivery_sender import HeldError, Sender, SupersededError
from flows.everywhere import Everywhere
from flows.lanes import FAILURES, FIRST_REST_MS
from flows.outbox import Outbox
from flows.webhook_channel import WebhookChannel
from tests.flows.delivered import POSTGRESQL, START, delivered, stored
from tests.flows.receivers import receivers

HOUR = 3_600_000
SPECIFIED_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)  # Standard Webhooks 1.0: between tries


class Told:
    """A channel that does what it is told, and notes what it was handed."""

    name, at_once, most = "webhook", 2, 300
    schedule: tuple[float, ...] = (5.0, 300.0)
    timeout_s: float = 0.2

    def __init__(self, *results: Result | BaseException) -> None:
        self.results, self.sent = list(results), list[Parcel]()
        self.known: set[str] | None = None

    def targets(self, connection: sa.Connection, ids: Sequence[str]) -> Mapping[str, str]:
        return {id_: id_ for id_ in ids if self.known is None or id_ in self.known}

    async def send(self, parcel: Parcel, to: str) -> Result:
        self.sent.append(parcel)
        result = self.results.pop(0) if self.results else Sent()
        if isinstance(result, BaseException):
            raise result
        return result

    def disable(self, connection: sa.Connection, target: str, gone: Gone, at: int) -> bool:
        return True


def run(test: object) -> None:
    asyncio.run(test)  # type: ignore[arg-type]  # a coroutine


def test_an_alert_is_delivered_in_the_app_and_to_each_endpoint(tmp_path: Path) -> None:
    """One row for each way, the alert DELIVERED in the app at once."""

    async def test() -> None:
        async with receivers() as ends, delivered(tmp_path) as ours:
            ours.endpoint(f"{ends.url}/a", 1)
            ours.endpoint(f"{ends.url}/b", 2)
            (made,) = ours.alerts(1)
            await ours.until_quiet()
            assert [len(ends.bodies(path)) for path in ("/a", "/b")] == [1, 1]
            assert {(one.channel, one.target, one.state) for one in ours.listed(alert=made.id)} == {
                ("in_app", "", "DONE"),
                ("webhook", "wh_1", "DONE"),
                ("webhook", "wh_2", "DONE"),
            }
            assert ours.steps(made.id) == [("DELIVERED", "in_app")]

    run(test())


def test_the_schedule_is_that_of_the_specification(tmp_path: Path) -> None:
    """Ten tries over about 75 hours, each wait within a tenth, then dead; always the same id and bytes."""

    async def test() -> None:
        async with receivers() as ends, delivered(tmp_path) as ours:
            ours.endpoint(f"{ends.url}/500")
            ours.alerts(1)
            moments = [START, *await ours.to_the_end()]
            waits = [(after - before) / 1000 for before, after in pairwise(moments)]
            assert len(waits) == len(SPECIFIED_S)
            assert all(abs(wait - told) <= told / 10 for wait, told in zip(waits, SPECIFIED_S, strict=True))
            assert waits != list(SPECIFIED_S)
            assert len({one.headers["webhook-id"] for one in ends.came}) == len(set(ends.bodies("/500"))) == 1
            (dead,) = ours.webhooks_listed()
            assert (dead.state, dead.attempts, dead.last_error) == ("DEAD", 10, "answered 500 no")
            assert [one.attempt for one in ours.tried(channel="webhook")] == list(range(1, 11))

    run(test())


def test_what_is_dead_can_be_sent_again(tmp_path: Path) -> None:
    """With all its tries before it, the same id and the same bytes."""

    async def test() -> None:
        async with receivers() as ends, delivered(tmp_path) as ours:
            ends.answers["/x"] = [b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"] * 10
            ours.endpoint(f"{ends.url}/x")
            (made,) = ours.alerts(1)
            await ours.to_the_end()
            with ours.store.engine.begin() as sql:
                assert delivery_list.retry_dead(sql, Which(organisation="other"), ours.clock.ms) == []
                found = delivery_list.retry_dead(sql, Which(organisation="acme"), ours.clock.ms)
            await ours.until_quiet()
            assert found == [one.id for one in ours.listed(alert=made.id, state="DONE", channel="webhook")]
            assert len(ends.came) == 11
            assert len(set(ends.bodies("/x"))) == 1
            assert ours.figures() == ours.counted()

    run(test())


def test_a_target_that_is_gone_is_disabled_and_what_waits_is_dead(tmp_path: Path) -> None:
    """By 410: nothing more is sent, and nothing is dropped silently."""

    async def test() -> None:
        async with receivers() as ends, delivered(tmp_path) as ours:
            ends.answers["/x"] = [b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"] * 8
            ours.endpoint(f"{ends.url}/x")
            ours.alerts(*range(15))
            await ours.until_quiet()
            assert len(ends.came) == WebhookChannel.at_once
            assert {one.state for one in ours.webhooks_listed()} == {"DEAD"}
            ours.alerts(21)
            await ours.until_quiet()
            assert len(ours.webhooks_listed()) == 15
            assert ours.figures() == ours.counted()

    run(test())


def test_an_old_address_that_is_gone_ends_nothing_at_the_new_one(tmp_path: Path) -> None:
    """The endpoint was moved while the old URL was asked: it stays, and is sent to at the new one."""

    async def test() -> None:
        async with receivers() as ends, delivered(tmp_path) as ours:
            ends.answers["/old"] = [b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"]
            ours.endpoint(f"{ends.url}/old")
            ours.alerts(1)
            await ours.turn()
            ours.endpoint(f"{ends.url}/new")
            ours.alerts(2)
            await ours.until_quiet()
            assert {one.state for one in ours.webhooks_listed()} == {"DONE"}
            assert len(ends.bodies("/new")) == 2
            assert ours.figures() == ours.counted()

    run(test())


def test_a_lane_rests_after_failures_and_nothing_burns_its_tries(tmp_path: Path) -> None:
    """While the breaker is open deliveries wait; then one asks, and its success lets all others go."""

    async def test() -> None:
        channel = Told(*[Retry("down")] * (FAILURES + 1))
        async with delivered(tmp_path, [channel]) as ours:
            ours.endpoint("https://unused.example/")
            ours.alerts(*range(20))
            await ours.until_quiet()
            failed = len(channel.sent)
            assert FAILURES <= failed < FAILURES + channel.at_once
            ours.clock.ms += FIRST_REST_MS
            await ours.turn()
            assert len(channel.sent) == failed + 1
            await ours.to_the_end()
            assert {one.state for one in ours.webhooks_listed()} == {"DONE"}
            assert sum(one.result == "RETRY" for one in ours.tried(channel="webhook")) == FAILURES + 1

    run(test())


@pytest.mark.parametrize("refused", [Dead("no"), Retry("no such record", of_one=True)])
def test_what_is_refused_alone_holds_up_no_other(tmp_path: Path, refused: Result) -> None:
    """However many are: the other side answers, so the breaker stays closed."""

    async def test() -> None:
        channel = Told(*[refused] * (2 * FAILURES))
        async with delivered(tmp_path, [channel]) as ours:
            ours.endpoint("https://unused.example/")
            ours.alerts(*range(20))
            await ours.until_quiet()
            assert len(channel.sent) == 20
            assert ours.delivery.lanes.resting() == 0

    run(test())


def test_retry_after_holds_the_whole_lane(tmp_path: Path) -> None:
    """Nothing is sent there before the time that was asked for; at most an hour."""

    async def test() -> None:
        channel = Told(Retry("busy", after_s=100.0), Retry("busy", after_s=1e9))
        channel.at_once = 1
        async with delivered(tmp_path, [channel]) as ours:
            ours.endpoint("https://unused.example/")
            ours.alerts(1, 2)
            await ours.until_quiet()
            assert ours.delivery.lanes.wakes() == START + 100_000
            ours.clock.ms += 100_000
            await ours.until_quiet()
            assert ours.delivery.lanes.wakes() == START + 100_000 + HOUR

    run(test())


def test_what_takes_too_long_and_what_fails_by_itself_is_tried_again(tmp_path: Path) -> None:
    """A time-out of the channel's own length; an exception is a fault of ours that ends nobody else's delivery."""

    async def test() -> None:
        class Slow(Told):
            async def send(self, parcel: Parcel, to: str) -> Result:
                if parcel.attempt == 1 and to == "wh_1":
                    await asyncio.sleep(60)
                return await super().send(parcel, to)

        channel = Slow(ValueError("oh"))
        async with delivered(tmp_path, [channel]) as ours:
            ours.endpoint("https://unused.example/", 1)
            ours.endpoint("https://unused.example/", 2)
            ours.alerts(1)
            await ours.to_the_end()
            assert sorted(one.said for one in ours.tried(channel="webhook")) == [
                "",
                "",
                "a fault of ours: ValueError",
                "no answer within 0.2 s",
            ]

    run(test())


def test_a_target_that_is_no_more_is_dead(tmp_path: Path) -> None:
    """It is told so, once it would be sent."""

    async def test() -> None:
        channel = Told()
        channel.known = set()
        async with delivered(tmp_path, [channel]) as ours:
            ours.endpoint("https://unused.example/")
            ours.alerts(1)
            await ours.until_quiet()
            assert [(one.state, one.last_error) for one in ours.webhooks_listed()] == [
                ("DEAD", "no such target, or it is disabled")
            ]
            assert ours.delivery.lanes.active.total() == 0
            assert ours.figures() == ours.counted()

    run(test())


def test_an_alert_that_cannot_be_planned_holds_up_no_other(tmp_path: Path) -> None:
    """It is in the dead list, with the reason."""

    class Picky(Everywhere):
        def deliveries(self, connection: sa.Connection, stored: Sequence, now_ms: int) -> list[NewDelivery]:  # type: ignore[type-arg]
            if any(one.alert.user == "u2" for one in stored):
                raise ValueError("not this one")
            return super().deliveries(connection, stored, now_ms)

    async def test() -> None:
        async with delivered(tmp_path, [Told()], Picky()) as ours:
            made = ours.alerts(1, 2, 3)
            await ours.until_quiet()
            assert [ours.steps(one.id) for one in made] == [[("DELIVERED", "in_app")], [], [("DELIVERED", "in_app")]]
            (dead,) = ours.listed(state="DEAD")
            assert (dead.alert_id, dead.last_error) == (made[1].id, "it could not be planned: ValueError: not this one")

    run(test())


def test_an_alert_that_could_not_be_planned_can_be_planned_again(tmp_path: Path) -> None:
    """Once what hindered it is mended; until then the reason stays in the dead list."""

    class Broken(Everywhere):
        whole = False

        def deliveries(self, connection: sa.Connection, stored: Sequence, now_ms: int) -> list[NewDelivery]:  # type: ignore[type-arg]
            if not self.whole:
                raise ValueError("not yet")
            return super().deliveries(connection, stored, now_ms)

    async def test() -> None:
        plan, channel = Broken(), Told()
        async with delivered(tmp_path, [channel], plan) as ours:
            ours.endpoint("https://unused.example/")
            made = ours.alerts(1, 2)
            await ours.until_quiet()
            for whole in (False, True):
                plan.whole = whole
                with ours.store.engine.begin() as sql:
                    assert len(delivery_list.retry_dead(sql, Which(), ours.clock.ms)) == 2
                await ours.until_quiet()
                dead = {one.last_error for one in ours.listed(state="DEAD")}
                assert dead == (set() if whole else {"it could not be planned: ValueError: not yet"})
            assert sorted(id_ for parcel in channel.sent for id_ in parcel.alerts) == sorted(one.id for one in made)
            assert [ours.steps(one.id)[0] for one in made] == [("DELIVERED", "in_app")] * 2
            assert ours.figures() == ours.counted()

    run(test())


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_commit_that_is_not_answered_strands_nothing(tmp_path: Path, turn: int, *, written: bool) -> None:
    """Whether it was written or not: each is sent once, and each attempt is in the log once."""

    async def test() -> None:
        channel = Told(Retry("once"))
        async with delivered(tmp_path, [channel]) as ours:
            ours.endpoint("https://unused.example/")
            ours.alerts(1, 2, 3)
            for _ in range(1, turn):
                await ours.turn()
            with lost(ours.store.engine, written=written), pytest.raises(sa.exc.OperationalError):
                await ours.turn()
            await ours.to_the_end()
            assert {one.state for one in ours.webhooks_listed()} == {"DONE"}
            assert len(channel.sent) == len(ours.tried(channel="webhook")) == 4
            assert ours.figures() == ours.counted()

    run(test())


@contextmanager
def lost(engine: sa.Engine, *, written: bool) -> Iterator[None]:
    """The server is gone before it answers a commit; `written`: it did what it was told."""
    commit, fault = engine.dialect.do_commit, engine.dialect.loaded_dbapi.OperationalError

    def gone(connection: Any) -> None:
        if written:
            commit(connection)
        raise fault("the connection is lost")

    engine.dialect.do_commit = gone  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        engine.dialect.do_commit = commit  # type: ignore[method-assign]


def test_a_withheld_alert_goes_nowhere(tmp_path: Path) -> None:
    """Not even into the app."""

    async def test() -> None:
        async with delivered(tmp_path, [Told()]) as ours:
            ours.endpoint("https://unused.example/")
            (made,) = ours.alerts(1, withheld=True)
            await ours.until_quiet()
            assert ours.listed() == []
            assert ours.steps(made.id) == []

    run(test())


def test_a_digest_is_made_when_it_is_due_and_then_stays_as_it_is(tmp_path: Path) -> None:
    """All that was folded into it is in it, also what came later; tried again it is the same; then all is DELIVERED."""
    made: list[str] = []

    class Folding(Everywhere):
        def deliveries(self, connection: sa.Connection, stored: Sequence, now_ms: int) -> list[NewDelivery]:  # type: ignore[type-arg]
            whom: dict[str, Any] = {"organisation": "acme", "channel": "webhook", "target": "wh_1"}
            digest = NewDelivery(**whom, of="digest 1", body=None, due_at=START + HOUR)
            folded = [NewDelivery(**whom, of=one.alert.id, alert=one.alert.id, into=digest.id) for one in stored]
            return [digest, *folded]

        def body(self, connection: sa.Connection, parcel: Parcel) -> bytes:
            made.append(" ".join(parcel.alerts))
            return f"{len(made)} {made[-1]}".encode()

    async def test() -> None:
        channel = Told(Retry("later"))
        async with delivered(tmp_path, [channel], Folding()) as ours:
            told = ours.alerts(1, 2)
            await ours.until_quiet()
            told += ours.alerts(3)
            assert await ours.to_the_end() != []
            assert [parcel.body.decode().split() for parcel in channel.sent] == [["1", *(one.id for one in told)]] * 2
            assert [ours.steps(one.id) for one in told] == [[("DELIVERED", "webhook")]] * 3
            assert ours.figures() == ours.counted()

    run(test())


def test_a_delivery_held_back_for_longer_than_it_would_be_tried_is_dead(tmp_path: Path) -> None:
    """An endpoint that is down for good does not collect for ever."""

    async def test() -> None:
        channel = Told(*[Retry("down")] * 1_000)
        async with delivered(tmp_path, [channel]) as ours:
            ours.endpoint("https://unused.example/")
            ours.alerts(*range(10))
            await ours.until_quiet()
            assert delivery_upkeep.expire(ours.store.engine, START + HOUR) == 0
            assert delivery_upkeep.expire(ours.store.engine, START + 3 * HOUR) == 10
            assert {one.state for one in ours.webhooks_listed()} == {"DEAD"}
            assert ours.figures() == ours.counted()

    run(test())


def test_what_ended_long_ago_is_forgotten(tmp_path: Path) -> None:
    """With its attempts and bodies; what waits, and what is recent, stays."""

    async def test() -> None:
        channel = Told(Sent(), Dead("no"), Retry("later"))
        channel.at_once = 1
        async with delivered(tmp_path, [channel]) as ours:
            ours.endpoint("https://unused.example/")
            ours.alerts(1, 2, 3)
            await ours.until_quiet()
            assert delivery_upkeep.forget(ours.store.engine, START) == 0
            assert delivery_upkeep.forget(ours.store.engine, START + 1) == 5
            assert [one.state for one in ours.listed()] == ["WAITING"]
            with ours.store.engine.connect() as sql:
                assert sql.execute(sa.text("SELECT count(*) FROM delivery_bodies")).scalar() == 1
            assert (ours.figures().dead, ours.figures().done) == (0, 4)

    run(test())


def test_another_sender_takes_over_and_fences_the_first_out(tmp_path: Path) -> None:
    """After the lease, or at once if it is the same one come again; what the first has still to say does not count."""

    async def test() -> None:
        async with delivered(tmp_path, [Told()]) as ours:
            with stored(tmp_path) as store:
                other = Outbox(store.engine, Everywhere(), {}, Sender("another"))
                with pytest.raises(HeldError, match="test sends"):
                    other.begin(START + 14_999)
                other.begin(START + 15_000)
                ours.alerts(1)
                with pytest.raises(SupersededError):
                    await ours.delivery.turn()
                assert ours.listed() == []
                ours.delivery.outbox.begin(START + 60_000)
                again = Outbox(store.engine, Everywhere(), {}, Sender("test"))
                again.begin(START + 60_000)
                ours.delivery.outbox.begin(START + 60_000)

    run(test())


def test_what_was_under_way_when_a_sender_was_killed_is_sent_again(tmp_path: Path) -> None:
    """Without a try lost, and with the same bytes."""

    async def test() -> None:
        first, second = Told(*[asyncio.CancelledError()] * 2), Told()
        async with delivered(tmp_path, [first]) as ours:
            ours.endpoint("https://unused.example/")
            ours.alerts(1)
            await ours.delivery.turn()
            assert ours.figures().active == 1
            async with delivered(tmp_path, [second]) as after:
                await after.until_quiet()
                assert [one.state for one in after.webhooks_listed()] == ["DONE"]
                assert after.figures() == after.counted()
            ours.delivery.outbox.begin(START)
        assert first.sent == second.sent

    run(test())


@pytest.mark.skipif(bool(POSTGRESQL), reason="PostgreSQL lets a turn wait for its own")
def test_a_turn_that_the_database_refuses_changes_nothing(tmp_path: Path) -> None:
    """What ended meanwhile is recorded by a later one."""

    async def test() -> None:
        channel = Told()
        async with delivered(tmp_path, [channel]) as ours:
            ours.endpoint("https://unused.example/")
            ours.alerts(1)
            await ours.delivery.turn()
            await ours.delivery.settled()
            with stored(tmp_path) as store, store.engine.begin() as sql:
                sql.exec_driver_sql("BEGIN IMMEDIATE")
                with pytest.raises(sa.exc.OperationalError, match="locked"):
                    await ours.delivery.turn()
            assert ours.figures().active == 1
            await ours.until_quiet()
            assert ours.figures() == ours.counted()
            assert len(channel.sent) == ours.figures().done - 1 == 1

    run(test())
