"""kill -9 of the process that delivers while it mails, digests too: everybody is told, each time in the same bytes."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
import sqlalchemy as sa

from feature_repo.settings import Settings
from flows.alert_store import AlertStore
from flows.recipients import recipients
from flows.routing_rules import rules
from tests.contracts.smtp_server import GOOD, Postmaster
from tests.faults.test_kills_in_delivery import KILLS, PATIENCE, Lives
from tests.flows.delivered import POSTGRESQL, stored
from tests.flows.made_alerts import alert
from tests.flows.post_office import rule, whom
from tests.serving.reached import mail_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills processes")
REFUSED = "451 4.3.0 not now"


class Post:
    """Two people: `ann` is mailed each alert, `bob` digests."""

    def __init__(self, store: AlertStore, postmaster: Postmaster, lives: Lives) -> None:
        self.store, self.postmaster, self.lives, self.stored = store, postmaster, lives, 0
        with store.writing() as sql:
            recipients.add(sql, whom("ann"))
            recipients.add(sql, whom("bob", digest="hourly"))
            rules.add(sql, rule(("email", "rc_ann"), ("email", "rc_bob")))

    def more(self, n: int) -> None:
        self.store.insert([alert(i) for i in range(self.stored, self.stored + n)])
        self.stored += n

    def hasten(self) -> None:
        """What waits is due."""
        with self.store.writing() as sql:
            sql.execute(sa.text("UPDATE deliveries SET due_at = 0 WHERE state = 'WAITING'"))
            sql.execute(
                sa.text(
                    "INSERT INTO delivery_nudges (channel, target) "
                    "SELECT DISTINCT channel, target FROM deliveries WHERE state = 'WAITING'"
                )
            )

    def quiet(self) -> bool:
        with self.store.engine.connect() as sql:
            left = sql.execute(sa.text("SELECT count(*) FROM deliveries WHERE state IN ('WAITING', 'ACTIVE')")).scalar()
            return not left and sql.execute(sa.text("SELECT routed FROM delivery_sender")).scalar() == self.store.head()


def by_delivery(contents: Iterable[bytes]) -> dict[str, set[bytes]]:
    """Mails by the delivery that the Message-ID names."""
    found: dict[str, set[bytes]] = defaultdict(set)
    for content in contents:
        mail = message_from_bytes(content, policy=policy.default)
        found[str(mail["message-id"]).strip("<>").partition("@")[0]].add(content)
    return found


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Post]:
    with stored(tmp_path) as store, mail_server() as (postmaster, port):
        postmaster.answer_data([REFUSED if n % 5 == 0 else GOOD for n in range(5_000)])
        settings = Settings(home=tmp_path, smtp_url=f"smtp://127.0.0.1:{port}", database_url=POSTGRESQL)
        lives = Lives(settings)
        yield Post(store, postmaster, lives)
        lives.close()


def test_killed_at_any_moment(post: Post) -> None:
    """By somebody else, while mails are handed in, refused, and digests written."""
    rng = random.Random(5)
    for _ in range(max(KILLS // 2, 3)):
        post.more(rng.randrange(2, 10))
        post.hasten()
        process = post.lives.begin()
        time.sleep(rng.uniform(0.2, 0.6))
        os.kill(process, signal.SIGKILL)
        assert post.lives.ended() == -signal.SIGKILL
    process, deadline = post.lives.begin(), time.monotonic() + PATIENCE
    while not post.quiet():
        assert time.monotonic() < deadline, post.lives.log.read_text()[-2_000:]
        post.hasten()
        time.sleep(0.1)
    os.kill(process, signal.SIGTERM)
    assert post.lives.ended() == 0
    judge(post)


def judge(post: Post) -> None:
    assert all(len(bodies) == 1 for bodies in by_delivery(post.postmaster.tries).values())
    came = by_delivery(content for _, content in post.postmaster.mails)
    with post.store.engine.connect() as sql:
        rows = sql.execute(
            sa.text("SELECT id, target, alert_id, into_id, state FROM deliveries WHERE channel = 'email'")
        ).all()
    carried = {(row.target, row.alert_id): row.into_id or row.id for row in rows if row.alert_id}
    assert {row.state for row in rows} == {"DONE", "FOLDED"}
    for n in range(post.stored):
        for target in ("rc_ann", "rc_bob"):
            (content,) = came[carried[target, alert(n).id]]
            assert f"likely to sell: u{n}" in text(content).splitlines()


def text(content: bytes) -> str:
    mail = message_from_bytes(content, policy=policy.default)
    assert isinstance(mail, EmailMessage)
    part = mail.get_body(("plain",))
    assert part is not None
    return str(part.get_content())
