"""The learner: outcomes meet the scores that they are of; each is learned once, in one order, whatever is killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import redis
import sqlalchemy as sa

from feature_repo import keys
from feature_repo.settings import Settings
from feature_repo.vocabulary import Vocabulary
from flows import alert_outcomes, alert_status, learning_known, learning_lake, learning_reader, outcome_events
from flows.alert_store import AlertStore, alerts, open_alerts
from flows.database import metadata
from flows.learners.example import Kind, Place
from flows.learning import Learning, made
from flows.learning_rows import GRACE
from flows.learning_store import TakenOver
from flows.learning_tables import aside, examples, journal
from flows.outcome_events import OutcomeEvent
from flows.predictions import Head, Predictions, Words, encode
from flows.state import Layouts, identity, key
from flows.store import create
from onnx_models.calibrations import applied
from onnx_models.library import Library
from tests.flows import made_samples
from tests.flows import streams_made as made_streams
from tests.flows.ground import ACCESS, PLAN, Ground, event
from tests.flows.made_models import VERSION, logistic
from tests.flows.made_outcomes import DAY, SELL, START, WATCHED, Watched, alert, judge, tell
from tests.flows.sql_stores import POSTGRESQL, needs_postgresql

VOCABULARY = Vocabulary()
HERE = Place(SELL.name, VERSION, "org")


class Home:
    """A store with one model, its alerts in SQL, and the learners over it."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self.client, self.settings = client, settings
        self.store = create(client, settings)
        self.alerts: AlertStore = open_alerts(settings)
        self.library = Library.of(settings)
        self.now = START + DAY
        self.lives: list[Learning] = []

    def learning(self, kinds: tuple[Kind, ...] = WATCHED, most: int = 1000) -> Learning:
        """A life of the process."""
        learning = made(self.settings, VOCABULARY, self.client, kinds)
        learning.reader._now = lambda: self.now
        learning.reader.most = most
        self.lives.append(learning)
        learning.begin()
        return learning

    def close(self) -> None:
        for learning in self.lives:
            learning.store.engine.dispose()
        metadata.drop_all(self.alerts.engine)
        self.alerts.close()

    def learn(self, learning: Learning | None = None) -> Watched:
        """All that there is; what the organisation's learner was told."""
        learning = learning or self.learning()
        while step(learning):
            pass
        learning.keep()
        return watched(learning)

    def happened(self, user: str, ts: int, event: str = "home_listed", partition: int = 0) -> None:
        told = [OutcomeEvent(f"org/{user}", event, ts, ts)]
        id_ = f"{self.now}-*"
        self.client.xadd(keys.outcomes(partition), {"n": 1, "o": msgspec.json.encode(told)}, id=id_)

    def rows(self, table: sa.Table) -> list[Any]:
        with self.alerts.engine.connect() as connection:
            return list(connection.execute(sa.select(table)).mappings())

    def set_aside(self) -> dict[tuple[str, str], int]:
        return {(row["reason"], row["source"]): row["count"] for row in self.rows(aside)}


def step(learning: Learning, until: str = "write") -> bool:
    """One round by hand, as far as the step `until`."""
    learning.reader._retry = 0.0
    found = learning.reader.round()
    if found is None:
        return False
    done = learning.learn(learning.join(found))
    if until == "write":
        learning._write(done.round, done.batch)
    return True


def watched(learning: Learning, place: Place = HERE) -> Watched:
    found = learning.learned._learners.get(("watched", place))
    assert found is None or isinstance(found, Watched)
    return found or Watched(place)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=needs_postgresql)])
def home(
    request: pytest.FixtureRequest,
    client: redis.Redis,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Home]:
    """Over each database."""
    monkeypatch.setenv("TELLTALE_HOME", str(settings.home))  # where forests lie
    logistic(tmp_path / "shipped", SELL, "session_count_30d", 1.0, 2.0, 0.5)
    url = POSTGRESQL if request.param == "postgresql" else ""
    made_ = Home(client, msgspec.structs.replace(settings, models=str(tmp_path / "shipped"), database_url=url))
    yield made_
    made_.close()


def test_what_was_judged_is_learned_once(home: Home) -> None:
    """In the order in which it was told; what was said first is what the learner knew then."""
    one, two = alert(1, START), alert(2, START + 1)
    home.alerts.insert([one, two])
    judge(home.alerts, two.id, START + 5, came=True)
    judge(home.alerts, one.id, START + 6, came=False)
    told = [(two.id, 0, 1, None, 0.0), (one.id, 0, 0, None, 0.0)]
    assert home.learn().told == told
    assert home.learn().told == told


def test_a_score_is_learned_as_it_was_served(home: Home) -> None:
    """Its features, and what the version itself said before an online calibration."""
    home.library.calibrate(SELL.name, VERSION, "org", (1.5, -0.5), "me", "")
    score = float(applied(np.array([0.4], np.float32), 1.5, -0.5)[0])
    one = alert(3, START, score, calibration=1)
    home.alerts.insert([one])
    judge(home.alerts, one.id, START + 5, came=True)
    found = []

    class Keeps(Watched):
        def learn(self, example: Any) -> None:
            found.append(example)

    home.learn(home.learning((Kind("keeps", "model", Keeps),)))
    (example,) = found
    assert example.raw == pytest.approx(0.4, abs=1e-6)
    assert (example.score, example.calibration, example.source) == (score, 1, "alert")
    assert (example.features, example.names) == (tuple(one.features), SELL.features)
    assert (example.withheld, example.label_at) == (one.withheld, START + 5)


def test_nothing_that_came_about_is_learned_at_the_horizons_end(home: Home) -> None:
    """Not before: events come late."""
    home.alerts.insert([alert(1, START)])
    end = START + 90 * DAY
    home.now = end + GRACE - 1
    assert home.learn().told == []
    home.now += 1
    assert home.learn().told == [(alert(1, START).id, 0, 0, None, 0.0)]
    assert [row["label_at"] for row in home.rows(journal)] == [end]


@pytest.mark.parametrize(("said", "learned"), [(START + DAY, 0), (START + 400 * DAY, 1)])
def test_somebody_who_was_identified_meanwhile_did_nothing_under_the_old_name(
    home: Home, said: int, learned: int
) -> None:
    """What they did is told of the user, so the horizon's end says nothing of the anonymous score."""
    name = "org/anon:x"
    home.alerts.insert([msgspec.structs.replace(alert(1, START), user="anon:x")])
    state = Layouts(PLAN, home.client).cold(f"{name}\0org/u1\0{said}".encode(), b"")
    home.client.set(key(keys.COLD, identity(home.store, name.encode())), state)
    home.now = START + 200 * DAY
    assert len(home.learn().told) == learned
    assert home.set_aside() == ({} if learned else {("identified", "alert"): 1})
    assert [row["due"] for row in home.rows(examples)] == [None]


def test_an_event_is_the_label_of_scores_before_it(home: Home) -> None:
    """Of that person and that model, within the horizon."""
    home.alerts.insert([alert(1, START), alert(2, START + 1), alert(1, START + 50 * DAY)])
    home.now = START + 40 * DAY
    home.happened("u1", START + 40 * DAY)
    home.happened("u1", START + 40 * DAY, event="home_bought")
    home.happened("u2", START + 91 * DAY)
    home.happened("nobody", START)
    assert home.learn().told == [(alert(1, START).id, 0, 1, None, 0.0)]
    assert home.set_aside() == {("nobody", "event"): 2}
    assert sum(home.client.xlen(keys.outcomes(p)) for p in range(4)) == 0


def test_a_correction_is_a_compensating_record(home: Home) -> None:
    """It says what was learned before; the same again, or what comes about after a 0, is handled likewise."""
    one = alert(1, START)
    home.alerts.insert([one])
    judge(home.alerts, one.id, START + 5, came=True)
    judge(home.alerts, one.id, START + 6, came=False)
    home.learn()
    home.happened("u1", START + 7)
    told = [(one.id, 0, 1, None, 0.0), (one.id, 1, 0, 1, 0.0), (one.id, 2, 1, 0, 0.0)]
    assert home.learn().told == told
    assert [(row["revision"], row["why"]) for row in home.rows(journal)] == [(0, "told"), (1, "told"), (2, "event")]


def test_what_cannot_be_is_set_aside_and_counted(home: Home) -> None:
    """Unknown, of the wrong type, before the score, contradictory, unreadable: never learned."""
    one = alert(1, START)
    home.alerts.insert([one])
    home.happened("u1", START + 2)
    home.learn()
    judge(home.alerts, one.id, START + 5, came=False)
    with home.alerts.engine.begin() as connection:
        told = connection.execute(sa.select(alert_outcomes.outcomes)).mappings().one()
        for changes in ({"alert_id": "al_unknown"}, {"organisation": "other"}, {"at": START - 1}):
            row = {name: value for name, value in told.items() if name != "seq"}
            connection.execute(alert_outcomes.outcomes.insert(), row | changes)
    home.client.xadd(keys.outcomes(1), {"n": 1, "o": b"{"}, id=f"{home.now}-*")
    assert len(home.learn().told) == 1
    assert home.set_aside() == {
        ("contradiction", "alert"): 1,
        ("unknown", "alert"): 2,
        ("before the score", "alert"): 1,
        ("unreadable", "event"): 1,
    }


def test_an_erased_alert_is_not_learned(home: Home) -> None:
    """Nor what was told of it."""
    one = alert(1, START)
    home.alerts.insert([one])
    judge(home.alerts, one.id, START + 5, came=True)
    with home.alerts.engine.begin() as connection:
        connection.execute(alerts.delete())
    assert home.learn().told == []
    assert home.set_aside() == {("unknown", "alert"): 1}


def test_erased_alerts_do_not_hold_up_the_others_horizons(home: Home) -> None:
    """They are counted, once."""
    home.alerts.insert([alert(n, START + n) for n in range(3)])
    home.learn()
    with home.alerts.engine.begin() as connection:
        connection.execute(alerts.delete().where(alerts.c.user != "u2"))
    home.now = START + 100 * DAY
    learning = home.learning(most=2)
    assert home.learn(learning).told == [(alert(2, START + 2).id, 0, 0, None, 0.0)]
    assert home.set_aside() == {("unknown", "alert"): 2}
    assert learning.reader.round() is None


def answered(home: Home, *ids: str, calibration: int = 0, probability: float = 0.3) -> None:
    """As the doors of scores write them down, on their way to the lake."""
    n, k = len(ids), len(SELL.features)
    scores = np.full((4, n), probability, np.float32)
    words = Words(list(ids), ["main"] * n, ["ann"] * n, [calibration] * n)
    inputs = np.arange(n * k, dtype=np.float32).reshape(n, k)
    head = Head(SELL.name, VERSION, "", "user", SELL.features)
    rows = Predictions(head, words, np.full(n, START), scores, inputs, np.zeros((n, k), bool))
    fields: Any = encode(rows)
    home.client.execute_command("XADD", keys.PREDICTIONS, "*", *fields)


def test_a_prediction_is_learned_when_its_outcome_is_told(home: Home) -> None:
    """With the inputs that the log of predictions kept."""
    answered(home, "p1", "p2")
    tell(home.alerts.engine, "p2", 1, START, START + 5)
    tell(home.alerts.engine, "p1", 2, START, START + 6)
    learning = home.learning()
    home.learn(learning)
    assert watched(learning, Place(SELL.name, VERSION, "main")).told == [("p2", 0, 1, None, 0.0)]
    assert home.set_aside() == {("wrong type", "prediction"): 1}


def test_an_outcome_waits_for_a_log_that_lags(home: Home) -> None:
    """Also over a kill, and what is told of the same prediction later waits behind it."""
    tell(home.alerts.engine, "p1", 1, START, START + 5)
    home.learn()
    tell(home.alerts.engine, "p1", 0, START, START + 6)
    home.learn()
    answered(home, "p1")
    learning = home.learning()
    home.learn(learning)
    told = [("p1", 0, 1, None, 0.0), ("p1", 1, 0, 1, 0.0)]
    assert watched(learning, Place(SELL.name, VERSION, "main")).told == told
    assert home.learning().reader._waiting == {}


def test_a_prediction_that_nobody_has_is_given_up(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten minutes; what there is no room to wait for at once."""
    tell(home.alerts.engine, "p1", 1, START, START + 5)
    home.learn()
    monkeypatch.setattr(learning_reader, "WAITING", 1)
    tell(home.alerts.engine, "p2", 1, START, START + 6)
    home.learn()
    monkeypatch.setattr(learning_reader, "PATIENCE_MS", -1)
    home.learn()
    assert home.set_aside() == {("no room", "prediction"): 1, ("no features", "prediction"): 1}


def test_people_who_were_never_alerted_are_sampled(home: Home, client: redis.Redis) -> None:
    """Each one's score of every seventh day, of one model in turn, as the engine served it; so both labels come."""
    ground = Ground(client, msgspec.structs.replace(home.settings, lake_features=1.0))
    engine = ground.engine(models={SELL.name: Library.of(home.settings).load(SELL.name, VERSION)})
    listed = VOCABULARY.code["home_listed", None]
    for day in range(28):
        ground.post(*(event(f"s{n}", START + day * DAY + n, day * 10 + n, ACCESS) for n in range(5)))
        made_streams.drain(engine)
    ground.post(event("s0", START + 27 * DAY + 3_600_000, 999, listed))
    made_streams.drain(engine)
    made_streams.kill(engine)
    learning = home.learning()
    learning.reader._now = lambda: START + DAY  # it begins with the day before
    home.learn(learning)
    home.now = START + 200 * DAY
    found = home.learn().told
    assert {id_.rpartition("_")[0] for id_, *_ in found} == {
        f"sm_{identity(ground.store, f'org/s{n}'.encode()):016x}" for n in range(5)
    }
    assert sorted(told[2] for told in found) == [0, 0, 0, 0, 1]
    rows = {row["user"]: row for row in home.rows(examples)}
    assert (rows["s0"]["label"], rows["s0"]["why"], rows["s1"]["why"]) == (1, "event", "horizon")
    assert {row["source"] for row in rows.values()} == {"sample"}


def test_all_of_one_flush_are_sampled(home: Home) -> None:
    """Also where a round ends among them, and no look takes more than a round does."""
    users = made_samples.sampled(home.store, START, 12)
    whose = {user: START + 12 - n for n, user in enumerate(users)}
    made_samples.flush(home.client, home.store, VOCABULARY, START + 1000, whose)
    learning = home.learning(most=1)
    step(learning)
    assert max(map(len, learning.reader._sampling._found.values())) == 1
    home.learn(learning)
    assert sorted(row["user"] for row in home.rows(examples)) == sorted(users)


def test_an_event_waits_until_people_were_looked_for(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was sampled since the last look did not come to nothing."""
    learning = home.learning()
    home.learn(learning)
    users = made_samples.sampled(home.store, START, 12)
    made_samples.flush(home.client, home.store, VOCABULARY, home.now, dict.fromkeys(users, START))
    for user in users:
        home.happened(user, START + 1)
    home.learn(learning)
    assert home.set_aside() == {}
    monkeypatch.setattr(learning_lake, "SOON_S", 0.0)
    monkeypatch.setattr(learning_lake, "SHARE", float("inf"))
    home.learn(learning)
    home.learn(learning)
    assert {row["why"] for row in home.rows(examples) if row["model"] == SELL.name} == {"event"}


def test_looks_that_take_long_are_rarer(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever waits for the next."""
    monkeypatch.setattr(learning_lake, "SOON_S", 0.0)
    sampling = home.learning().reader._sampling
    sampling.look({0: learning_lake.Place(0)}, 1)
    sampling._took = 0.0
    assert sampling.is_due({}, soon=True)
    sampling._took = 1.0
    assert not sampling.is_due({}, soon=True)


def test_an_event_waits_for_alerts_told_before_it(home: Home) -> None:
    """Until they are in SQL; not for later ones."""
    entry: Any = home.client.xadd(keys.ALERTS, {"a": b""})
    home.happened("u1", START + 1)
    learning = home.learning()
    home.learn(learning)
    assert home.set_aside() == {}
    home.alerts.insert([alert(1, START)])
    home.client.xadd(keys.ALERTS, {"a": b""})
    home.client.xdel(keys.ALERTS, entry)
    assert home.learn(learning).told == [(alert(1, START).id, 0, 1, None, 0.0)]


def test_an_event_waits_no_more_for_alerts_that_nobody_takes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten minutes."""
    home.client.xadd(keys.ALERTS, {"a": b""})
    home.happened("u1", START + 1)
    learning = home.learning()
    home.learn(learning)
    monkeypatch.setattr(learning_known, "PATIENCE_S", -1.0)
    home.learn(learning)
    assert home.set_aside() == {("nobody", "event"): 1}


def test_what_should_hold_is_published_and_withdrawn(home: Home) -> None:
    """After it is committed; whoever was killed in between tells it when it begins again."""
    for n in range(3):
        home.alerts.insert([alert(n, START + n)])
        judge(home.alerts, alert(n, START + n).id, START + 10 + n, came=n > 0)
    learning = home.learning()
    learning.publish = lambda: None  # type: ignore[method-assign]  # killed before
    home.learn(learning)
    assert home.library.calibrations(SELL.name).changes == ()
    home.learning()
    (held,) = home.library.calibrations(SELL.name).holding(VERSION).values()
    assert (held.organisation, held.a, held.b, held.who, held.why) == ("org", 1.0, 0.667, "learning", "as told")
    again = home.learning()
    again.learned._learners["watched", HERE] = Watched(HERE)
    again.publish()
    assert home.library.calibrations(SELL.name).holding(VERSION) == {}


def test_whoever_was_taken_over_writes_no_more(home: Home) -> None:
    """A learner that stalled changes nothing when it wakes."""
    first = home.learning()
    home.alerts.insert([alert(1, START)])
    judge(home.alerts, alert(1, START).id, START + 5, came=True)
    second = home.learning()
    with pytest.raises(TakenOver, match="another learner took over"):
        step(first)
    assert len(home.learn(second).told) == 1


def test_a_new_learner_learns_what_the_journal_holds(home: Home) -> None:
    """As does one whose state cannot be read any more."""
    for n in range(4):
        home.alerts.insert([alert(n, START + n)])
        judge(home.alerts, alert(n, START + n).id, START + 10 + n, came=n > 1)
    expected = [told[:4] for told in home.learn().told]

    class Newer(Watched):
        def restore(self, state: bytes) -> None:
            raise ValueError("expected format 2")

    found = home.learning((Kind("watched", "organisation", Newer), Kind("fresh", "model", Watched)))
    assert [told[:4] for told in watched(found).told] == expected
    fresh = found.learned._learners["fresh", Place(SELL.name)]
    assert isinstance(fresh, Watched)
    assert [told[:4] for told in fresh.told] == expected


def lived(home: Home, rng: np.random.Generator, n: int) -> None:
    """Months of alerts and predictions; outcomes told early, late, twice, corrected; events in all partitions."""
    for i in range(n):
        at = START + int(rng.integers(0, 120)) * DAY + i
        one = alert(int(rng.integers(n // 4)), at)
        home.alerts.insert([one])
        for _ in range(int(rng.integers(0, 3))):
            judge(home.alerts, one.id, at + int(rng.integers(1, 100)) * DAY, came=bool(rng.random() < 0.3))
        if rng.random() < 0.5:
            home.now = max(home.now, at)
            home.happened(f"u{rng.integers(n // 4)}", at + int(rng.integers(60)) * DAY, partition=int(rng.integers(4)))
        if rng.random() < 0.3:
            answered(home, f"p{i}")
            tell(home.alerts.engine, f"p{i}", int(rng.random() < 0.5), START, at + DAY)
    for i in range(3):
        at = START + i * 40 * DAY + 50_000_000
        whose = {user: at - int(rng.integers(1000)) for user in made_samples.sampled(home.store, at, 8)}
        for later in (0, 1000):
            told = {user: then + later for user, then in whose.items()}
            made_samples.flush(home.client, home.store, VOCABULARY, at + later, told)
    home.now = START + 400 * DAY


def forgotten(home: Home) -> None:
    """As if nobody had learned yet."""
    with home.alerts.engine.begin() as connection:
        for name in ("state", "examples", "journal", "learners", "aside", "waiting", "inputs"):
            connection.execute(sa.text(f"DELETE FROM learning_{name}"))


def known(home: Home) -> Any:
    """All that was learned, in its order, and what the learners made of it."""
    lines = [tuple(row.values()) for row in home.rows(journal)]
    seen = sorted((row["id"], row["label"], row["predicted"]) for row in home.rows(examples))
    states = {key: learner.state() for key, learner in home.learning().learned._learners.items()}
    return lines, seen, states, home.set_aside()


@pytest.mark.parametrize("seed", range(3))
def test_the_same_is_learned_however_it_is_cut_and_whatever_is_killed(
    home: Home, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few items a round or all at once, killed before and after any commit."""
    monkeypatch.setattr(learning_reader, "DAY", 500 * DAY)  # samples of all the time
    rng = np.random.default_rng(seed)
    lived(home, rng, 60)
    monkeypatch.setattr("flows.learning_sources.OutcomeEvents.learned", lambda self, place: None)  # to learn it again
    home.learn()
    whole = known(home)
    assert len(whole[0]) > 60
    assert sum(row["source"] == "sample" for row in home.rows(examples)) == 24
    forgotten(home)
    learning = home.learning(most=3)
    going = True
    while going:
        learning.reader.most = int(rng.integers(1, 9))
        match rng.choice(["go on", "go on", "go on", "keep", "killed before", "killed after"]):
            case "keep":
                learning.keep()
            case "killed before":
                step(learning, until="learn")
                learning = home.learning()
            case "killed after":
                going = step(learning)
                learning = home.learning()
            case _:
                going = step(learning)
    assert known(home) == whole


def test_the_order_is_by_time_then_source_then_place(home: Home) -> None:
    """Also between sources, and also where one of them has far more to tell than the other."""
    rows = [alert(n, START + n) for n in range(12)]
    home.alerts.insert(rows)
    for n, one in enumerate(rows):
        if n % 4 == 0:
            home.client.xadd(
                keys.outcomes(n % 3),
                {"n": 1, "o": msgspec.json.encode([OutcomeEvent(f"org/u{n}", "home_listed", START + 500, 0)])},
                id=f"{START + 1000 + n}-0",
            )
        else:
            judge(home.alerts, one.id, START + 1000 + n, came=True)
    learning = home.learning(most=2)
    assert [told[0] for told in home.learn(learning).told] == [one.id for one in rows]
    assert outcome_events.MOST > 0


def test_a_clock_that_is_ahead_hides_nothing(home: Home) -> None:
    """What was told a moment before it, by a clock that is right, is learned before it."""
    one, two = alert(1, START), alert(2, START + 1)
    home.alerts.insert([one, two])
    learning = home.learning()
    learning.reader._wall = True
    judge(home.alerts, one.id, home.now - 1, came=True)
    judge(home.alerts, two.id, home.now + 3_600_000, came=False)
    home.learn(learning)
    home.now += 10_000
    assert [told[0] for told in home.learn(learning).told] == [one.id, two.id]


def step_to(home: Home, alert_: str, *to: Any) -> None:
    for n, status in enumerate(to):
        with home.alerts.engine.begin() as connection:
            alert_status.move(connection, [alert_], status, who="ann", at=START + 10 + n)


def test_an_alert_that_was_converted_came_about(home: Home) -> None:
    """Without an outcome told, too; one that is told counts more, before or after."""
    one, two, three = (alert(n, START + n) for n in range(3))
    home.alerts.insert([one, two, three])
    for each in (one, two, three):
        step_to(home, each.id, "DELIVERED", "ACKNOWLEDGED")
    judge(home.alerts, two.id, START + 5, came=False)
    step_to(home, one.id, "CONVERTED")
    step_to(home, two.id, "CONVERTED")
    step_to(home, three.id, "CONVERTED")
    judge(home.alerts, three.id, START + 50, came=False)
    assert [told[:4] for told in home.learn().told] == [
        (two.id, 0, 0, None),
        (one.id, 0, 1, None),
        (three.id, 0, 1, None),
        (three.id, 1, 0, 1),
    ]
